package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/problem"
)

// Directory is a folder with exactly this mode.
type Directory struct {
	Path string      // absolute
	Mode fs.FileMode // permission bits
}

// Check looks and changes nothing; missing says what Apply would change.
func (d Directory) Check(f host.Files) (missing string, err error) {
	info, err := f.Lstat(d.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return d.Path + " does not exist", nil
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", problem.Newf(problem.ExitStep, "use "+d.Path, "move it out of the way", "it is not a folder")
	case info.Mode().Perm() != d.Mode:
		return fmt.Sprintf("%s has mode %04o, needs %04o", d.Path, info.Mode().Perm(), d.Mode), nil
	}
	return "", nil
}

// Apply makes the folder.
func (d Directory) Apply(f host.Files) error { return f.MkdirAll(d.Path, d.Mode) }

// DataDir is Plinth's own folder, and the file that names it to later commands.
type DataDir struct {
	Path    string // absolute
	Pointer string // absolute; "" for none
}

// Paths is what Apply may change.
func (d DataDir) Paths() []string {
	if d.Pointer == "" {
		return []string{d.Path}
	}
	return []string{d.Path, d.Pointer}
}

// Check looks and changes nothing; missing says what Apply would change.
func (d DataDir) Check(f host.Files) (missing string, err error) {
	if missing, err = d.folder().Check(f); err != nil || missing != "" || d.Pointer == "" {
		return missing, err
	}
	if raw, err := f.ReadFile(d.Pointer); err != nil || string(raw) != d.Path+"\n" {
		return d.Pointer + " does not name it", nil
	}
	return "", nil
}

// Apply makes the folder and the file.
func (d DataDir) Apply(f host.Files) error {
	if err := d.folder().Apply(f); err != nil || d.Pointer == "" {
		return err
	}
	return f.Write(d.Pointer, strings.NewReader(d.Path+"\n"), 0o644)
}

// folder has mode 0711: programs of other users (volumes) pass through, nobody
// lists it.
func (d DataDir) folder() Directory { return Directory{Path: d.Path, Mode: 0o711} }

// Artifact is a file from the bundle at its place on the host.
type Artifact struct {
	Path   string        // absolute
	Mode   fs.FileMode   // permission bits
	Size   int64         // bytes
	Digest digest.Digest // sha256 of the content
	// Open streams the content; it fails at its end when size or digest differ.
	Open func() (io.ReadCloser, error)
}

// Check looks and changes nothing; missing says what Apply would change.
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
		return a.Path + " differs from the bundle's", nil
	}
	return "", nil
}

// Apply puts the content in place, atomically: a running program goes on with
// the old one.
func (a Artifact) Apply(f host.Files) error {
	r, err := a.Open()
	if err != nil {
		return err
	}
	err = f.Write(a.Path, r, a.Mode)
	return errors.Join(err, r.Close())
}

// Firewall names the host's own firewall, where one is active, and what it
// means for a node; "" when none is. It only looks.
func Firewall(ctx context.Context, h host.Host) (string, error) {
	st, err := h.UnitState(ctx, "firewalld.service")
	if err != nil {
		return "", err
	}
	if st.Running() {
		return "firewalld is active: it drops what pods and other nodes send unless its zones allow the pod and service networks and the node's ports", nil
	}
	// ufw's unit is active also when its rules are off.
	if conf, err := h.ReadFile("/etc/ufw/ufw.conf"); err == nil && strings.Contains("\n"+string(conf), "\nENABLED=yes") {
		return "ufw is enabled: it drops what pods and other nodes send unless rules allow the pod and service networks and the node's ports", nil
	}
	return "", nil
}
