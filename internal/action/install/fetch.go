package install

import (
	"context"
	"errors"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/source"
	"github.com/plinthdev/plinth/internal/step"
)

// fetchBundle downloads the content that a thin bundle omits and this host does not
// have, or creates it from an older bundle and a delta. It then verifies every byte of
// the bundle before the first change. Both are shown as steps.
func (o *operation) fetchBundle(ctx context.Context, env *action.Env) error {
	if len(o.bundle.Missing()) > 0 {
		missing, err := desired.MissingBlobs(ctx, env.Host, o.bundle)
		if err != nil {
			return err
		}
		title := "Fetch the bundle"
		if o.bundle.Delta() != nil {
			title = "Create the changed parts from the older bundle"
		}
		err = runAsStep(env, "fetch-bundle", title, o.bundle.MissingSize(), func(progress func(done, total int64)) (err error) {
			o.bundle, err = o.opened.Fetch(ctx, env, missing, progress)
			return err
		})
		if err != nil {
			return err
		}
	}
	err := runAsStep(env, "verify-bundle", "Verify the bundle", o.bundle.Size(), func(progress func(done, total int64)) error { return o.bundle.Verify(ctx, progress) })
	if err != nil && ctx.Err() == nil {
		err = errors.Join(err, source.DiscardFetched(env))
	}
	return err
}

// runAsStep runs do and reports it as a step with this id and title, of total bytes.
func runAsStep(env *action.Env, id, title string, total int64, do func(progress func(done, total int64)) error) error {
	event := func(state step.EventState, message string, done int64) {
		env.Events(step.Event{V: 1, Time: env.Now().UTC(), Verb: "install", Step: id, State: state, Message: message, Bytes: done, Total: total, Title: title})
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
