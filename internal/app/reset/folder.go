package reset

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/node/leftover"
	"github.com/plinthdev/plinth/internal/step"
)

// removeDataDir empties Plinth's folder and removes it, and the pointer to it.
// One that stood there before stays, empty, with the mode that it had; so does
// a mount point, and one in which something is kept, which it then says. It may
// be killed at any point and run again.
func (a job) removeDataDir(j *journal.Journal, keep []string) step.Step {
	_, stays := j.FolderBefore()
	name := run.ClusterName(j)
	return step.Step{ID: "data-dir", Title: "Remove Plinth's data folder", Touches: []string{a.DataDir},
		Check: func(context.Context) (step.State, error) {
			info, err := a.Host.Lstat(a.DataDir)
			if err == nil && len(a.entries(keep)) > 0 || err == nil && !stays && a.removable(info) {
				return step.Needed(a.DataDir), nil
			}
			if _, err := a.Host.Lstat(journal.Pointer); err == nil {
				return step.Needed(journal.Pointer), nil
			}
			return step.Done(), nil
		},
		Apply: func(context.Context, step.Report) error {
			if err := a.asBefore(j); err != nil {
				return err
			}
			if err := a.markKept(keep, name); err != nil {
				return err
			}
			if err := a.emptyDataDir(j, keep); err != nil {
				return err
			}
			if info, err := a.Host.Lstat(a.DataDir); err == nil && !stays && a.removable(info) {
				if err := a.Host.RemoveAll(a.DataDir); err != nil {
					return err
				}
			}
			return a.Host.RemoveAll(journal.Pointer)
		},
	}
}

// emptyDataDir removes what entries lists. Before what was kept of the host goes,
// the journal says that nothing is left: an install after a kill in between
// looks at the host anew.
func (a job) emptyDataDir(j *journal.Journal, keep []string) error {
	remove := func(names ...string) error {
		for _, name := range names {
			if err := a.Host.RemoveAll(filepath.Join(a.DataDir, name)); err != nil {
				return err
			}
		}
		return nil
	}
	names := a.entries(keep)
	if i := slices.Index(names, node.BeforeDir); i >= 0 && len(j.Runs()) > 0 {
		if err := remove(names[:i]...); err != nil {
			return err
		}
		if err := j.Forget(); err != nil {
			a.Note("warning: " + err.Error()) // a full disk must not keep a reset from making space
		}
		if err := a.asBefore(j); err != nil { // writing the journal makes the folder Plinth's own
			return err
		}
		names = a.entries(keep)
	}
	return remove(names...)
}

// asBefore gives the data folder the mode that it had before the first run, if it
// stood there.
func (a job) asBefore(j *journal.Journal) error {
	mode, stood := j.FolderBefore()
	if !stood {
		return nil
	}
	return a.Host.MkdirAll(a.DataDir, mode)
}

// removable reports whether the data folder is empty and Plinth's own work.
func (a job) removable(info fs.FileInfo) bool {
	list, err := a.Host.ReadDir(a.DataDir)
	mounts, mountErr := leftover.Finder{Host: a.Host}.MountTable()
	return errors.Join(err, mountErr) == nil && len(list) == 0 && info.Mode().Perm() == journal.DirMode &&
		!slices.ContainsFunc(mounts, func(m leftover.Mount) bool { return m.Point == a.DataDir })
}

// entries is what in the data folder is Plinth's but for what is kept. What the
// journal refers to goes late, and the journal last: until then it is what a
// second reset goes by.
func (a job) entries(keep []string) []string {
	list, err := a.Host.ReadDir(a.DataDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var names []string
	for _, e := range list {
		if e.Name() != "lost+found" && !slices.Contains(keep, e.Name()) { // the file system's own
			names = append(names, e.Name())
		}
	}
	rank := func(name string) int {
		switch {
		case name == journal.File:
			return 3
		case name == journal.CopyFile || strings.HasPrefix(name, "."): // or the beginning of either
			return 2
		case name == node.BeforeDir:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(names, func(x, y string) int { return rank(x) - rank(y) })
	return names
}
