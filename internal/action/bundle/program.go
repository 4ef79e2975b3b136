package bundle

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap/embed"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/action/source"
)

// namedPrograms returns the executables that a bundle for platform names as those that nodes may take in an upgrade: the
// executable at path without a bundle in it, as it is, without a key, and with the vendor's key, if that is not zero.
// path "" is this executable, which a bundle for another platform does not name.
func namedPrograms(ctx context.Context, path, platform string, key trust.PublicKey) (all []format.Program, err error) {
	s, closer, err := source.OpenExecutable(cmp.Or(path, source.ExecutablePath))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	if err := checkProgram("name the executable in the bundle", s.Program, platform, "name the executable for it with --program"); err != nil {
		if path == "" {
			return nil, nil
		}
		return nil, err
	}
	add := func(write func(io.Writer) error) {
		if err != nil {
			return
		}
		size, sum := countingWriter(0), digest.SHA256.Digester()
		err = write(contextWriter{ctx, io.MultiWriter(&size, sum.Hash())})
		if p := (format.Program{Digest: sum.Digest(), Size: int64(size)}); !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	if s.Key.IsZero() {
		add(func(w io.Writer) error {
			_, err := io.Copy(w, io.NewSectionReader(s.Program, 0, s.Program.Size()))
			return err
		})
	}
	for _, k := range []trust.PublicKey{s.Key, {}, key} {
		add(func(w io.Writer) error { return embed.Write(w, embed.Embedded{Program: s.Program, Key: k}) })
	}
	return all, err
}

// countingWriter counts the bytes that are written.
type countingWriter int64

func (c *countingWriter) Write(p []byte) (int, error) {
	*c += countingWriter(len(p))
	return len(p), nil
}
