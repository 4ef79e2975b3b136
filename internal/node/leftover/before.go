package leftover

import (
	"bytes"
	"errors"
	"io/fs"
	"path"

	"github.com/plinthdev/plinth/internal/host"
)

// Before is what stood on a host before an install, as far as the install may
// change it. It is plain data for the journal.
type Before struct {
	Sysctls map[string]string `json:"sysctls"` // value in force; "" when the kernel had no such key
	Paths   map[string]Path   `json:"paths"`   // what existed of the paths that are touched, and in the folders
	Mounts  []string          `json:"mounts"`  // mount points in the cluster's folders
	Users   []string          `json:"users"`   // those of the cluster's users that existed
	Tables  []string          `json:"tables"`  // nftables tables, "family name"; null where nobody could tell
}

// Path is one file or folder as it was.
type Path struct {
	Mode    fs.FileMode `json:"mode"`              // type and permission bits
	Kept    bool        `json:"kept,omitempty"`    // whether Content is known
	Content []byte      `json:"content,omitempty"` // of a configuration file
}

// Had reports whether path existed before; without knowledge it did not.
func (b *Before) Had(path string) bool {
	if b == nil {
		return false
	}
	_, ok := b.Paths[path]
	return ok
}

// Remember records what is on disk of what an install of f.Cluster may change:
// files, mounts, users. It changes nothing.
func (f Finder) Remember() (*Before, error) {
	b := &Before{Sysctls: map[string]string{}, Paths: map[string]Path{}}
	for _, p := range f.roots() {
		if err := b.remember(f, p, true); err != nil {
			return nil, err
		}
	}
	for _, p := range f.parents() {
		if err := b.remember(f, p, false); err != nil {
			return nil, err
		}
		for _, e := range entries(f, p) {
			if err := b.remember(f, path.Join(p, e.Name()), false); err != nil {
				return nil, err
			}
		}
	}
	table, err := f.MountTable()
	if err != nil {
		return nil, err
	}
	for _, m := range table {
		if f.inFolders(m.Point) {
			b.Mounts = append(b.Mounts, m.Point)
		}
		if m.Type == "cgroup" || m.Type == "cgroup2" {
			if err := b.remember(f, path.Join(m.Point, "system.slice"), false); err != nil {
				return nil, err
			}
		}
	}
	users, err := f.accounts("/etc/passwd")
	for _, u := range users {
		b.Users = append(b.Users, u.name)
	}
	return b, err
}

// remember records p and, of a folder that is the cluster's as a whole, all
// that is in it.
func (b *Before) remember(files host.Files, p string, whole bool) error {
	info, err := files.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	was := Path{Mode: info.Mode()}
	if was.Kept = isConfig(p, info); was.Kept {
		if was.Content, err = files.ReadFile(p); err != nil {
			return err
		}
	}
	b.Paths[p] = was
	if !whole || !info.IsDir() {
		return nil
	}
	for _, e := range entries(files, p) {
		if err := b.remember(files, path.Join(p, e.Name()), true); err != nil {
			return err
		}
	}
	return nil
}

// isConfig tells the files whose content is remembered and restored: below
// /etc, at most 1 MiB, and readable by all: what is remembered goes into a
// journal, which must not hold secrets.
func isConfig(p string, info fs.FileInfo) bool {
	return Below(p, "/etc") && info.Mode().IsRegular() && info.Size() <= 1<<20 && info.Mode()&0o004 != 0
}

// restore puts a remembered file back.
func (b *Before) restore(files host.Files, p string) error {
	was := b.Paths[p]
	return files.Write(p, bytes.NewReader(was.Content), was.Mode.Perm())
}
