package fetch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// UnknownSize is the size of a blob of which only the digest is known.
const UnknownSize = -1

// partialBlob is a blob that is being downloaded: a file and the hash of its content so far.
type partialBlob struct {
	file    *os.File
	want    ocispec.Descriptor
	most    int64 // bytes, of the blob
	hash    hash.Hash
	size    int64
	cleared int // how often wrong content was removed
}

// openPartialBlob opens the file at path, which may contain a part from an earlier run, and hashes it.
func openPartialBlob(path string, b Blob) (*partialBlob, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	p := &partialBlob{file: file, want: b.Want, most: b.maxSize(), hash: sha256.New()}
	p.size, err = io.CopyBuffer(p.hash, io.LimitReader(file, p.maxSize()+1), make([]byte, 1<<20))
	if err == nil && p.size > p.maxSize() {
		err = p.clearContent()
	}
	if err != nil {
		_ = file.Close()
	}
	return p, err
}

// maxSize returns the maximum size of the blob in bytes.
func (p *partialBlob) maxSize() int64 { return p.most }

// clearContent removes all content, to download the blob from the start.
func (p *partialBlob) clearContent() error {
	p.hash.Reset()
	p.size = 0
	_, err := p.file.Seek(0, io.SeekStart)
	return errors.Join(err, p.file.Truncate(0))
}

// rejectContent removes all content because of err. The first time the cause may be
// an old part, a file that was replaced at the server, or the transfer; the second
// time the source is wrong, and the error is permanent.
func (p *partialBlob) rejectContent(err error) error {
	if p.cleared++; p.cleared == 2 {
		err = damagedError{fmt.Errorf("%w: %w", err, ErrUnusable)}
	}
	return errors.Join(err, p.clearContent())
}

// appendFrom appends the content of r, up to one byte more than the blob has.
func (p *partialBlob) appendFrom(r io.Reader) error {
	n, err := io.CopyBuffer(io.MultiWriter(p.file, p.hash), io.LimitReader(r, p.maxSize()-p.size+1), make([]byte, 256<<10))
	p.size += n
	return err
}

// isComplete reports whether the file has the digest of the blob, and its size if it is known.
func (p *partialBlob) isComplete() bool {
	return (p.size == p.want.Size || p.want.Size == UnknownSize) && hex.EncodeToString(p.hash.Sum(nil)) == p.want.Digest.Encoded()
}

// checkResponse verifies that the headers of a response match the request. It
// removes the content if the server sends all of it.
func (p *partialBlob) checkResponse(resp *http.Response) error {
	if resp.StatusCode == http.StatusPartialContent {
		if got := resp.Header.Get("Content-Range"); !p.isNextRange(got) {
			return p.rejectContent(fmt.Errorf("answers with the range %q instead of the one from byte %d", got, p.size))
		}
		return nil
	}
	if n := resp.ContentLength; n >= 0 && p.want.Size >= 0 && n != p.want.Size {
		return p.rejectContent(fmt.Errorf("answers with %d bytes%s, the blob has %d", n, ofMediaType(resp), p.want.Size))
	}
	if n := resp.ContentLength; n > p.maxSize() {
		return p.rejectContent(fmt.Errorf("answers with %d bytes%s, the limit is %d", n, ofMediaType(resp), p.maxSize()))
	}
	return p.clearContent() // the server sends the whole content even if a range was requested
}

// ofMediaType returns " of " and the media type of a response; "" if it declares none.
func ofMediaType(resp *http.Response) string {
	if kind := mediaType(resp); kind != "" {
		return " of " + kind
	}
	return ""
}

// isNextRange reports whether a Content-Range header describes content that follows
// the one that p has (RFC 9110, section 14.4).
func (p *partialBlob) isNextRange(contentRange string) bool {
	var from, to int64
	var total string
	if n, _ := fmt.Sscanf(contentRange, "bytes %d-%d/%s", &from, &to, &total); n != 3 {
		return false
	}
	return from == p.size && (total == "*" || p.want.Size == UnknownSize || total == fmt.Sprint(p.want.Size))
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
