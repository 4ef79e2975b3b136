package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/limit"
)

// Blob is a blob at a URL. Its size may be UnknownSize, its digest must be known.
type Blob struct {
	URL     string
	Want    ocispec.Descriptor
	MaxSize int64 // in bytes, of a blob of unknown size; 0 means what the server states, at most limit.Download
}

// FetchBlob downloads and verifies a blob into folder, or resumes its download. A
// blob that folder has is not downloaded. counter counts the bytes that are in
// folder; the total of a blob of unknown size is added to it.
func (c *Client) FetchBlob(ctx context.Context, folder blob.Folder, b Blob, counter *blob.Progress) error {
	unknown, known := b.Want.Size == UnknownSize, b.Want
	known.Size = max(known.Size, 0)
	if err := blob.CheckDescriptor(known); err != nil {
		return fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	if folder.Has(b.Want) {
		counter.Add(int(b.Want.Size))
		return nil
	}
	if unknown && b.MaxSize == 0 {
		size, err := c.boundSize(ctx, b)
		if err != nil {
			return err
		}
		b.Want.Size = size
	}
	p, err := openPartialBlob(folder.PartPath(b.Want), b)
	if err != nil {
		return diskError(err)
	}
	defer func() { _ = p.file.Close() }()
	if unknown {
		counter.AddTotal(p.maxSize())
		defer func() { counter.AddTotal(p.size - p.maxSize()) }()
	}
	counter.Add(int(p.size))
	err = c.Retry(ctx, func() (bool, error) {
		before := p.size
		err := c.fetchRest(ctx, p, b.URL, counter)
		if err == nil && !p.isComplete() {
			return false, p.rejectContent(fmt.Errorf("%s: its content does not have the digest %s", CleanURL(b.URL), b.Want.Digest))
		}
		return p.size-before >= minProgress, err
	})
	if err != nil {
		return err
	}
	return diskError(errors.Join(p.file.Sync(), folder.PublishPart(b.Want)))
}

// boundSize returns the size that the server states for a blob of unknown size, or UnknownSize. It is an
// error if the blob is too large.
func (c *Client) boundSize(ctx context.Context, b Blob) (int64, error) {
	size, err := c.GetSize(ctx, b.URL)
	switch {
	case statusOf(err) != 0, err == nil && size == 0, size < 0: // the server does not tell; the download shows what is wrong
		return UnknownSize, ctx.Err()
	case err != nil:
		return 0, err
	}
	return size, nil
}

// maxSize returns the maximum size of the blob in bytes.
func (b Blob) maxSize() int64 {
	if b.Want.Size == UnknownSize {
		return cmp.Or(b.MaxSize, limit.Download)
	}
	return b.Want.Size
}

// fetchRest downloads the rest of a blob and appends it to p.
func (c *Client) fetchRest(ctx context.Context, p *partialBlob, from string, counter *blob.Progress) error {
	if p.size == p.want.Size || p.isComplete() {
		return nil
	}
	at := CleanURL(from)
	watched, stop := watchStall(ctx, c.Stall)
	defer stop()
	resp, err := c.get(watched.ctx, request{url: from, from: p.size})
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
	err = p.appendFrom(progressReader{watched.wrapReader(resp.Body), counter})
	switch {
	case errors.As(err, new(*os.PathError)):
		return diskError(err)
	case err != nil:
		return watched.wrapError(err, at)
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
