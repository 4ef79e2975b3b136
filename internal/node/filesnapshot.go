package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/host"
)

// SavedFile is a file of the host, as it was when it was saved.
type SavedFile struct {
	Path   string        `json:"path"` // absolute
	Mode   fs.FileMode   `json:"mode,omitempty"`
	Size   int64         `json:"size,omitempty"` // bytes
	Digest digest.Digest `json:"digest,omitempty"`
	Absent bool          `json:"absent,omitempty"` // it did not exist
}

// FileSnapshot is a copy of files of the host, to restore them byte for byte.
type FileSnapshot struct {
	Dir   string      `json:"-"`     // private folder with the copies
	Files []SavedFile `json:"files"` // sorted by path
	Trees []string    `json:"trees"` // folders that were saved completely: other files in them are removed
}

// TakeFileSnapshot copies files, and everything in the folders trees, to dir. A path that does not
// exist is recorded; anything but a regular file, such as a symbolic link, is left out, because
// Plinth does not replace it. The caller stores the returned value.
func TakeFileSnapshot(h host.Host, dir string, files, trees []string) (FileSnapshot, error) {
	s := FileSnapshot{Dir: dir, Trees: slices.Sorted(slices.Values(trees))}
	paths := slices.Clone(files)
	for _, tree := range trees {
		below, err := ListFiles(h, tree)
		if err != nil {
			return s, err
		}
		paths = append(paths, below...)
	}
	slices.Sort(paths)
	if err := h.MkdirAll(dir, 0o700); err != nil {
		return s, err
	}
	for _, p := range slices.Compact(paths) {
		f, err := s.save(h, p)
		if err != nil {
			return s, fmt.Errorf("cannot copy %s: %w", p, err)
		}
		if f.Path != "" {
			s.Files = append(s.Files, f)
		}
	}
	return s, nil
}

// copyPath returns the path of the copy of the file p.
func (s FileSnapshot) copyPath(p string) string { return path.Join(s.Dir, p) }

// save copies the file p. It returns a zero SavedFile for anything that is left out.
func (s FileSnapshot) save(h host.Host, p string) (f SavedFile, err error) {
	info, err := h.Lstat(p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return SavedFile{Path: p, Absent: true}, nil
	case err != nil:
		return f, err
	case !info.Mode().IsRegular():
		return f, nil
	}
	in, err := h.OpenFile(p)
	if err != nil {
		return f, err
	}
	sum := digest.SHA256.Digester()
	counted := &byteCounter{}
	err = h.Write(s.copyPath(p), io.TeeReader(in, io.MultiWriter(sum.Hash(), counted)), 0o600)
	return SavedFile{Path: p, Mode: info.Mode().Perm(), Size: counted.n, Digest: sum.Digest()}, errors.Join(err, in.Close())
}

type byteCounter struct{ n int64 }

func (c *byteCounter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// ListFiles returns the files below dir, at any depth; none if dir does not exist.
func ListFiles(h host.Files, dir string) ([]string, error) {
	entries, err := h.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []string
	for _, e := range entries {
		p := path.Join(dir, e.Name())
		if !e.IsDir() {
			all = append(all, p)
			continue
		}
		below, err := ListFiles(h, p)
		if err != nil {
			return nil, err
		}
		all = append(all, below...)
	}
	return all, nil
}

// Changed returns the files that differ from the snapshot, sorted: those to restore, and those to
// remove.
func (s FileSnapshot) Changed(ctx context.Context, h host.Host) (restore []SavedFile, remove []string, err error) {
	known := map[string]bool{}
	for _, f := range s.Files {
		known[f.Path] = true
		if f.Absent {
			if _, err := h.Lstat(f.Path); err == nil {
				remove = append(remove, f.Path)
			} else if !errors.Is(err, fs.ErrNotExist) {
				return nil, nil, err
			}
			continue
		}
		why, err := s.artifact(h, f).Check(ctx, h)
		if err != nil {
			return nil, nil, err
		}
		if why != "" {
			restore = append(restore, f)
		}
	}
	for _, tree := range s.Trees {
		now, err := ListFiles(h, tree)
		if err != nil {
			return nil, nil, err
		}
		for _, p := range now {
			if !known[p] {
				remove = append(remove, p)
			}
		}
	}
	slices.Sort(remove)
	return restore, slices.Compact(remove), nil
}

// Restore writes the saved files back and removes those that did not exist. A copy that was damaged
// since is an error.
func (s FileSnapshot) Restore(ctx context.Context, h host.Host) error {
	restore, remove, err := s.Changed(ctx, h)
	if err != nil {
		return err
	}
	for _, f := range restore {
		if err := s.artifact(h, f).Apply(h); err != nil {
			return fmt.Errorf("cannot restore %s: %w", f.Path, err)
		}
	}
	for _, p := range remove {
		if err := h.RemoveAll(p); err != nil {
			return err
		}
	}
	return s.removeEmptyFolders(h, remove)
}

// removeEmptyFolders removes the folders below the trees from which the last file was removed.
func (s FileSnapshot) removeEmptyFolders(h host.Files, removed []string) error {
	for _, p := range removed {
		for dir := path.Dir(p); slices.ContainsFunc(s.Trees, func(tree string) bool { return strings.HasPrefix(dir, tree+"/") }); dir = path.Dir(dir) {
			entries, err := h.ReadDir(dir)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if len(entries) > 0 {
				break
			}
			if err := h.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// artifact returns the copy of f as an artifact for its path.
func (s FileSnapshot) artifact(h host.Streams, f SavedFile) Artifact {
	return Artifact{Path: f.Path, Mode: f.Mode, Size: f.Size, Digest: f.Digest, Open: func() (io.ReadCloser, error) {
		in, err := h.OpenFile(s.copyPath(f.Path))
		if err != nil {
			return nil, err
		}
		return VerifyDigest(in, f.Digest), nil
	}}
}

// VerifyDigest returns r with an error at its end if its content has another digest than want.
func VerifyDigest(r io.ReadCloser, want digest.Digest) io.ReadCloser {
	return &verifyingReader{r, want.Verifier()}
}

type verifyingReader struct {
	io.ReadCloser
	verifier digest.Verifier
}

func (v *verifyingReader) Read(p []byte) (int, error) {
	n, err := v.ReadCloser.Read(p)
	_, _ = v.verifier.Write(p[:n]) // never fails
	if errors.Is(err, io.EOF) && !v.verifier.Verified() {
		return n, errors.New("its copy was damaged: the digest does not match")
	}
	return n, err
}
