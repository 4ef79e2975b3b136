package reset

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/step"
)

// removeDataDirStep returns the step that empties and removes the data folder, the
// pointer to it and the program on the PATH. A folder that existed before the first run
// stays, empty, with its earlier mode. A mount point stays too, and so does a folder in
// which the entries keep are retained; the marker file then records them. The step may
// be killed at any point and run again.
func (o resetHost) removeDataDirStep(j *journal.Journal, keep []string) step.Step {
	_, stays := j.InitialDirMode()
	name := action.ClusterName(j)
	return step.Step{ID: "data-dir", Title: "Remove Plinth's data folder and program", Affects: []string{o.DataDir},
		Check: func(context.Context) (step.State, error) {
			info, err := o.Host.Lstat(o.DataDir)
			if err == nil && len(o.dataDirEntries(keep)) > 0 || err == nil && !stays && o.canRemoveDataDir(info) {
				return step.Needed(o.DataDir), nil
			}
			if _, err := o.Host.Lstat(journal.PointerFile); err == nil {
				return step.Needed(journal.PointerFile), nil
			}
			return step.Done(), nil
		},
		Apply: func(context.Context, step.Report) error {
			if err := o.restoreDirMode(j); err != nil {
				return err
			}
			if err := o.writeRetainedMarker(keep, name); err != nil {
				return err
			}
			if err := o.emptyDataDir(j, keep); err != nil {
				return err
			}
			if info, err := o.Host.Lstat(o.DataDir); err == nil && !stays && o.canRemoveDataDir(info) {
				if err := o.Host.RemoveAll(o.DataDir); err != nil {
					return err
				}
			}
			return o.Host.RemoveAll(journal.PointerFile)
		},
	}
}

// emptyDataDir removes the entries of the data folder except keep. Before it removes the
// saved state of the host, the journal records that nothing is left: an install after a
// kill in between inspects the host again.
func (o resetHost) emptyDataDir(j *journal.Journal, keep []string) error {
	remove := func(names ...string) error {
		for _, name := range names {
			if err := o.Host.RemoveAll(filepath.Join(o.DataDir, name)); err != nil {
				return err
			}
		}
		return nil
	}
	names := o.dataDirEntries(keep)
	records := slices.IndexFunc(names, func(name string) bool { return removalRank(name) > 0 })
	if records < 0 {
		records = len(names)
	}
	if err := remove(names[:records]...); err != nil {
		return err
	}
	if err := o.removeProgram(j); err != nil { // as late as possible: until here it may have to run again
		return err
	}
	if slices.Contains(names, node.BeforeDir) && len(j.Runs()) > 0 {
		if err := j.Clear(); err != nil {
			o.Note("warning: " + err.Error()) // a full disk must not keep a reset from making space
		}
		if err := o.restoreDirMode(j); err != nil { // writing the journal sets the mode of the folder
			return err
		}
		names = o.dataDirEntries(keep)
	}
	return remove(names...)
}

// installedProgram returns the path of plinth, or "" unless a run in j put there what is there now.
func (o resetHost) installedProgram(j *journal.Journal) (string, error) {
	p := node.Program{File: node.Artifact{Path: node.ProgramPath}, Installed: plan.InstalledPrograms(j)}
	if installed, err := p.IsInstalled(o.Host); err != nil || !installed {
		return "", err
	}
	return node.ProgramPath, nil
}

// removeProgram removes plinth from the PATH, if a run in j put it there.
func (o resetHost) removeProgram(j *journal.Journal) error {
	path, err := o.installedProgram(j)
	if err != nil || path == "" {
		return err
	}
	return o.Host.RemoveAll(path)
}

// restoreDirMode sets the mode of the data folder to the one before the first run, if
// the folder existed then.
func (o resetHost) restoreDirMode(j *journal.Journal) error {
	mode, existed := j.InitialDirMode()
	if !existed {
		return nil
	}
	return o.Host.MkdirAll(o.DataDir, mode)
}

// canRemoveDataDir reports whether the data folder is empty, was created by Plinth and is
// not a mount point.
func (o resetHost) canRemoveDataDir(info fs.FileInfo) bool {
	list, err := o.Host.ReadDir(o.DataDir)
	mounts, mountErr := cleanup.Finder{Host: o.Host}.MountTable()
	return errors.Join(err, mountErr) == nil && len(list) == 0 && info.Mode().Perm() == journal.DirMode &&
		!slices.ContainsFunc(mounts, func(m cleanup.Mount) bool { return m.Point == o.DataDir })
}

// dataDirEntries returns the names of the entries of the data folder except keep, in the
// order in which they are removed. What the journal refers to comes late, and the
// journal last: until then a second reset relies on it.
func (o resetHost) dataDirEntries(keep []string) []string {
	list, err := o.Host.ReadDir(o.DataDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var names []string
	for _, e := range list {
		if e.Name() != "lost+found" && !slices.Contains(keep, e.Name()) { // the file system's own
			names = append(names, e.Name())
		}
	}
	slices.SortStableFunc(names, func(x, y string) int { return removalRank(x) - removalRank(y) })
	return names
}

// removalRank returns when an entry of the data folder is removed: 0 for those that come first, more
// for those on which a second reset relies.
func removalRank(name string) int {
	switch {
	case name == journal.File:
		return 3
	case name == journal.CopyFile || strings.HasPrefix(name, "."): // or a temporary file of either
		return 2
	case name == node.BeforeDir:
		return 1
	}
	return 0
}
