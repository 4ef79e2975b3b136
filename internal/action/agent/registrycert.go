package agent

import (
	"context"
	"errors"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/registry"
)

// RenewInterval is how often the agent of a controller checks the certificate.
const RenewInterval = time.Hour

// WatchRegistryCert checks the certificate at each tick until ctx ends, and renews it if it
// expires soon. Without it, years after the last install no pod could start from the
// registry any more. of returns the cluster's registry, nil for none; note receives
// renewals and errors.
func WatchRegistryCert(ctx context.Context, tick <-chan time.Time, of func(context.Context) (*registry.Registry, error), note func(string)) {
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick:
			r, err := of(ctx)
			why := ""
			if err == nil && r != nil {
				why, err = renewRegistryCert(ctx, *r, now)
			}
			switch {
			case err != nil && ctx.Err() == nil:
				note("cannot check the registry's certificate: " + err.Error())
			case why != "":
				note(why + ": renewed")
			}
		}
	}
}

// renewRegistryCert renews the certificate if it expires soon and returns the reason, or
// "" if it did nothing. It skips a registry that is not installed.
func renewRegistryCert(ctx context.Context, r registry.Registry, now time.Time) (why string, err error) {
	if _, err := r.TrustFiles(ctx); err != nil {
		if errors.Is(err, kube.ErrNotFound) {
			err = nil
		}
		return "", err
	}
	if why, err = r.NeedsRenewal(ctx, now); err != nil || why == "" {
		return "", err
	}
	return why, r.Prepare(ctx, now)
}
