// Package journal stores the history of the runs on a host, the receipt of the current installation, and the lock.
// The files contain no secrets, have a checksum, and are replaced atomically. The state of the host itself
// always comes from the Check of a step; the journal adds only what cannot be found on the host.
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

// File is the name of the journal in the data folder.
const File = "journal.json"

// schemaVersion is the schema version of the journal and the receipt. Files with a newer version are refused.
const schemaVersion = 1

// Files is the part of a host that the journal needs.
type Files interface {
	ReadFile(path string) ([]byte, error)
	Write(path string, r io.Reader, perm fs.FileMode) error
	MkdirAll(path string, perm fs.FileMode) error
	Lstat(path string) (fs.FileInfo, error)
}

// Run is one run of a verb.
type Run struct {
	Verb      string     `json:"verb"`              // install, reset, …
	Args      Args       `json:"args,omitzero"`     // arguments, without secrets
	StartedAt time.Time  `json:"startedAt"`         // UTC
	EndedAt   *time.Time `json:"endedAt,omitempty"` // UTC; nil during the run and after a kill
	Failed    string     `json:"failed,omitempty"`  // error message; "" if the run did not fail
	Steps     []Step     `json:"steps"`             // applied steps, in order
}

// Step is a step that a run applied.
type Step struct {
	ID            string          `json:"id"`
	StartedAt     time.Time       `json:"startedAt"`
	EndedAt       *time.Time      `json:"endedAt,omitempty"`
	Failed        string          `json:"failed,omitempty"`
	Affects       []string        `json:"affects,omitempty"`       // paths, units and objects that it may have changed
	OriginalState json.RawMessage `json:"originalState,omitempty"` // state that reset restores, in a format of the step's own
}

// Unfinished reports whether the run was killed, interrupted or failed.
func (r Run) Unfinished() bool { return r.EndedAt == nil || r.Failed != "" }

// DescribeUnfinished returns a clause that names the run, which is unfinished, and its start.
func (r Run) DescribeUnfinished() string {
	return fmt.Sprintf("the %s started at %s is not finished", r.Verb, r.StartedAt.Format(time.RFC3339))
}

// Command returns the words after "plinth" of the command that makes such runs.
func (r Run) Command() string {
	if r.Verb == "repair" {
		return "repair address"
	}
	return r.Verb
}

// IsOf reports whether the run is the one of h, which holds the lock now: it has no end, and h has begun it. An earlier run
// without an end was killed.
func (r Run) IsOf(h Holder) bool {
	return r.EndedAt == nil && r.Verb == h.Verb && !r.StartedAt.Before(h.StartedAt)
}

// HasBegun reports whether the run has started the step id.
func (r Run) HasBegun(id string) bool {
	return slices.ContainsFunc(r.Steps, func(s Step) bool { return s.ID == id })
}

// ReachedStep returns the id of the last step that the run started, or "its beginning" if there is none.
func (r Run) ReachedStep() string {
	if len(r.Steps) == 0 {
		return "its beginning"
	}
	return r.Steps[len(r.Steps)-1].ID
}

// Journal is the history of all runs on this host. Use Open to create one.
type Journal struct {
	path  string
	files Files
	now   func() time.Time
	data  fileContent
	extra map[string]json.RawMessage // unknown entries of this schema version; written back unchanged

	notice  string // problem that Open found and recovered from
	damaged []byte // content of the damaged file until it is saved under damagedFile
	stats   WriteStats
}

// WriteStats is the number and total duration of the journal's writes in this process.
type WriteStats struct {
	Writes int
	Time   time.Duration
}

// WriteStats returns the number and total duration of the writes up to now.
func (j *Journal) WriteStats() WriteStats { return j.stats }

type fileContent struct {
	Version int    `json:"version"`
	DirMode string `json:"dirMode,omitempty"` // octal mode that the data folder had before the first run; "" if it did not exist
	Runs    []Run  `json:"runs"`
}

// Runs returns all runs, oldest first.
func (j *Journal) Runs() []Run { return slices.Clone(j.data.Runs) }

