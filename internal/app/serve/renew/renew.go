// Package renew owns the look at what runs out while nobody runs an install:
// the certificate of the cluster's registry. It refuses k0s's own certificates,
// which k0s renews.
package renew

import (
	"context"
	"errors"
	"time"

	"github.com/plinthdev/plinth/internal/kots/registry"
	"github.com/plinthdev/plinth/internal/kube"
)

// Every is how often the agent of a controller is to look.
const Every = time.Hour

// Watch looks at each tick, until ctx ends, whether the certificate nears its
// end, and renews it: after years without an install no pod could be started
// from the registry any more. of gives the cluster's registry, nil for none.
func Watch(ctx context.Context, tick <-chan time.Time, of func(context.Context) (*registry.Registry, error), note func(string)) {
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick:
			r, err := of(ctx)
			why := ""
			if err == nil && r != nil {
				why, err = renew(ctx, *r, now)
			}
			switch {
			case err != nil && ctx.Err() == nil:
				note("cannot look at the registry's certificate: " + err.Error())
			case why != "":
				note(why + ": done")
			}
		}
	}
}

// renew says why it renewed. A registry that is not installed yet, or no
// longer, is left alone.
func renew(ctx context.Context, r registry.Registry, now time.Time) (why string, err error) {
	if _, err := r.Trust(ctx); err != nil {
		if errors.Is(err, kube.ErrNotFound) {
			err = nil
		}
		return "", err
	}
	if why, err = r.Due(ctx, now); err != nil || why == "" {
		return "", err
	}
	return why, r.Prepare(ctx, now)
}
