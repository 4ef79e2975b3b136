package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
)

// partialBlob is a blob that is being downloaded: a file and the hash of its content so far.
type partialBlob struct {
	file *os.File
	want ocispec.Descriptor
	hash hash.Hash
	size int64
}

// openPartialBlob opens the file at path, which may contain a part from an earlier run, and hashes it.
func openPartialBlob(path string, want ocispec.Descriptor) (*partialBlob, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	p := &partialBlob{file: file, want: want, hash: sha256.New()}
	p.size, err = io.CopyBuffer(p.hash, io.LimitReader(file, want.Size+1), make([]byte, 1<<20))
	if err == nil && p.size > want.Size {
		err = p.clearContent()
	}
	if err != nil {
		_ = file.Close()
	}
	return p, err
}

// clearContent removes all content, to download the blob from the start.
func (p *partialBlob) clearContent() error {
	p.hash.Reset()
	p.size = 0
	_, err := p.file.Seek(0, io.SeekStart)
	return errors.Join(err, p.file.Truncate(0))
}

// appendFrom appends the content of r, up to one byte more than the blob has.
func (p *partialBlob) appendFrom(r io.Reader) error {
	n, err := io.CopyBuffer(io.MultiWriter(p.file, p.hash), io.LimitReader(r, p.want.Size-p.size+1), make([]byte, 256<<10))
	p.size += n
	return err
}

// isComplete reports whether the file has the size and the digest of the blob.
func (p *partialBlob) isComplete() bool {
	return p.size == p.want.Size && hex.EncodeToString(p.hash.Sum(nil)) == p.want.Digest.Encoded()
}

// fetchBlob downloads one blob into folder, or resumes its download.
func (r *Remote) fetchBlob(ctx context.Context, folder blob.Folder, want ocispec.Descriptor, counter *blob.Progress) error {
	if err := blob.CheckDescriptor(want); err != nil {
		return fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	if folder.Has(want) {
		counter.Add(int(want.Size))
		return nil
	}
	p, err := openPartialBlob(folder.PartPath(want), want)
	if err != nil {
		return diskError(err)
	}
	defer func() { _ = p.file.Close() }()
	counter.Add(int(p.size))
	wrong := 0
	err = Retry(ctx, r.Backoff, func() (bool, error) {
		before := p.size
		err := r.fetchRest(ctx, p, counter)
		if err == nil && !p.isComplete() {
			// The first mismatch may come from an old part or the transfer; a second means a wrong source.
			err = fmt.Errorf("%s: its content does not have the digest %s", r.blobURL(want), want.Digest)
			if wrong++; wrong == 2 {
				err = fmt.Errorf("%w: %w", err, ErrUnusable)
			}
			return false, errors.Join(err, p.clearContent())
		}
		return p.size-before >= minProgress, err
	})
	if err != nil {
		return err
	}
	return diskError(errors.Join(p.file.Sync(), folder.PublishPart(want)))
}

// blobURL returns the URL of a blob.
func (r *Remote) blobURL(want ocispec.Descriptor) string { return r.blobsURL + want.Digest.Encoded() }

// fetchRest downloads the rest of a blob and appends it to p.
func (r *Remote) fetchRest(ctx context.Context, p *partialBlob, counter *blob.Progress) error {
	if p.size == p.want.Size {
		return nil
	}
	watched, stop := watchStall(ctx, r.Stall)
	defer stop()
	at := r.blobURL(p.want)
	resp, err := getFrom(watched.ctx, r.client, at, p.size)
	if err != nil {
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
	case p.size > p.want.Size:
		return errors.Join(fmt.Errorf("%s sends more than the %d bytes of the blob: %w", at, p.want.Size, ErrUnusable), p.clearContent())
	case p.size < p.want.Size:
		return fmt.Errorf("%s: the connection ended after %d of %d bytes", at, p.size, p.want.Size)
	}
	return nil
}

// checkResponse verifies that the headers of a response match the request.
func (p *partialBlob) checkResponse(resp *http.Response) error {
	if resp.StatusCode == http.StatusPartialContent {
		requested := fmt.Sprintf("bytes %d-%d/%d", p.size, p.want.Size-1, p.want.Size)
		if got := resp.Header.Get("Content-Range"); got != requested {
			return fmt.Errorf("answers with the range %q instead of %q: %w", got, requested, ErrUnusable)
		}
		return nil
	}
	if n := resp.ContentLength; n >= 0 && n != p.want.Size {
		kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
		return fmt.Errorf("answers with %d bytes of %s, the blob has %d: %w", n, kind, p.want.Size, ErrUnusable)
	}
	return p.clearContent() // the server sends the whole content even if a range was requested
}

// errDisk marks an error of the local disk.
var errDisk = errors.New("cannot write to the disk")

// diskError wraps err, if not nil, in errDisk: no other server or attempt can fix it.
func diskError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errDisk, err)
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

// minProgress is how many bytes within Options.Stall count as progress.
const minProgress = 16 << 10

// errStalled is the reason why a stalled request was canceled.
var errStalled = errors.New("almost no data arrived")

// stallWatcher cancels a request that makes no progress.
type stallWatcher struct {
	ctx   context.Context
	bytes *atomic.Int64
	limit time.Duration
}

// watchStall returns a watcher with a context for one request. The context is
// canceled when fewer than minProgress bytes arrive within limit.
func watchStall(ctx context.Context, limit time.Duration) (w stallWatcher, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	w = stallWatcher{ctx, &atomic.Int64{}, limit}
	go func() {
		ticker := time.NewTicker(limit)
		defer ticker.Stop()
		for seen := int64(0); ; {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			now := w.bytes.Load()
			if now-seen < minProgress {
				cancel(errStalled)
			}
			seen = now
		}
	}()
	return w, func() { cancel(nil) }
}

// wrapReader returns r with its bytes counted as progress.
func (w stallWatcher) wrapReader(r io.Reader) io.Reader { return watchedReader{r, w.bytes} }

// watchedReader counts the bytes read.
type watchedReader struct {
	io.Reader
	bytes *atomic.Int64
}

func (r watchedReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.bytes.Add(int64(n))
	return n, err
}

// wrapError adds the URL to err, and the stall if that is why the request failed.
func (w stallWatcher) wrapError(err error, url string) error {
	switch {
	case errors.Is(context.Cause(w.ctx), errStalled):
		return fmt.Errorf("%s stalls: %w in %s", url, errStalled, w.limit)
	case strings.Contains(err.Error(), url):
		return err
	}
	return fmt.Errorf("%s: %w", url, err)
}
