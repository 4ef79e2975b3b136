package node

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/host"
)

// ProgramPath is the path at which an install puts this program, because every hint names commands
// of `plinth`.
const ProgramPath = "/usr/local/bin/plinth"

// Program is this program at ProgramPath. A file that no install of Plinth put there belongs to
// the host's owner, also a copy of this program: it is neither changed nor removed.
type Program struct {
	File      Artifact        // this program
	Installed []digest.Digest // what earlier runs put there, from the journal
}

// Check returns what Apply would change, or "" if nothing. It changes nothing.
func (p Program) Check(ctx context.Context, h host.Host) (missing string, err error) {
	have, err := contentDigest(h, p.File.Path)
	if err == nil && !slices.Contains(p.Installed, have) {
		return "", nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return p.File.Check(ctx, h)
}

// IsForeign reports whether the file at the path is neither this program nor what earlier runs put
// there.
func (p Program) IsForeign(h host.Host) (bool, error) {
	have, err := contentDigest(h, p.File.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return have != p.File.Digest && !slices.Contains(p.Installed, have), err
}

// IsInstalled reports whether the file at the path is what an earlier run put there.
func (p Program) IsInstalled(h host.Host) (bool, error) {
	have, err := contentDigest(h, p.File.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return slices.Contains(p.Installed, have), err
}

// contentDigest returns the digest of a file; "" for anything that is not a regular file.
func contentDigest(h host.Host, path string) (digest.Digest, error) {
	info, err := h.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return "", err
	}
	r, err := h.OpenFile(path)
	if err != nil {
		return "", err
	}
	sum, err := digest.SHA256.FromReader(r)
	return sum, errors.Join(err, r.Close())
}
