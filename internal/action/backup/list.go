package backup

import (
	"errors"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/action"
	format "github.com/plinthdev/plinth/internal/backup"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/problem"
)

// Entry is a backup in a folder. Its JSON format is public.
type Entry struct {
	Path string `json:"path"`
	Size int64  `json:"size"` // bytes
	format.Header
	Problem string `json:"problem,omitempty"` // why its header cannot be read
}

// List returns the backups in a folder and in the folders of nodes in it, newest first, by their headers.
func List(env *action.Env, folder string) ([]Entry, error) {
	dir, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	all, err := listFolder(env.Host, dir)
	if err != nil {
		return nil, problem.New(problem.ExitUsage, "list the backups in "+folder, err, "give the folder of --to")
	}
	entries, err := env.Host.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if more, err := listFolder(env.Host, path.Join(dir, e.Name())); err == nil { // lost+found and others are not ours
			all = append(all, more...)
		}
	}
	sortNewestFirst(all)
	return all, nil
}

// sortNewestFirst sorts backups by their time; those without a header are last.
func sortNewestFirst(all []Entry) {
	slices.SortStableFunc(all, func(x, y Entry) int { return y.TakenAt.Compare(x.TakenAt) })
}

// folderReader is the part of a host that listFolder needs.
type folderReader interface {
	host.Files
	host.Streams
}

// listFolder returns the backups in dir, newest first.
func listFolder(h folderReader, dir string) ([]Entry, error) {
	names, err := h.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	all := []Entry{}
	for _, n := range names {
		if !strings.HasSuffix(n.Name(), format.Suffix) || !n.Type().IsRegular() {
			continue
		}
		e := Entry{Path: path.Join(dir, n.Name())}
		if info, err := n.Info(); err == nil {
			e.Size = info.Size()
		}
		if e.Header, err = readHeader(h, e.Path); err != nil {
			e.Problem = err.Error()
		}
		all = append(all, e)
	}
	sortNewestFirst(all)
	return all, nil
}

// readHeader returns the header of the file p.
func readHeader(h host.Streams, p string) (format.Header, error) {
	r, err := h.OpenFile(p)
	if err != nil {
		return format.Header{}, err
	}
	header, err := format.ReadHeader(r)
	return header, errors.Join(err, r.Close())
}

// Verification is the result of Verify. Its JSON format is public.
type Verification struct {
	Path     string        `json:"path"`
	Backup   format.Header `json:"backup"`
	Verified Verified      `json:"verified"`
	Nodes    []format.Node `json:"nodes,omitempty"` // only if it was decrypted
	Files    int           `json:"files,omitempty"` // only if it was decrypted
}

// Verify reads a whole backup. Without a key for an encrypted one, it compares the file with the digest at
// its end only.
func Verify(env *action.Env, file string, flags KeyFlags) (Verification, error) {
	v := Verification{Path: file}
	open, err := OpenFile(env, file)
	if err != nil {
		return v, err
	}
	key, given, err := flags.key()
	if err != nil {
		return v, err
	}
	h, _, err := format.VerifyBytes(open)
	if err != nil {
		return v, Refusal("verify the backup "+file, err)
	}
	v.Backup, v.Verified = h, Bytes
	if !given && h.Encryption != format.Unencrypted {
		return v, nil
	}
	m, err := format.Verify(open, key)
	if err != nil {
		return v, Refusal("verify the backup "+file, err)
	}
	v.Verified, v.Nodes, v.Files = Content, m.Nodes, len(m.Files)
	return v, nil
}

// OpenFile returns the source of a backup that the user named.
func OpenFile(env *action.Env, file string) (format.Source, error) {
	p, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return env.Host.OpenFile(p) }
	r, err := open()
	if err != nil {
		return nil, problem.New(problem.ExitUsage, "open the backup "+file, errors.Unwrap(err), "check the path; a backup can be read by root only")
	}
	return open, r.Close()
}

// Refusal returns the problem of a backup that cannot be used because of err.
func Refusal(operation string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, format.ErrDamaged):
		hint = "use another copy or an older backup: plinth backup list FOLDER"
	case errors.Is(err, format.ErrKey):
		hint = "name its private key with --identity-file, or its passphrase with --passphrase-file"
	case errors.Is(err, format.ErrNotBackup):
		hint = "name a file that `plinth backup` has written"
	case errors.Is(err, format.ErrNewer):
		hint = "use the version of Plinth that wrote it, or a newer one"
	default:
		return problem.New(problem.ExitUsage, operation, err, "check the file; nothing was changed")
	}
	return problem.New(problem.ExitBundle, operation, err, hint)
}
