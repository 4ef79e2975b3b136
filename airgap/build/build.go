// Package build makes bundles. It owns their order and their exact bytes: the
// same request over the same content gives the same file. It refuses content
// that it has not proved: every layer is unpacked once and must be what its
// image's config says. It decides nothing about what belongs into a bundle;
// the caller names every part.
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
	"github.com/plinthdev/plinth/internal/problem"
)

// Request says what goes into a bundle. The order of each list is the order in
// the file: what a starting host needs first comes first.
type Request struct {
	Name        string // metadata.name of the Installer
	Installer   []byte // installer.yaml
	Application []byte // KOTS Application manifest; nil for none
	Layout      string // folder in OCI image layout that has the host files and images
	HostFiles   []HostFile
	Charts      []Chart
	Images      []string // full references, boot-critical ones first
	Platform    string   // "" means linux/amd64
	Release     int64    // the vendor's number of this release; 0 for none
	Expires     time.Time
	Sign        func(index []byte) ([]byte, error) // nil for an unsigned bundle
	Work        string                             // folder for work files; "" for the system's own
	Thin        bool                               // leave out the content of images and host files
	Progress    func(done, total int64)
}

// HostFile names a host file of the layout; the version must match exactly.
type HostFile struct{ Name, Version string }

// Chart is a packaged Helm chart.
type Chart struct {
	Name, Version string
	Archive       []byte // .tgz
}

// maxArchive is the most bytes a chart, an installer or an application may have.
const maxArchive = blob.MaxDocument

// File writes the bundle to path, which appears complete or not at all, with
// mode 0644, and gives the bundle's digest. The work file stands beside path.
// Errors are problems with the exit code for a bad bundle.
func File(ctx context.Context, req Request, path string) (digest.Digest, error) {
	var d digest.Digest
	err := toFile(ctx, path, func(w io.Writer) (err error) {
		d, err = Write(ctx, req, w)
		return err
	})
	return d, err
}

func toFile(ctx context.Context, path string, write func(io.Writer) error) error {
	err := blob.WriteFile(path, write)
	var p *problem.Problem
	if err != nil && !errors.As(err, &p) && ctx.Err() == nil {
		err = problem.New(problem.ExitBundle, "write bundle "+path, err,
			"name a file in a folder that exists, that you may write to and that has room for the bundle")
	}
	return err
}

// Write writes the bundle to w and gives its digest.
func Write(ctx context.Context, req Request, w io.Writer) (digest.Digest, error) {
	p, err := prepare(ctx, req)
	if err != nil {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return "", err
		}
		return "", problem.New(problem.ExitBundle, "build bundle "+req.Name, err,
			"the source "+req.Layout+" must hold all that the Installer asks for, undamaged: build or fetch it again")
	}
	return digest.FromBytes(p.Index), p.Write(ctx, w)
}

// Archive is a bundle that only has to be written.
type Archive struct {
	Index     []byte
	Signature []byte               // empty for none
	Delta     []byte               // a format.Delta; empty for a bundle that is none
	Blobs     []ocispec.Descriptor // each once, in the order of the file
	Source    blob.Source
}

// Full is what a bundle is written from that has all its content, or was given it.
func Full(b *airgap.Bundle) Archive {
	return Archive{Index: b.RawIndex(), Signature: b.Signature(), Blobs: order(b.Items()), Source: b}
}

// Thin is Full without the content of images and host files.
func Thin(b *airgap.Bundle) Archive {
	a := Full(b)
	a.Blobs = slender(b.Items())
	return a
}

// File writes the archive as package function File does.
func (p Archive) File(ctx context.Context, path string) error {
	return toFile(ctx, path, func(w io.Writer) error { return p.Write(ctx, w) })
}

// Write puts the tar together.
func (p Archive) Write(ctx context.Context, w io.Writer) error {
	t := tarWriter{w: w}
	t.add(format.LayoutEntry, int64(len(blob.LayoutFile)), bytes.NewReader([]byte(blob.LayoutFile)))
	t.add(format.IndexEntry, int64(len(p.Index)), bytes.NewReader(p.Index))
	sum := []byte(format.Checksum(p.Index))
	t.add(format.ChecksumEntry, int64(len(sum)), bytes.NewReader(sum))
	if len(p.Signature) > 0 {
		t.add(format.SignatureEntry, int64(len(p.Signature)), bytes.NewReader(p.Signature))
	}
	if len(p.Delta) > 0 {
		t.add(format.DeltaEntry, int64(len(p.Delta)), bytes.NewReader(p.Delta))
	}
	for _, desc := range p.Blobs {
		if t.err != nil {
			break
		}
		r, err := p.Source.Open(ctx, desc)
		if err != nil {
			return err
		}
		t.add(format.BlobEntry(desc.Digest), desc.Size, r)
		_ = r.Close()
	}
	t.zeros(2 * 512)
	return t.err
}

// tarWriter writes entries exactly as package format wants them; the first
// error stays.
type tarWriter struct {
	w   io.Writer
	buf []byte
	err error
}

func (t *tarWriter) add(name string, size int64, content io.Reader) {
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
	t.zeros(format.Padding(size))
}

func (t *tarWriter) zeros(n int64) {
	if t.err == nil {
		_, t.err = t.w.Write(make([]byte, n))
	}
}
