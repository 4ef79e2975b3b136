package install

import (
	"context"
	"errors"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/source"
	"github.com/plinthdev/plinth/internal/step"
)

// fetchBundle downloads the content that a thin bundle omits and this host does not
// have, or creates it from an older bundle and a delta. It then verifies every byte of
// the bundle before the first change. Both are shown as steps.
func (o operation) fetchBundle(ctx context.Context, d source.Bundle) (*airgap.Bundle, error) {
	b := d.Bundle
	if len(b.Missing()) > 0 {
		missing, err := desired.MissingBlobs(ctx, o.Host, b)
		if err != nil {
			return nil, err
		}
		title := "Fetch the bundle"
		if b.Delta() != nil {
			title = "Make the new parts of the old ones"
		}
		err = o.runAsStep("fetch-bundle", title, b.MissingSize(), func(progress func(done, total int64)) (err error) {
			b, err = d.Fetch(ctx, o.Env, missing, progress)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	err := o.runAsStep("verify-bundle", "Verify the bundle", b.Size(), func(progress func(done, total int64)) error { return b.Verify(ctx, progress) })
	if err != nil && ctx.Err() == nil {
		err = errors.Join(err, source.DiscardFetched(o.Env))
	}
	return b, err
}

// runAsStep runs do and reports it as a step with this id and title, of total bytes.
func (o operation) runAsStep(id, title string, total int64, do func(progress func(done, total int64)) error) error {
	event := func(state step.EventState, message string, done int64) {
		o.Events(step.Event{V: 1, Time: o.Now().UTC(), Verb: "install", Step: id, State: state, Message: message, Bytes: done, Total: total, Title: title})
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
