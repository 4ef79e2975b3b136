// Package journal owns what Plinth remembers on a host: what each verb did,
// step by step, which paths it may have changed, and the receipt of what is
// installed now. It refuses to be the truth about the host: a step's Check
// looks at the host, the journal supplies what cannot be looked up. It holds
// no secret.
package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/plinthdev/plinth/internal/problem"
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
}

type content struct {
	Version int   `json:"version"`
	Runs    []Run `json:"runs"`
}

// Open reads the journal below dir, or begins an empty one; nothing is written
// before the first Begin. A journal of a newer schema or one that cannot be
// read is a Problem.
func Open(files Files, dir string, now func() time.Time) (*Journal, error) {
	j := &Journal{path: filepath.Join(dir, File), files: files, now: now, data: content{Version: version}}
	raw, err := files.ReadFile(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err == nil {
		err = decode(raw, &j.data, &j.extra)
	}
	if err != nil {
		return nil, problem.New(problem.ExitInternal, "read the journal "+j.path, err,
			"the file says what was changed on this host; restore it, or move it away to lose that knowledge")
	}
	return j, nil
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
	j.data.Runs = append(j.data.Runs, Run{Verb: verb, Args: args, Began: j.now().UTC(), Steps: []Step{}})
	return j.save()
}

// End closes the open run; cause is nil when it succeeded.
func (j *Journal) End(cause error) error {
	r := &j.data.Runs[len(j.data.Runs)-1]
	now := j.now().UTC()
	r.Ended, r.Failed = &now, text(cause)
	return j.save()
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
	return j.save()
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

func (j *Journal) save() error {
	if err := save(j.files, j.path, j.data, j.extra); err != nil {
		return problem.New(problem.ExitStep, "write the journal "+j.path, err, "make space or mend the disk, then run the same command again")
	}
	return nil
}

// decode reads a versioned file: known entries into v, others into extra.
func decode(raw []byte, v any, extra *map[string]json.RawMessage) error {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return fmt.Errorf("it is damaged: %w", err)
	}
	if head.Version < 1 || head.Version > version {
		return fmt.Errorf("it has schema version %d, this Plinth knows 1 to %d: use the newer Plinth that wrote it", head.Version, version)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("it is damaged: %w", err)
	}
	if err := json.Unmarshal(raw, extra); err != nil {
		return fmt.Errorf("it is damaged: %w", err)
	}
	return nil
}

// save writes v and the unknown entries atomically, 0600.
func save(files Files, path string, v any, extra map[string]json.RawMessage) error {
	known, err := json.Marshal(v)
	if err != nil {
		return err
	}
	merged := map[string]json.RawMessage{}
	for k, e := range extra {
		merged[k] = e
	}
	if err := json.Unmarshal(known, &merged); err != nil {
		return err
	}
	out, err := json.MarshalIndent(merged, "", "  ")
	if err != nil {
		return err
	}
	if err := files.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return err
	}
	return files.Write(path, bytes.NewReader(append(out, '\n')), 0o600)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
