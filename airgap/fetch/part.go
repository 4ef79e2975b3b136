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

// part is a blob on its way: a file and the digest of what is in it.
type part struct {
	file *os.File
	want ocispec.Descriptor
	hash hash.Hash
	size int64
}

// openPart goes on with what an earlier run left at path.
func openPart(path string, want ocispec.Descriptor) (*part, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	p := &part{file: file, want: want, hash: sha256.New()}
	p.size, err = io.CopyBuffer(p.hash, io.LimitReader(file, want.Size+1), make([]byte, 1<<20))
	if err == nil && p.size > want.Size {
		err = p.empty()
	}
	if err != nil {
		_ = file.Close()
	}
	return p, err
}

// empty begins anew.
func (p *part) empty() error {
	p.hash.Reset()
	p.size = 0
	_, err := p.file.Seek(0, io.SeekStart)
	return errors.Join(err, p.file.Truncate(0))
}

// add appends what r has, up to one byte more than is wanted.
func (p *part) add(r io.Reader) error {
	n, err := io.CopyBuffer(io.MultiWriter(p.file, p.hash), io.LimitReader(r, p.want.Size-p.size+1), make([]byte, 256<<10))
	p.size += n
	return err
}

// fits reports whether the whole is what was wanted.
func (p *part) fits() bool {
	return p.size == p.want.Size && hex.EncodeToString(p.hash.Sum(nil)) == p.want.Digest.Encoded()
}

// one brings one blob.
func (r *Remote) one(ctx context.Context, folder blob.Folder, want ocispec.Descriptor, meter *blob.Meter) error {
	if err := blob.Check(want); err != nil {
		return fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	if folder.Has(want) {
		meter.Add(int(want.Size))
		return nil
	}
	p, err := openPart(folder.PartPath(want), want)
	if err != nil {
		return onDisk(err)
	}
	defer func() { _ = p.file.Close() }()
	meter.Add(int(p.size))
	wrong := 0
	err = Retry(ctx, r.Backoff, func() (bool, error) {
		before := p.size
		err := r.more(ctx, p, meter)
		if err == nil && !p.fits() {
			// A part from before may be to blame, or the way; not twice.
			err = fmt.Errorf("%s: its content does not have the digest %s", r.url(want), want.Digest)
			if wrong++; wrong == 2 {
				err = fmt.Errorf("%w: %w", err, ErrUnusable)
			}
			return false, errors.Join(err, p.empty())
		}
		return p.size-before >= moving, err
	})
	if err != nil {
		return err
	}
	return onDisk(errors.Join(p.file.Sync(), folder.Take(want)))
}

func (r *Remote) url(want ocispec.Descriptor) string { return r.blobs + want.Digest.Encoded() }

// more asks for the rest of a blob and keeps what comes.
func (r *Remote) more(ctx context.Context, p *part, meter *blob.Meter) error {
	if p.size == p.want.Size {
		return nil
	}
	watched, stop := watch(ctx, r.Stall)
	defer stop()
	at := r.url(p.want)
	resp, err := get(watched.ctx, r.client, at, p.size)
	if err != nil {
		return watched.explain(err, at)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := p.accept(resp); err != nil {
		return fmt.Errorf("%s %w", at, err)
	}
	err = p.add(meteredReader{watched.reader(resp.Body), meter})
	switch {
	case errors.As(err, new(*os.PathError)):
		return onDisk(err)
	case err != nil:
		return watched.explain(err, at)
	case p.size > p.want.Size:
		return errors.Join(fmt.Errorf("%s sends more than the %d bytes of the blob: %w", at, p.want.Size, ErrUnusable), p.empty())
	case p.size < p.want.Size:
		return fmt.Errorf("%s: the connection ended after %d of %d bytes", at, p.size, p.want.Size)
	}
	return nil
}

// accept holds an answer's head against what was asked for.
func (p *part) accept(resp *http.Response) error {
	if resp.StatusCode == http.StatusPartialContent {
		asked := fmt.Sprintf("bytes %d-%d/%d", p.size, p.want.Size-1, p.want.Size)
		if got := resp.Header.Get("Content-Range"); got != asked {
			return fmt.Errorf("answers with the range %q instead of %q: %w", got, asked, ErrUnusable)
		}
		return nil
	}
	if n := resp.ContentLength; n >= 0 && n != p.want.Size {
		kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
		return fmt.Errorf("answers with %d bytes of %s, the blob has %d: %w", n, kind, p.want.Size, ErrUnusable)
	}
	return p.empty() // the whole, whatever was asked for
}

var errDisk = errors.New("keep it on the disk")

// onDisk names trouble with this machine's disk, which no server can mend.
func onDisk(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errDisk, err)
}

type meteredReader struct {
	io.Reader
	meter *blob.Meter
}

func (m meteredReader) Read(b []byte) (int, error) {
	n, err := m.Reader.Read(b)
	m.meter.Add(n)
	return n, err
}

// moving is how many bytes within the time of a stall count as progress.
const moving = 16 << 10

// errStalled is why a request was given up.
var errStalled = errors.New("next to nothing came")

// watcher gives up a request that does not move.
type watcher struct {
	ctx   context.Context
	bytes *atomic.Int64
	limit time.Duration
}

// watch begins a request that has to move within limit, again and again.
func watch(ctx context.Context, limit time.Duration) (w watcher, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	w = watcher{ctx, &atomic.Int64{}, limit}
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
			if now-seen < moving {
				cancel(errStalled)
			}
			seen = now
		}
	}()
	return w, func() { cancel(nil) }
}

func (w watcher) reader(r io.Reader) io.Reader { return watchedReader{r, w.bytes} }

type watchedReader struct {
	io.Reader
	bytes *atomic.Int64
}

func (r watchedReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.bytes.Add(int64(n))
	return n, err
}

// explain says that a request stalled, where that is why it failed.
func (w watcher) explain(err error, url string) error {
	switch {
	case errors.Is(context.Cause(w.ctx), errStalled):
		return fmt.Errorf("%s stalls: %w in %s", url, errStalled, w.limit)
	case strings.Contains(err.Error(), url):
		return err
	}
	return fmt.Errorf("%s: %w", url, err)
}
