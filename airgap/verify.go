package airgap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/internal/problem"
)

// claim is a blob with what the items say about it.
type claim struct {
	format.Layer
	of string // the first item that has it, or what a patch is for
}

// Verify proves every byte of the bundle (what Open has not proved yet: the
// blobs), that image configs fit their layers, and that nothing unpacks to
// more than twice what it declares. It works on all CPUs, at most 4, and
// reports all that is wrong. progress, if not nil, is called now and then with
// the bytes done, one call at a time.
func (b *Bundle) Verify(ctx context.Context, progress func(done, total int64)) error {
	claims := b.claims()
	// The largest first: they end last otherwise, on one CPU.
	slices.SortStableFunc(claims, func(x, y claim) int { return cmp.Compare(y.Size, x.Size) })
	total := int64(0)
	for _, c := range claims {
		total += c.Size
	}
	src := blob.Metered(b, blob.NewMeter(total, progress))
	wrong := make([]error, len(claims))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(min(runtime.GOMAXPROCS(0), 4))
	for i, c := range claims {
		group.Go(func() error {
			wrong[i] = blob.Prove(groupCtx, src, c.Descriptor, c.Unpacked)
			return groupCtx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var errs findings
	for i, err := range wrong {
		if err != nil {
			errs.add(fmt.Errorf("%s, blob %s: %w", claims[i].of, claims[i].Digest, cause(err)))
		}
	}
	if len(errs) == 0 {
		b.checkConfigs(ctx, &errs)
	}
	if len(errs) == 0 {
		return nil
	}
	return b.problem("verify", errs.err())
}

// claims lists each blob once, but for those that are absent.
func (b *Bundle) claims() []claim {
	var claims []claim
	seen := map[digest.Digest]bool{}
	add := func(l format.Layer, it format.Item) {
		if !seen[l.Digest] && (b.absent.here[l.Digest] || !b.absent.has(l.Digest)) {
			claims = append(claims, claim{l, it.String()})
		}
		seen[l.Digest] = true
	}
	for _, it := range b.items {
		for _, l := range it.Layers {
			add(l, it)
		}
		add(format.Layer{Descriptor: it.Manifest, Unpacked: -1}, it)
		add(format.Layer{Descriptor: it.Config, Unpacked: -1}, it)
	}
	if b.delta != nil {
		for _, p := range b.delta.Patches {
			claims = append(claims, claim{format.Layer{Descriptor: p.Patch, Unpacked: -1}, "patch for " + p.Blob.String()})
		}
	}
	return claims
}

// checkConfigs holds the images' configs against their manifests.
func (b *Bundle) checkConfigs(ctx context.Context, errs *findings) {
	for _, it := range b.items {
		if it.Kind != format.KindImage {
			continue
		}
		raw, err := blob.ReadAll(ctx, b, it.Config, blob.MaxDocument)
		if err == nil {
			_, err = it.DiffIDs(raw)
		}
		if err != nil {
			errs.add(cause(err))
		}
	}
}

// cause drops a problem's own words where another problem will say them.
func cause(err error) error {
	var p *problem.Problem
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
