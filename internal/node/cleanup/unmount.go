package cleanup

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/host"
)

// findMounts returns the cluster's mount points, last mounted first.
func (f workloadFinder) findMounts(context.Context) ([]string, error) { return f.ClusterMounts() }

// unmountAll unmounts the cluster's mounts repeatedly until none is left or a pass changes nothing:
// unmounting one may unmount others. Only what is left then is unmounted lazily.
func (f workloadFinder) unmountAll(ctx context.Context) error {
	flags := []string{}
	for before := -1; ; {
		points, err := f.ClusterMounts()
		if err != nil || len(points) == 0 {
			return err
		}
		if len(points) == before {
			if len(flags) > 0 {
				return errors.New("cannot unmount " + strings.Join(points, ", "))
			}
			flags = []string{"-l"}
		}
		before = len(points)
		for _, p := range points {
			// A failure shows in the next pass.
			_, _ = f.Run(ctx, host.Cmd{Argv: append(append([]string{"umount"}, flags...), p), Timeout: 20 * time.Second})
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}
