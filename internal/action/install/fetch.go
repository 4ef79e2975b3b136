package install

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
)

// fetchBundle downloads what the bundle omits and this host does not have, and verifies
// every byte of the bundle before the first change.
func (o *operation) fetchBundle(ctx context.Context, env *action.Env) (err error) {
	o.bundle, err = o.opened.FetchVerified(ctx, env, o.verb(), func(ctx context.Context, b *airgap.Bundle) ([]ocispec.Descriptor, error) {
		return desired.MissingBlobs(ctx, env.Host, b)
	})
	return err
}
