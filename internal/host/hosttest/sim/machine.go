// Package sim simulates a small Linux host for tests. Files, units, processes, links, mounts,
// packet rules and users are one value, so that a test can keep the state that a failed run leaves,
// continue from it in several ways, and compare the results. An unknown command fails the test.
package sim

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host"
)

// Object is one object on the host: the mode and content of a file, the target of a symbolic link, or
// the properties of something else.
type Object struct {
	Mode fs.FileMode
	Data string
}

// State is the state of the host: files by path, everything else by kind and name, such as "link
// eth0".
type State map[string]Object

// Now returns the time on every machine, which never changes.
func Now() time.Time { return time.Unix(1700000000, 0) }

// Machine is a host that changes its State.
type Machine struct {
	State State
	// OnChange is called before each change with a description of it; nil for none.
	OnChange func(what string)
	t        testing.TB
	mu       sync.Mutex // of State while a file is written: what is written can come from files that are read at that time
}

// New returns a machine that starts with a copy of state. An unknown command fails t.
func New(t testing.TB, state State) *Machine { return &Machine{State: maps.Clone(state), t: t} }

// Differences returns at most 10 differences between two states, in words: "-" marks what have lacks, "+" what only it has.
func Differences(want, have State) (all []string) {
	for key, thing := range want {
		if other, ok := have[key]; !ok {
			all = append(all, "- "+key)
		} else if other != thing {
			all = append(all, fmt.Sprintf("~ %s: %v %.200q → %v %.200q", key, thing.Mode, thing.Data, other.Mode, other.Data))
		}
	}
	for key := range have {
		if _, ok := want[key]; !ok {
			all = append(all, "+ "+key)
		}
	}
	slices.Sort(all)
	return all[:min(len(all), 10)]
}

// WithoutTransient returns a copy of state without what may differ between two runs that end the same: the journal in dataDir,
// temporary files, the socket folder of k0s, the order of mounts, and the keys for which drop reports true; nil for none.
func WithoutTransient(state State, dataDir string, drop func(key string) bool) State {
	kept := maps.Clone(state)
	maps.DeleteFunc(kept, func(key string, _ Object) bool {
		return strings.HasPrefix(key, dataDir+"/journal.") || strings.HasPrefix(key, dataDir+"/.journal.") || strings.HasSuffix(key, ".plinth-tmp") ||
			key == "/run/k0s" || drop != nil && drop(key)
	})
	lines := strings.Split(kept[MountInfoPath].Data, "\n")
	slices.Sort(lines)
	kept[MountInfoPath] = Object{Data: strings.Join(lines, "\n")}
	return kept
}

// Copy returns a copy of the state of the machine, also while a file is written.
func (m *Machine) Copy() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.State)
}

// Host returns the machine as a host.Host.
func (m *Machine) Host() host.Host {
	return host.Host{Commands: m, Files: fileSystem{m}, Links: fileSystem{m}, Streams: fileSystem{m}, Units: unitTable{m}, Processes: processTable{m}, AddressSets: addressSets{m}}
}

func (m *Machine) reportChange(format string, args ...any) {
	if m.OnChange != nil {
		m.OnChange(fmt.Sprintf(format, args...))
	}
}

// PutFile creates or changes the file p, and creates its parent folders.
func (s State) PutFile(p, data string, mode fs.FileMode) {
	for dir := path.Dir(p); dir != "/"; dir = path.Dir(dir) {
		if _, ok := s[dir]; !ok {
			s[dir] = Object{Mode: fs.ModeDir | 0o755}
		}
	}
	s[p] = Object{mode, data}
}