// LastRun returns the newest run of verb and reports whether there is one.
func (j *Journal) LastRun(verb string) (Run, bool) {
	for _, r := range slices.Backward(j.data.Runs) {
		if r.Verb == verb {
			return r, true
		}
	}
	return Run{}, false
}

// LastUnfinished returns the newest run and reports whether it is unfinished: a run that ended well ends the earlier ones.
func (j *Journal) LastUnfinished() (Run, bool) {
	if len(j.data.Runs) == 0 {
		return Run{}, false
	}
	last := j.data.Runs[len(j.data.Runs)-1]
	return last, last.Unfinished()
}

// BeginRun starts a run of verb and writes it to the journal.
func (j *Journal) BeginRun(verb string, args Args) error {
	if len(j.data.Runs) == 0 && j.data.DirMode == "" {
		j.data.DirMode = initialDirMode(j.files, filepath.Dir(j.path))
	}
	j.data.Runs = append(j.data.Runs, Run{Verb: verb, Args: args, StartedAt: j.now().UTC(), Steps: []Step{}})
	return j.saveBoth()
}

// Clear removes all runs, with the states that their steps saved. InitialDirMode
// still returns the mode of the data folder before the first run.
func (j *Journal) Clear() error {
	j.data.Runs = []Run{}
	return j.saveBoth()
}

// EndRun ends the current run; cause is nil if it succeeded.
func (j *Journal) EndRun(cause error) error {
	if len(j.data.Runs) == 0 { // Clear was called
		return nil
	}
	r := &j.data.Runs[len(j.data.Runs)-1]
	now := j.now().UTC()
	r.EndedAt, r.Failed = &now, errorText(cause)
	return j.saveBoth()
}

// BeginStep records, before the change, that the step id starts and may change affects.
func (j *Journal) BeginStep(id string, affects []string) error {
	r := &j.data.Runs[len(j.data.Runs)-1]
	r.Steps = append(r.Steps, Step{ID: id, StartedAt: j.now().UTC(), Affects: affects})
	return j.saveMain()
}

// EndStep records the end of the current step, which must be id; cause is nil if it succeeded.
func (j *Journal) EndStep(id string, cause error) error {
	s, err := j.openStep(id)
	if err != nil {
		return err
	}
	now := j.now().UTC()
	s.EndedAt, s.Failed = &now, errorText(cause)
	return j.saveMain()
}

// SaveState records, from within the current step id, the state v that reset has to restore.
// Only the first state of a step over all runs is restored; see LoadState.
func (j *Journal) SaveState(id string, v any) error {
	s, err := j.openStep(id)
	if err != nil {
		return err
	}
	if s.OriginalState, err = json.Marshal(v); err != nil {
		return err
	}
	return j.saveBoth()
}

// LoadState decodes into v the state that the step id saved in the first run that saved one,
// and reports whether there is one.
func (j *Journal) LoadState(id string, v any) (bool, error) {
	for _, r := range j.data.Runs {
		for _, s := range r.Steps {
			if s.ID == id && s.OriginalState != nil {
				return true, json.Unmarshal(s.OriginalState, v)
			}
		}
	}
	return false, nil
}

// States returns all states that the step id saved, in the order of the runs.
func (j *Journal) States(id string) (all []json.RawMessage) {
	for _, r := range j.data.Runs {
		for _, s := range r.Steps {
			if s.ID == id && s.OriginalState != nil {
				all = append(all, s.OriginalState)
			}
		}
	}
	return all
}

// openStep returns the current step. It fails if that is not id.
func (j *Journal) openStep(id string) (*Step, error) {
	if n := len(j.data.Runs); n > 0 {
		if r := &j.data.Runs[n-1]; len(r.Steps) > 0 && r.Steps[len(r.Steps)-1].ID == id {
			return &r.Steps[len(r.Steps)-1], nil
		}
	}
	return nil, fmt.Errorf("step %q is not the current step of the journal", id)
}
