package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
)

// Blob is a blob at a URL. Its size may be UnknownSize, its digest must be known.
type Blob struct {
	URL     string
	Want    ocispec.Descriptor
	MaxSize int64 // bytes to receive at most of a blob of unknown size; 0 for limit.Blob
}

// FetchBlob downloads and verifies a blob into folder, or resumes its download. A
// blob that folder has is not downloaded. counter counts the bytes that are in
// folder; the total of a blob of unknown size is added to it.
func (c *Client) FetchBlob(ctx context.Context, folder blob.Folder, b Blob, counter *blob.Progress) error {
	known := b.Want
	known.Size = max(known.Size, 0)
	if err := blob.CheckDescriptor(known); err != nil {
		return fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	if folder.Has(b.Want) {
		counter.Add(int(b.Want.Size))
		return nil
	}
	p, err := openPartialBlob(folder.PartPath(b.Want), b.Want, b.MaxSize)
	if err != nil {
		return diskError(err)
	}
	defer func() { _ = p.file.Close() }()
	counter.Add(int(p.size))
	err = c.Retry(ctx, func() (bool, error) {
		before := p.size
		err := c.fetchRest(ctx, p, b.URL, counter)
		if err == nil && !p.isComplete() {
			return false, p.rejectContent(fmt.Errorf("%s: its content does not have the digest %s", b.URL, b.Want.Digest))
		}
		return p.size-before >= minProgress, err
	})
	if err != nil {
		return err
	}
	return diskError(errors.Join(p.file.Sync(), folder.PublishPart(b.Want)))
}

// fetchRest downloads the rest of a blob and appends it to p.
func (c *Client) fetchRest(ctx context.Context, p *partialBlob, at string, counter *blob.Progress) error {
	if p.size == p.want.Size || p.isComplete() {
		return nil
	}
	watched, stop := watchStall(ctx, c.Stall)
	defer stop()
	resp, err := c.get(watched.ctx, request{url: at, from: p.size})
	if err != nil {
		if statusOf(err) == http.StatusRequestedRangeNotSatisfiable {
			return p.rejectContent(fmt.Errorf("%s no longer has the %d bytes that it sent before", at, p.size))
		}
		return watched.wrapError(err, at)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := p.checkResponse(resp); err != nil {
		return fmt.Errorf("%s %w", at, err)
	}
	if p.want.Size == UnknownSize && p.size == 0 {
		counter.AddTotal(max(resp.ContentLength, 0))
	}
	err = p.appendFrom(progressReader{watched.wrapReader(resp.Body), counter})
	switch {
	case errors.As(err, new(*os.PathError)):
		return diskError(err)
	case err != nil:
		return watched.wrapError(err, at)
	case p.size > p.maxSize() && p.want.Size == UnknownSize:
		return errors.Join(fmt.Errorf("%s sends more than %d bytes, the limit: %w", at, p.maxSize(), ErrUnusable), p.clearContent())
	case p.size > p.maxSize():
		return errors.Join(fmt.Errorf("%s sends more than the %d bytes of the blob: %w", at, p.maxSize(), ErrUnusable), p.clearContent())
	case p.size < p.want.Size:
		return fmt.Errorf("%s: the connection ended after %d of %d bytes", at, p.size, p.want.Size)
	}
	return nil
}

// progressReader adds the bytes read to a blob.Progress.
type progressReader struct {
	io.Reader
	progress *blob.Progress
}

func (m progressReader) Read(b []byte) (int, error) {
	n, err := m.Reader.Read(b)
	m.progress.Add(n)
	return n, err
}
