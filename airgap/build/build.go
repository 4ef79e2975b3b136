// Package build creates bundles from an OCI image layout. The same request with
// the same content always gives the same bytes. Every layer is unpacked once and
// verified against its image's config.
package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/internal/problem"
)

// Request describes the content of a bundle. The order of each list is the order
// in the file, so what a host needs first comes first.
type Request struct {
	Name        string // metadata.name of the Installer
	Installer   []byte // installer.yaml
	Application []byte // KOTS Application manifest; nil for none
	Layout      string // folder in OCI image layout with the host files and images
	HostFiles   []HostFile
	Charts      []Chart
	Images      []string                           // full references, boot-critical ones first
	ImageUsers  map[string]string                  // what needs an image, by its reference, for messages; may be nil
	Platform    string                             // "" means linux/amd64
	Release     int64                              // the vendor's release number; 0 for none
	Expires     time.Time                          // zero for never
	Programs    []format.Program                   // of Plinth, which nodes may take in an upgrade
	Sign        func(index []byte) ([]byte, error) // nil for an unsigned bundle
	WorkDir     string                             // folder for temporary files; "" for the system's default
	Thin        bool                               // omit the content of images and host files
	Progress    func(done, total int64)            // in bytes; may be nil
}

// HostFile identifies a host file in the layout; the version must match exactly.
type HostFile struct{ Name, Version string }

// Chart is a packaged Helm chart.
type Chart struct {
	Name, Version string
	Archive       []byte // .tgz
}

// DefaultPlatform is the platform of a request that names none.
const DefaultPlatform = "linux/amd64"

// maxDocumentSize is the maximum size in bytes of a chart, an Installer or an
// Application.
const maxDocumentSize = limit.Document

// WriteFile writes the bundle to path, with mode 0644, and returns the bundle's
// digest. The file is created atomically: the temporary file is in the same folder
// as path. Errors are Problems with the exit code for a bad bundle.
func WriteFile(ctx context.Context, req Request, path string) (digest.Digest, error) {
	var d digest.Digest
	err := writeBundleFile(ctx, path, func(w io.Writer) (err error) {
		d, err = Write(ctx, req, w)
		return err
	})
	return d, err
}

// writeBundleFile creates path atomically with what write writes.
func writeBundleFile(ctx context.Context, path string, write func(io.Writer) error) error {
	err := blob.WriteFile(path, write)
	var p *problem.Problem
	if err != nil && !errors.As(err, &p) && ctx.Err() == nil {
		err = problem.New(problem.ExitBundle, "write bundle "+path, err,
			"name a file in an existing folder in which you can write and which has enough free space for the bundle")
	}
	return err
}

// Write writes the bundle to w and returns its digest. If the source is unusable,
// the error is a Problem with the exit code for a bad bundle.
func Write(ctx context.Context, req Request, w io.Writer) (digest.Digest, error) {
	p, err := prepareArchive(ctx, req)
	if err != nil {
		return "", sourceError(ctx, req, err)
	}
	return digest.FromBytes(p.Index), p.Write(ctx, w)
}

// Archive is a bundle that is ready to be written.
type Archive struct {
	Index     []byte
	Signature []byte               // empty for none
	Delta     []byte               // a format.Delta; empty for a bundle that is not a delta
	Blobs     []ocispec.Descriptor // without duplicates, in the order of the file
	Source    blob.Source
}

// FullArchive returns the archive of a bundle with all its content. The content
// must be in b, or in the source that was given to b.
func FullArchive(b *airgap.Bundle) Archive {
	return Archive{Index: b.RawIndex(), Signature: b.Signature(), Blobs: allBlobs(b.Items()), Source: b}
}

// ThinArchive returns FullArchive without the content of images and host files.
func ThinArchive(b *airgap.Bundle) Archive {
	a := FullArchive(b)
	a.Blobs = thinBlobs(b.Items())
	return a
}

// WriteFile writes the archive to path like the function WriteFile.
func (p Archive) WriteFile(ctx context.Context, path string) error {
	return writeBundleFile(ctx, path, func(w io.Writer) error { return p.Write(ctx, w) })
}

// Write writes the archive to w as a tar file.
func (p Archive) Write(ctx context.Context, w io.Writer) error {
	t := tarWriter{w: w}
	t.addEntry(format.LayoutEntry, int64(len(blob.LayoutFile)), bytes.NewReader([]byte(blob.LayoutFile)))
	t.addEntry(format.IndexEntry, int64(len(p.Index)), bytes.NewReader(p.Index))
	sum := []byte(format.Checksum(p.Index))
	t.addEntry(format.ChecksumEntry, int64(len(sum)), bytes.NewReader(sum))
	if len(p.Signature) > 0 {
		t.addEntry(format.SignatureEntry, int64(len(p.Signature)), bytes.NewReader(p.Signature))
	}
	if len(p.Delta) > 0 {
		t.addEntry(format.DeltaEntry, int64(len(p.Delta)), bytes.NewReader(p.Delta))
	}
	for _, desc := range p.Blobs {
		if t.err != nil {
			break
		}
		r, err := p.Source.Open(ctx, desc)
		if err != nil {
			return err
		}
		t.addEntry(format.BlobEntry(desc.Digest), desc.Size, r)
		_ = r.Close()
	}
	t.writeZeros(2 * 512)
	return t.err
}

// tarWriter writes tar entries exactly as package format expects them. After an
// error it writes nothing and keeps that error.
type tarWriter struct {
	w   io.Writer
	buf []byte
	err error
}

func (t *tarWriter) addEntry(name string, size int64, content io.Reader) {
	head, err := format.TarHeader(name, size)
	if t.err = errors.Join(t.err, err); t.err != nil {
		return
	}
	if _, t.err = t.w.Write(head); t.err != nil {
		return
	}
	if t.buf == nil {
		t.buf = make([]byte, 1<<20)
	}
	n, err := io.CopyBuffer(t.w, content, t.buf)
	if err == nil && n != size {
		err = fmt.Errorf("%s has %d bytes instead of %d", name, n, size)
	}
	t.err = err
	t.writeZeros(format.Padding(size))
}

func (t *tarWriter) writeZeros(n int64) {
	if t.err == nil {
		_, t.err = t.w.Write(make([]byte, n))
	}
}
