// Package oci writes the payload's reproducible bytes: tar layers compressed with
// zstd, and an OCI image layout whose index is replaced atomically. Clocks, users
// and map order do not influence them: the same content has the same digest.
package oci

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// Entry is one path in a layer: a folder, a symbolic link or a file. The content
// of a file is that of File (a path on this machine) or, if File is empty, Data.
type Entry struct {
	Dir   bool
	Link  string
	File  string
	Data  []byte
	Mode  uint32 // permission bits, setuid and sticky included
	Owner int    // uid and gid
	// NetBindService gives an executable the capability to listen on ports below 1024, for any user.
	NetBindService bool
}

// netBindService is the value of the attribute security.capability with CAP_NET_BIND_SERVICE (10) permitted and
// effective, as in struct vfs_cap_data of linux/capability.h, revision 2.
const netBindService = "\x01\x00\x00\x02" + "\x00\x04\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"

// Tree is the content of a layer: absolute path → entry.
type Tree map[string]Entry

// Add adds an entry. WriteTar adds missing parent folders, owned by root and with
// mode 0755. A path that is not absolute and clean is an error.
func (t Tree) Add(name string, e Entry) error {
	clean := path.Clean("/" + name)
	if clean == "/" || clean != "/"+strings.Trim(name, "/") {
		return fmt.Errorf("%q is not a path for a layer", name)
	}
	t[clean] = e
	return nil
}

// withParents returns the tree with all missing parent folders of its entries.
func (t Tree) withParents() Tree {
	out := maps.Clone(t)
	for name := range t {
		for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
			if _, ok := out[dir]; !ok {
				out[dir] = Entry{Dir: true, Mode: 0o755}
			}
		}
	}
	return out
}

// WriteTar writes the tree as a tar, sorted by path, each entry with the same time.
func (t Tree) WriteTar(w io.Writer, when time.Time) error {
	tw := tar.NewWriter(w)
	full := t.withParents()
	for _, name := range slices.Sorted(maps.Keys(full)) {
		if err := writeEntry(tw, name, full[name], when); err != nil {
			return fmt.Errorf("layer entry %s: %w", name, err)
		}
	}
	return tw.Close()
}

func writeEntry(tw *tar.Writer, name string, e Entry, when time.Time) error {
	h := &tar.Header{Name: strings.TrimPrefix(name, "/"), Mode: int64(e.Mode), Uid: e.Owner, Gid: e.Owner, ModTime: when}
	switch {
	case e.Dir:
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		return tw.WriteHeader(h)
	case e.Link != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, e.Link, 0o777
		return tw.WriteHeader(h)
	}
	content, size, err := e.openContent()
	if err != nil {
		return err
	}
	defer func() { _ = content.Close() }()
	h.Typeflag, h.Size = tar.TypeReg, size
	if e.NetBindService {
		h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": netBindService}
	}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(tw, content)
	return err
}

func (e Entry) openContent() (io.ReadCloser, int64, error) {
	if e.File == "" {
		return io.NopCloser(bytes.NewReader(e.Data)), int64(len(e.Data)), nil
	}
	f, err := os.Open(e.File)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, st.Size(), nil
}
