package install

import (
	"context"
	"errors"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/internal/app/compose"
	"github.com/plinthdev/plinth/internal/app/delivery"
	"github.com/plinthdev/plinth/internal/step"
)

// bring fetches what a thin bundle leaves out and this host lacks, or makes it
// of an older bundle and a delta, and proves every byte of the bundle before the first change; both are shown as steps.
func (a job) bring(ctx context.Context, d delivery.Delivery) (*airgap.Bundle, error) {
	b := d.Bundle
	if len(b.Absent()) > 0 {
		lacking, err := compose.Lacking(ctx, a.Host, b)
		if err != nil {
			return nil, err
		}
		title := "Fetch the bundle"
		if b.Delta() != nil {
			title = "Make the new parts of the old ones"
		}
		err = a.proof("fetch-bundle", title, b.AbsentSize(), func(progress func(done, total int64)) (err error) {
			b, err = d.Fetch(ctx, a.Run, lacking, progress)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	err := a.proof("verify-bundle", "Verify the bundle", b.Size(), func(progress func(done, total int64)) error { return b.Verify(ctx, progress) })
	if err != nil && ctx.Err() == nil {
		err = errors.Join(err, delivery.Discard(a.Run))
	}
	return b, err
}

// proof shows do as a step of its own, of total bytes.
func (a job) proof(id, title string, total int64, do func(progress func(done, total int64)) error) error {
	event := func(state step.EventState, message string, done int64) {
		a.Events(step.Event{V: 1, Time: a.Now().UTC(), Verb: "install", Step: id, State: state, Message: message, Bytes: done, Total: total, Title: title})
	}
	event(step.Started, "", 0)
	err := do(func(done, of int64) {
		total = of
		event(step.Progress, "", done)
	})
	if err != nil {
		event(step.Failed, err.Error(), 0)
		return err
	}
	event(step.Finished, "", total)
	return nil
}
