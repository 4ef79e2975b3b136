package pull

import (
	"context"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/internal/problem"
)

// Resolved is what a registry or a release page has now under a name.
type Resolved struct {
	Digest digest.Digest // of the download of a host file, or of the image's manifest for the platform
	Size   int64         // bytes of that download, or of all blobs of the image
}

// Resolve returns what Fetch would download for the images and host files of req, in their order. It
// downloads manifests, which it keeps, and checksum lists only. It does not stop at the first failure
// and reports all of them, with the exit code for a bad bundle.
func Resolve(ctx context.Context, req Request) (hostFiles, images []Resolved, err error) {
	f, err := newFetcher(req)
	if err != nil {
		return nil, nil, req.resolveError(err)
	}
	group, wrong := errgroup.Group{}, make([]error, len(req.HostFiles)+len(req.Images))
	found := make([]Resolved, len(wrong))
	group.SetLimit(maxParallel)
	for i, file := range req.HostFiles {
		group.Go(func() error {
			found[i], wrong[i] = f.resolveHostFile(ctx, file)
			return nil
		})
	}
	for i, ref := range req.Images {
		at := len(req.HostFiles) + i
		group.Go(func() error {
			found[at], wrong[at] = f.resolveImage(ctx, ref)
			return nil
		})
	}
	_ = group.Wait() // the errors are in wrong
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if err := joinFailures(wrong); err != nil {
		return nil, nil, req.resolveError(err)
	}
	return found[:len(req.HostFiles)], found[len(req.HostFiles):], nil
}

func (r Request) resolveError(err error) error {
	return problem.New(problem.ExitBundle, "find what the registries have", err, r.hint(err, "\n"+
		"without a network: name a folder that `plinth bundle mirror` filled with --source DIR"))
}

// resolveImage returns the digest and the size of an image for the requested platform.
func (f *fetcher) resolveImage(ctx context.Context, text string) (r Resolved, err error) {
	err = f.withImage(text, func(i *imageFetcher) error {
		item, err := i.describe(ctx)
		r = Resolved{item.Manifest.Digest, item.Size()}
		return err
	})
	return r, err
}

// resolveHostFile returns the checksum of a host file in the release's own list, and the size that
// the release page tells.
func (f *fetcher) resolveHostFile(ctx context.Context, want build.HostFile) (Resolved, error) {
	release, sum, err := f.findRelease(ctx, want)
	var size int64
	if err == nil {
		size, err = f.client.GetSize(ctx, release.URL(want.Version, f.arch))
	}
	if err != nil {
		return Resolved{}, newHostFileError(want, err)
	}
	return Resolved{sum, size}, nil
}
