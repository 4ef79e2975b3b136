package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/problem"
)

// Directory is a folder with an exact mode.
type Directory struct {
	Path string      // absolute
	Mode fs.FileMode // permission bits
}

// Check returns what Apply would change, or "" if nothing. It changes nothing.
func (d Directory) Check(f host.Files) (missing string, err error) {
	info, err := f.Lstat(d.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return d.Path + " does not exist", nil
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", problem.Newf(problem.ExitStep, "use "+d.Path, "move it to another path, for example: mv "+d.Path+" "+d.Path+".old", "it is not a folder")
	case info.Mode().Perm() != d.Mode:
		return fmt.Sprintf("%s has mode %04o, needs %04o", d.Path, info.Mode().Perm(), d.Mode), nil
	}
	return "", nil
}

// Apply creates the folder and sets its mode.
func (d Directory) Apply(f host.Files) error { return f.MkdirAll(d.Path, d.Mode) }

// DataDir is Plinth's data folder and the file that tells later commands its path.
type DataDir struct {
	Path    string // absolute
	Pointer string // absolute path of that file; "" for none
}

// Paths returns the paths that Apply may change.
func (d DataDir) Paths() []string {
	if d.Pointer == "" {
		return []string{d.Path}
	}
	return []string{d.Path, d.Pointer}
}

// Check returns what Apply would change, or "" if nothing. It changes nothing.
func (d DataDir) Check(f host.Files) (missing string, err error) {
	if missing, err = d.asDirectory().Check(f); err != nil || missing != "" {
		return missing, err
	}
	if missing, err = (Volumes{d.Path}).Check(f); err != nil || missing != "" || d.Pointer == "" {
		return missing, err
	}
	if raw, err := f.ReadFile(d.Pointer); err != nil || string(raw) != d.Path+"\n" {
		return d.Pointer + " does not contain " + d.Path, nil
	}
	return "", nil
}

// Apply creates the folder, the folder of the volumes in it, and the file.
func (d DataDir) Apply(ctx context.Context, h host.Host) error {
	if err := d.asDirectory().Apply(h); err != nil {
		return err
	}
	if err := (Volumes{d.Path}).Apply(ctx, h); err != nil || d.Pointer == "" {
		return err
	}
	return h.Write(d.Pointer, strings.NewReader(d.Path+"\n"), 0o644)
}

// asDirectory returns the data folder with mode 0711: other users can traverse it, but not list it.
func (d DataDir) asDirectory() Directory { return Directory{Path: d.Path, Mode: 0o711} }

// VolumesDir is the name of the folder in the data folder that contains the volumes.
const VolumesDir = "volumes"

// Volumes is the folder of the volumes. Volumes are writable for every user, because pods run as
// any user; only root may reach the folder above them. Pods do not need it: the container runtime
// mounts each volume as root.
type Volumes struct {
	DataDir string // data folder that contains it
}

// asDirectory returns the folder with its mode.
func (v Volumes) asDirectory() Directory {
	return Directory{Path: filepath.Join(v.DataDir, VolumesDir), Mode: 0o700}
}

// Check returns what Apply would change, or "" if nothing. It changes nothing.
func (v Volumes) Check(f host.Files) (missing string, err error) {
	d := v.asDirectory()
	if missing, err = d.Check(f); err != nil || missing != "" {
		return missing, err
	}
	info, err := f.Lstat(d.Path)
	if err != nil {
		return "", err
	}
	uid, gid := host.Owner(info)
	if uid != 0 && uid != os.Geteuid() || gid != 0 && gid != os.Getegid() { // a test may run without root
		return fmt.Sprintf("%s belongs to %d:%d, needs root", d.Path, uid, gid), nil
	}
	return "", nil
}

// Apply creates the folder and sets its owner and mode. It does not change the volumes in it.
func (v Volumes) Apply(ctx context.Context, h host.Host) error {
	d := v.asDirectory()
	if err := d.Apply(h); err != nil {
		return err
	}
	if missing, err := v.Check(h); err != nil || missing == "" {
		return err
	}
	_, err := h.Run(ctx, host.Cmd{Argv: []string{"chown", "0:0", d.Path}})
	return err
}

// Exposed returns why users other than root can reach the volumes, or "" if they cannot or if there
// is no such folder.
func (v Volumes) Exposed(f host.Files) string {
	if _, err := f.Lstat(v.asDirectory().Path); err != nil {
		return ""
	}
	why, err := v.Check(f)
	if err != nil {
		return err.Error()
	}
	return why
}

// Artifact is a file from the bundle and its path on the host.
type Artifact struct {
	Path   string        // absolute
	Mode   fs.FileMode   // permission bits
	Size   int64         // bytes
	Digest digest.Digest // sha256 of the content
	// Open returns a stream of the content. The stream fails at its end if the size or the digest
	// differs.
	Open func() (io.ReadCloser, error)
}

// Check returns what Apply would change, or "" if nothing. It changes nothing.
func (a Artifact) Check(ctx context.Context, h host.Host) (missing string, err error) {
	info, err := h.Lstat(a.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return a.Path + " does not exist", nil
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return a.Path + " is not a regular file", nil
	case info.Size() != a.Size:
		return fmt.Sprintf("%s has %d bytes, needs %d", a.Path, info.Size(), a.Size), nil
	case info.Mode().Perm() != a.Mode:
		return fmt.Sprintf("%s has mode %04o, needs %04o", a.Path, info.Mode().Perm(), a.Mode), nil
	}
	r, err := h.OpenFile(a.Path)
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Close() }()
	v := a.Digest.Verifier()
	if _, err := io.Copy(v, r); err != nil {
		return "", err
	}
	if !v.Verified() {
		return a.Path + " differs from the file in the bundle", nil
	}
	return "", nil
}

// Apply writes the file atomically. A program that runs the old file continues to run it.
func (a Artifact) Apply(f host.Files) error {
	r, err := a.Open()
	if err != nil {
		return err
	}
	err = f.Write(a.Path, r, a.Mode)
	return errors.Join(err, r.Close())
}
