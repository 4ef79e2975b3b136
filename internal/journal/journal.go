// Package journal owns what Plinth remembers on a host: what each verb did,
// step by step, which paths it may have changed, and the receipt of what is
// installed now. It refuses to be the truth about the host: a step's Check
// looks at the host, the journal supplies what cannot be looked up. It holds
// no secret. Each write replaces the whole file atomically and carries a
// checksum; a copy of what cannot be looked up again stands beside it.
package journal

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"time"
)

// File is the journal's name in its folder.
const File = "journal.json"

// version is the schema version of both files; a newer one is refused.
const version = 1

// Files is what the journal needs of a host.
type Files interface {
	ReadFile(path string) ([]byte, error)
	Write(path string, r io.Reader, perm fs.FileMode) error
	MkdirAll(path string, perm fs.FileMode) error
	Lstat(path string) (fs.FileInfo, error)
}

// Run is one run of a verb.
type Run struct {
	Verb   string            `json:"verb"`            // install, reset, …
	Args   map[string]string `json:"args,omitempty"`  // what it was asked for, without secrets: bundle digest, …
	Began  time.Time         `json:"began"`           // UTC
	Ended  *time.Time        `json:"ended,omitempty"` // UTC; nil while it runs and after a kill
	Failed string            `json:"failed,omitempty"`
	Steps  []Step            `json:"steps"` // those that were applied, in order
}

// Step is one step that a run applied.
type Step struct {
	ID      string          `json:"id"`
	Began   time.Time       `json:"began"`
	Ended   *time.Time      `json:"ended,omitempty"`
	Failed  string          `json:"failed,omitempty"`
	Touches []string        `json:"touches,omitempty"` // paths, units and objects it may have changed
	Before  json.RawMessage `json:"before,omitempty"`  // what the step found and has to put back; its own form
}

// Unfinished reports whether the run was killed, interrupted or failed.
func (r Run) Unfinished() bool { return r.Ended == nil || r.Failed != "" }

// At is the step that an unfinished run had reached.
func (r Run) At() string {
	if len(r.Steps) == 0 {
		return "its beginning"
	}
	return r.Steps[len(r.Steps)-1].ID
}

// Journal is the record of all runs on this host. The zero value is unusable;
// see Open.
type Journal struct {
	path  string
	files Files
	now   func() time.Time
	data  content
	extra map[string]json.RawMessage // entries of this schema version that are not known here: kept

	notice string // what Open found wrong and mended
	broken []byte // the damaged file, until it has been put aside
	cost   Cost
}

// Cost is what writing a journal took in this process.
type Cost struct {
	Writes int
	Time   time.Duration
}

// Cost is what the writes up to now took.
func (j *Journal) Cost() Cost { return j.cost }

type content struct {
	Version int    `json:"version"`
	Folder  string `json:"folder,omitempty"` // octal mode that the data folder had before the first run; "" when there was none
	Runs    []Run  `json:"runs"`
}

// Runs lists all runs, oldest first.
func (j *Journal) Runs() []Run { return slices.Clone(j.data.Runs) }

// Last is the newest run of verb, if there is one.
func (j *Journal) Last(verb string) (Run, bool) {
	for _, r := range slices.Backward(j.data.Runs) {
		if r.Verb == verb {
			return r, true
		}
	}
	return Run{}, false
}

// Begin opens a run of verb and writes it down.
func (j *Journal) Begin(verb string, args map[string]string) error {
	if len(j.data.Runs) == 0 && j.data.Folder == "" {
		j.data.Folder = folderMode(j.files, filepath.Dir(j.path))
	}
	j.data.Runs = append(j.data.Runs, Run{Verb: verb, Args: args, Began: j.now().UTC(), Steps: []Step{}})
	return j.saveTwice()
}

// Forget writes down that nothing is left of any run, and so of nothing that one
// of them found. How the data folder was before the first is still known.
func (j *Journal) Forget() error {
	j.data.Runs = []Run{}
	return j.saveTwice()
}

// End closes the open run; cause is nil when it succeeded.
func (j *Journal) End(cause error) error {
	r := &j.data.Runs[len(j.data.Runs)-1]
	now := j.now().UTC()
	r.Ended, r.Failed = &now, text(cause)
	return j.saveTwice()
}

// BeginStep writes down, before it happens, that a step will change touches.
func (j *Journal) BeginStep(id string, touches []string) error {
	r := &j.data.Runs[len(j.data.Runs)-1]
	r.Steps = append(r.Steps, Step{ID: id, Began: j.now().UTC(), Touches: touches})
	return j.save()
}

// EndStep writes down how the open step ended; cause is nil when it succeeded.
func (j *Journal) EndStep(id string, cause error) error {
	s, err := j.open(id)
	if err != nil {
		return err
	}
	now := j.now().UTC()
	s.Ended, s.Failed = &now, text(cause)
	return j.save()
}

// Before writes down, from within the open step, what it found on the host
// and has to put back. The first value found for a step id over all runs is
// the one to restore; see Found.
func (j *Journal) Before(id string, v any) error {
	s, err := j.open(id)
	if err != nil {
		return err
	}
	if s.Before, err = json.Marshal(v); err != nil {
		return err
	}
	return j.saveTwice()
}

// Found fills v with what step id found on the host the first time it ran,
// and reports whether it ever wrote that down.
func (j *Journal) Found(id string, v any) (bool, error) {
	for _, r := range j.data.Runs {
		for _, s := range r.Steps {
			if s.ID == id && s.Before != nil {
				return true, json.Unmarshal(s.Before, v)
			}
		}
	}
	return false, nil
}

func (j *Journal) open(id string) (*Step, error) {
	if n := len(j.data.Runs); n > 0 {
		if r := &j.data.Runs[n-1]; len(r.Steps) > 0 && r.Steps[len(r.Steps)-1].ID == id {
			return &r.Steps[len(r.Steps)-1], nil
		}
	}
	return nil, fmt.Errorf("journal: step %q is not the open one", id)
}
