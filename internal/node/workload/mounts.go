package workload

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/host"
)

func (f finder) mounts(context.Context) ([]string, error) { return f.Mounts() }

// unmount goes round until nothing is left or nothing moves: unmounting one
// may take others with it. Only what then still stands is unmounted lazily.
func (f finder) unmount(ctx context.Context) error {
	flags := []string{}
	for before := -1; ; {
		points, err := f.Mounts()
		if err != nil || len(points) == 0 {
			return err
		}
		if len(points) == before {
			if len(flags) > 0 {
				return errors.New("the kernel keeps " + strings.Join(points, ", "))
			}
			flags = []string{"-l"}
		}
		before = len(points)
		for _, p := range points {
			// A failure shows in the next look.
			_, _ = f.Run(ctx, host.Cmd{Argv: append(append([]string{"umount"}, flags...), p), Timeout: 20 * time.Second})
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}
