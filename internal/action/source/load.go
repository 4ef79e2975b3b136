package source

import (
	"context"
	"errors"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
)

// Load opens and verifies the bundle opts.Bundle, then reads and lints the configuration in it. It sets opts.Bundle to the
// path of the bundle, for messages. The caller closes the bundle if there is no error.
func Load(ctx context.Context, env *action.Env, req Request, opts *config.LoadOptions) (b Bundle, cfg config.Config, err error) {
	req.Bundle = opts.Bundle
	if b, err = Open(ctx, env, req); err != nil {
		return b, cfg, err
	}
	opts.Bundle = b.Path
	cfg, err = config.Load(ctx, b.Bundle, *opts, env.Now())
	cfg.Trust = b.Trust
	for _, n := range cfg.Notices {
		env.Note(n)
	}
	if err != nil {
		err = errors.Join(err, b.Close())
	}
	return b, cfg, err
}