// ListNames returns the names of the objects of a kind, sorted.
func (s State) ListNames(kind string) []string {
	var all []string
	for key := range s {
		if name, ok := strings.CutPrefix(key, kind+" "); ok {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// pathsBelow returns the paths in dir, at any depth, sorted.
func (s State) pathsBelow(dir string) []string {
	var all []string
	for key := range s {
		if strings.HasPrefix(key, strings.TrimSuffix(dir, "/")+"/") {
			all = append(all, key)
		}
	}
	slices.Sort(all)
	return all
}

// fileSystem implements host.Files, host.Links and host.Streams on a machine.
type fileSystem struct{ *Machine }

type fileInfo struct {
	name string
	Object
}

func (i fileInfo) Name() string               { return i.name }
func (i fileInfo) Size() int64                { return int64(len(i.Data)) }
func (i fileInfo) Mode() fs.FileMode          { return i.Object.Mode }
func (i fileInfo) Type() fs.FileMode          { return i.Object.Mode.Type() }
func (i fileInfo) ModTime() time.Time         { return Now() }
func (i fileInfo) IsDir() bool                { return i.Object.Mode.IsDir() }
func (i fileInfo) Sys() any                   { return nil }
func (i fileInfo) Info() (fs.FileInfo, error) { return i, nil }

func (f fileSystem) Lstat(p string) (fs.FileInfo, error) {
	f.mu.Lock()
	thing, ok := f.State[p]
	f.mu.Unlock()
	if !ok {
		return nil, &fs.PathError{Op: "lstat", Path: p, Err: fs.ErrNotExist}
	}
	return fileInfo{path.Base(p), thing}, nil
}

func (f fileSystem) ReadFile(p string) ([]byte, error) {
	f.mu.Lock()
	thing, ok := f.State[p]
	f.mu.Unlock()
	if ok && thing.Mode.Type() == fs.ModeSymlink {
		target := thing.Data
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(p), target)
		}
		return f.ReadFile(target)
	}
	if !ok || thing.Mode.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: p, Err: fs.ErrNotExist}
	}
	return []byte(thing.Data), nil
}

func (f fileSystem) OpenFile(p string) (io.ReadCloser, error) {
	content, err := f.ReadFile(p)
	return io.NopCloser(strings.NewReader(string(content))), err
}

func (f fileSystem) ReadDir(dir string) ([]fs.DirEntry, error) {
	if _, ok := f.State[dir]; !ok {
		return nil, &fs.PathError{Op: "readdir", Path: dir, Err: fs.ErrNotExist}
	}
	var all []fs.DirEntry
	for _, p := range f.State.pathsBelow(dir) {
		if path.Dir(p) == dir {
			all = append(all, fileInfo{path.Base(p), f.State[p]})
		}
	}
	return all, nil
}

// Write writes a temporary file and renames it, as a real host does.
func (f fileSystem) Write(p string, r io.Reader, perm fs.FileMode) error {
	f.reportChange("write %s", p)
	temp, data := host.TempPath(p), ""
	f.put(temp, data, 0o600)
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		data += string(buf[:n])
		f.put(temp, data, 0o600)
		if err == io.EOF {
			break
		}
		if err != nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			delete(f.State, temp)
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.State, temp)
	f.State.PutFile(p, data, perm)
	return nil
}

func (m *Machine) put(p, data string, mode fs.FileMode) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.State.PutFile(p, data, mode)
}

// Symlink creates a temporary link and renames it, as a real host does.
func (f fileSystem) Symlink(target, p string) error {
	f.reportChange("link %s", p)
	temp := host.TempPath(p)
	f.State.PutFile(temp, target, fs.ModeSymlink|0o777)
	f.reportChange("rename %s", temp)
	delete(f.State, temp)
	f.State.PutFile(p, target, fs.ModeSymlink|0o777)
	return nil
}

// Place creates the file p at once, as a real host does with a file that has no name until it is
// complete.
func (f fileSystem) Place(p string, r io.Reader, perm fs.FileMode) error {
	if _, ok := f.State[p]; ok {
		return &fs.PathError{Op: "link", Path: p, Err: fs.ErrExist}
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	f.reportChange("place %s", p)
	f.State.PutFile(p, string(data), perm)
	return nil
}

func (f fileSystem) MkdirAll(p string, perm fs.FileMode) error {
	if thing, ok := f.State[p]; ok && thing.Mode == fs.ModeDir|perm {
		return nil
	}
	f.reportChange("mkdir %s", p)
	f.State.PutFile(p, "", fs.ModeDir|perm)
	return nil
}

// RemoveAll can be interrupted between any two of the paths below p.
func (f fileSystem) RemoveAll(p string) error {
	for _, point := range mountPoints(f.State) {
		if point == p || strings.HasPrefix(point, p+"/") {
			return fmt.Errorf("%s is a mount point: unmount it first", point)
		}
	}
	// As a real host: the entries of a folder in their order, each with everything below it first.
	all := append(f.State.pathsBelow(p), p)
	slices.SortFunc(all, func(a, b string) int {
		switch {
		case strings.HasPrefix(a, b+"/"):
			return -1
		case strings.HasPrefix(b, a+"/"):
			return 1
		}
		return strings.Compare(strings.ReplaceAll(a, "/", "\x00"), strings.ReplaceAll(b, "/", "\x00"))
	})
	for _, below := range all {
		if _, ok := f.State[below]; ok {
			f.reportChange("remove %s", below)
			delete(f.State, below)
		}
	}
	return nil
}
