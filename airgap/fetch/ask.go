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

// Lacking asks the source for the heads of blobs, once each, and tells of those
// that it says it does not have, or has in another size. A server that does
// not answer such a question with yes or no is believed to have them; one that
// cannot be asked is an error.
func (r *Remote) Lacking(ctx context.Context, want []ocispec.Descriptor) ([]string, error) {
	told := make([]string, len(want))
	watched, stop := watch(ctx, r.Stall)
	defer stop()
	group, groupCtx := errgroup.WithContext(watched.ctx)
	group.SetLimit(2 * width)
	for i, d := range want {
		group.Go(func() (err error) {
			told[i], err = r.ask(groupCtx, d)
			watched.bytes.Add(moving) // an answer is progress
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("ask %s for its blobs: %w", r.text, errors.Join(ctx.Err(), cause(watched.explain(err, r.text))))
	}
	return slices.DeleteFunc(told, func(s string) bool { return s == "" }), nil
}

// ask says what is wrong with a blob there, "" for nothing.
func (r *Remote) ask(ctx context.Context, d ocispec.Descriptor) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, r.url(d), nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := r.client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusGone:
		return d.Digest.String() + " is not there", nil
	case resp.StatusCode == http.StatusOK && resp.ContentLength >= 0 && resp.ContentLength != d.Size:
		return fmt.Sprintf("%s has %d bytes there instead of %d", d.Digest, resp.ContentLength, d.Size), nil
	}
	return "", nil
}
