package source

import (
	"context"
	"errors"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/step"
)

// FetchVerified downloads the content that a thin bundle omits and this host does not
// have, or creates it from an older bundle and a delta. It then verifies every byte of
// the bundle before the first change. Both are shown as steps of verb. missing returns
// the content that this host does not have.
func (d Bundle) FetchVerified(ctx context.Context, env *action.Env, verb string, missing func(context.Context, *airgap.Bundle) ([]ocispec.Descriptor, error)) (*airgap.Bundle, error) {
	bundle := d.Bundle
	if len(bundle.Missing()) > 0 {
		lacking, err := missing(ctx, bundle)
		if err != nil {
			return nil, err
		}
		title := "Fetch the bundle"
		if bundle.Delta() != nil {
			title = "Create the changed parts from the older bundle"
		}
		err = runAsStep(env, step.Event{Verb: verb, Step: "fetch-bundle", Title: title, Total: bundle.MissingSize()}, func(progress func(done, total int64)) (err error) {
			bundle, err = d.Fetch(ctx, env, lacking, progress)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	err := runAsStep(env, step.Event{Verb: verb, Step: "verify-bundle", Title: "Verify the bundle", Total: bundle.Size()}, func(progress func(done, total int64)) error { return bundle.Verify(ctx, progress) })
	if err != nil && ctx.Err() == nil {
		err = errors.Join(err, DiscardFetched(env))
	}
	return bundle, err
}

// runAsStep runs do and reports it as the step that is described by what.
func runAsStep(env *action.Env, what step.Event, do func(progress func(done, total int64)) error) error {
	event := func(state step.EventState, message string, done int64) {
		e := what
		e.V, e.Time, e.State, e.Message, e.Bytes = 1, env.Now().UTC(), state, message, done
		env.Events(e)
	}
	event(step.Started, "", 0)
	err := do(func(done, of int64) {
		what.Total = of
		event(step.Progress, "", done)
	})
	if err != nil {
		event(step.Failed, err.Error(), 0)
		return err
	}
	event(step.Finished, "", what.Total)
	return nil
}
