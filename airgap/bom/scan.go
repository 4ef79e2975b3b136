package bom

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

// Scan finds the Go programs in a layer of an image, or in a host file. Each is
// written to a work file without a name in dir, one at a time: memory does not
// depend on sizes.
func Scan(ctx context.Context, src blob.Source, it format.Item, l format.Layer, dir string) ([]Executable, error) {
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
		err = s.file(it.Name, u)
	} else {
		err = s.layer(u)
	}
	if err != nil {
		err = fmt.Errorf("look for programs in %s: %w", it, err)
	}
	return s.found, err
}

type scanner struct {
	dir   string
	found []Executable
}

// layer looks at the regular files of a tar.
func (s *scanner) layer(r io.Reader) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r) // a verifying reader speaks at its end
			return err
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || h.Mode&0o111 == 0 {
			continue
		}
		if err := s.file(path.Clean("/"+h.Name), t); err != nil {
			return err
		}
	}
}

// file keeps what a Go program says of itself; anything else is passed over.
func (s *scanner) file(name string, r io.Reader) error {
	b := bufio.NewReaderSize(r, 1<<16)
	if magic, _ := b.Peek(4); string(magic) != "\x7fELF" {
		_, err := io.Copy(io.Discard, b)
		return err
	}
	f, err := blob.WorkFile(s.dir)
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
		return nil // of another language, or stripped of it: nothing is known
	}
	s.found = append(s.found, Executable{name, digest.NewDigest(digest.SHA256, sum), info})
	return nil
}
