package sbom

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/format"
)

// FindExecutables returns the Go programs in a layer of an image, or in a host
// file. It writes them one at a time to an unnamed temporary file in dir, so that
// memory use does not depend on their sizes.
func FindExecutables(ctx context.Context, src blob.Source, it format.Item, l format.Layer, dir string) ([]Executable, error) {
	r, err := src.Open(ctx, l.Descriptor)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	u, err := blob.Unpack(r, l.MediaType)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", it, err)
	}
	defer func() { _ = u.Close() }()
	s := scanner{dir: dir}
	if it.Kind == format.KindHost {
		err = s.scanFile(it.Name, u)
	} else {
		err = s.scanLayer(u)
	}
	if err != nil {
		err = fmt.Errorf("cannot scan %s for Go programs: %w", it, err)
	}
	return s.found, err
}

type scanner struct {
	dir   string
	found []Executable
}

// scanLayer scans the executable regular files of a tar archive.
func (s *scanner) scanLayer(r io.Reader) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r) // a verifying reader reports a mismatch at the end
			return err
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || h.Mode&0o111 == 0 {
			continue
		}
		if err := s.scanFile(path.Clean("/"+h.Name), t); err != nil {
			return err
		}
	}
}

// scanFile records the build information of a Go program; other files are
// skipped.
func (s *scanner) scanFile(name string, r io.Reader) error {
	b := bufio.NewReaderSize(r, 1<<16)
	if magic, _ := b.Peek(4); string(magic) != "\x7fELF" {
		_, err := io.Copy(io.Discard, b)
		return err
	}
	f, err := blob.TempFile(s.dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(f, sum), b); err != nil {
		return err
	}
	info, err := buildinfo.Read(f)
	if err != nil {
		return nil // another language, or stripped: no build information
	}
	s.found = append(s.found, Executable{name, digest.NewDigest(digest.SHA256, sum), info})
	return nil
}
