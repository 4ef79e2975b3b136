package oci

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Store stores blobs by digest, as an OCI layout does: <Dir>/sha256/<hex>.
type Store struct{ Dir string }

// Blob describes a stored blob: digest and size, and both before compression.
type Blob struct {
	Digest  digest.Digest `json:"digest"`
	Size    int64         `json:"size"`    // bytes
	Raw     digest.Digest `json:"raw"`     // digest before compression
	RawSize int64         `json:"rawSize"` // bytes before compression
}

// BlobPath returns the path of the blob with this digest, whether it exists or not.
func (s Store) BlobPath(d digest.Digest) string {
	return filepath.Join(s.Dir, d.Algorithm().String(), d.Encoded())
}

// HasBlob reports whether the blob exists with this size in bytes. Its content was
// verified when it was written.
func (s Store) HasBlob(d digest.Digest, size int64) bool {
	st, err := os.Stat(s.BlobPath(d))
	return err == nil && st.Size() == size
}

// PutLayer stores the tree as a tar compressed with zstd.
func (s Store) PutLayer(t Tree, when time.Time) (Blob, error) {
	return s.PutZstd(func(w io.Writer) error { return t.WriteTar(w, when) })
}

// PutFile stores a file, compressed with zstd.
func (s Store) PutFile(file string) (Blob, error) {
	return s.PutZstd(func(w io.Writer) error {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		_, err = io.Copy(w, f)
		return err
	})
}

// PutZstd stores what write writes, compressed with zstd. With one encoder thread
// and fixed options the same content always gives the same blob.
func (s Store) PutZstd(write func(io.Writer) error) (Blob, error) {
	tmp, err := s.createTemp()
	if err != nil {
		return Blob{}, err
	}
	defer discardTemp(tmp)
	packed := &countingWriter{w: tmp, sum: digest.SHA256.Digester()}
	enc, err := zstd.NewWriter(packed, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return Blob{}, err
	}
	raw := &countingWriter{w: enc, sum: digest.SHA256.Digester()}
	if err := write(raw); err != nil {
		return Blob{}, err
	}
	if err := enc.Close(); err != nil {
		return Blob{}, err
	}
	b := Blob{Digest: packed.sum.Digest(), Size: packed.n, Raw: raw.sum.Digest(), RawSize: raw.n}
	return b, commitTemp(tmp, s.BlobPath(b.Digest))
}

// PutJSON stores a document and returns its descriptor without a media type.
func (s Store) PutJSON(doc any) (ocispec.Descriptor, error) {
	b, err := json.Marshal(doc)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	tmp, err := s.createTemp()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer discardTemp(tmp)
	if _, err := io.Copy(tmp, bytes.NewReader(b)); err != nil {
		return ocispec.Descriptor{}, err
	}
	d := digest.NewDigestFromBytes(digest.SHA256, sha256Sum(b))
	return ocispec.Descriptor{Digest: d, Size: int64(len(b))}, commitTemp(tmp, s.BlobPath(d))
}

func (s Store) createTemp() (*os.File, error) {
	dir := filepath.Join(s.Dir, "sha256")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return os.CreateTemp(dir, ".new-*")
}

// discardTemp removes a temporary file unless commitTemp has renamed it.
func discardTemp(tmp *os.File) { _, _ = tmp.Close(), os.Remove(tmp.Name()) }

// commitTemp renames the finished file to its final name. After a crash before
// that, no file of this name exists.
func commitTemp(tmp *os.File, name string) error {
	if err := tmp.Chmod(0o644); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), name)
}

func sha256Sum(b []byte) []byte { h := sha256.Sum256(b); return h[:] }

type countingWriter struct {
	w   io.Writer
	sum digest.Digester
	n   int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.sum.Hash().Write(p[:n])
	c.n += int64(n)
	return n, err
}

// WriteLayout writes an OCI layout with the given index into dir. Every blob in
// blobs is hard-linked from the store. The index is replaced last, atomically.
func (s Store) WriteLayout(dir string, index []ocispec.Descriptor, blobs []digest.Digest) error {
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return err
	}
	for _, d := range blobs {
		to := filepath.Join(dir, "blobs", "sha256", d.Encoded())
		if _, err := os.Stat(to); err == nil {
			continue
		}
		if err := os.Link(s.BlobPath(d), to); err != nil {
			return fmt.Errorf("link blob into the layout: %w", err)
		}
	}
	mark, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return err
	}
	if err := ReplaceFile(filepath.Join(dir, ocispec.ImageLayoutFile), mark); err != nil {
		return err
	}
	doc, err := json.MarshalIndent(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: index}, "", "  ")
	if err != nil {
		return err
	}
	return ReplaceFile(filepath.Join(dir, ocispec.ImageIndexFile), append(doc, '\n'))
}

// ReplaceFile replaces a file atomically: readers see the old or the new content,
// never a part of it.
func ReplaceFile(file string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".new-*")
	if err != nil {
		return err
	}
	defer discardTemp(tmp)
	if _, err := tmp.Write(content); err != nil {
		return err
	}
	return commitTemp(tmp, file)
}
