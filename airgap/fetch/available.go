package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// ListUnavailable sends one HEAD request per blob to the source. It returns a
// description of each blob that the source does not have, or has with a different
// size. If the response is neither success nor "not found", the blob is assumed
// to exist. It is an error if the source cannot be reached.
func (r *Remote) ListUnavailable(ctx context.Context, want []ocispec.Descriptor) ([]string, error) {
	problems := make([]string, len(want))
	watched, stop := watchStall(ctx, r.Stall)
	defer stop()
	group, groupCtx := errgroup.WithContext(watched.ctx)
	group.SetLimit(2 * maxParallel)
	for i, d := range want {
		group.Go(func() (err error) {
			problems[i], err = r.checkBlob(groupCtx, d)
			watched.bytes.Add(minProgress) // a response counts as progress
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("check the blobs at %s: %w", r.source, errors.Join(ctx.Err(), watched.wrapError(unwrapURLError(err), r.source)))
	}
	return slices.DeleteFunc(problems, func(s string) bool { return s == "" }), nil
}

// checkBlob returns what is wrong with a blob at the source, or "" if it is available.
func (r *Remote) checkBlob(ctx context.Context, d ocispec.Descriptor) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, r.blobURL(d), nil)
	if err != nil {
		return "", err
	}
	req.Header.Set(encodingHeader, "identity")
	resp, err := r.http.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusGone:
		return d.Digest.String() + " is missing", nil
	case resp.StatusCode == http.StatusOK && resp.ContentLength >= 0 && resp.ContentLength != d.Size:
		return fmt.Sprintf("%s has %d bytes there instead of %d", d.Digest, resp.ContentLength, d.Size), nil
	}
	return "", nil
}
