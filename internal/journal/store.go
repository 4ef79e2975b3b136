package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/plinthdev/plinth/internal/problem"
)

// Names beside File. The copy is as new as the last thing found on the host or
// the last beginning or end of a run: what came after it, a look at the host
// tells. A damaged journal is put aside under the third name.
const (
	CopyFile    = "journal.copy.json"
	damagedName = "journal.json.damaged"
)

// errNewer says that a newer Plinth wrote a file. It is not damage.
var errNewer = errors.New("use the newer Plinth that wrote it")

// Open reads the journal below dir, or begins an empty one; nothing is written
// before the first Begin. A journal that is damaged or missing is read from its
// copy, which Notice tells; without a good copy, and when a newer Plinth wrote
// it, it is a Problem.
func Open(files Files, dir string, now func() time.Time) (*Journal, error) {
	j := &Journal{path: filepath.Join(dir, File), files: files, now: now}
	raw, err := j.load(j.path)
	if err == nil {
		return j, nil
	}
	spare := filepath.Join(dir, CopyFile)
	_, spareErr := j.load(spare)
	switch {
	case errors.Is(err, fs.ErrNotExist) && errors.Is(spareErr, fs.ErrNotExist):
		return j, nil
	case spareErr != nil || errors.Is(err, errNewer):
		return nil, problem.New(problem.ExitInternal, "read the journal "+j.path, err, wayOn(dir, err))
	}
	j.broken = raw
	j.notice = fmt.Sprintf("the journal %s is unusable (%v): going on from its copy, %s, and from what the host itself tells", j.path, err, spare)
	return j, nil
}

// load reads one file into j; on an error j is empty.
func (j *Journal) load(path string) (raw []byte, err error) {
	j.data, j.extra = content{Version: version}, nil
	if raw, err = j.files.ReadFile(path); err != nil {
		return nil, err
	}
	var data content
	var extra map[string]json.RawMessage
	if err = decode(raw, &data, &extra); err == nil {
		j.data, j.extra = data, extra
	}
	return raw, err
}

// wayOn is what to do about a journal that cannot be read.
func wayOn(dir string, err error) string {
	if errors.Is(err, errNewer) {
		return ""
	}
	return "restore it from a backup of this host. Without one, put what is left of it aside:\n" +
		"  mv " + filepath.Join(dir, File) + " " + filepath.Join(dir, damagedName) + "; rm -f " + filepath.Join(dir, CopyFile) + "\n" +
		"and take the cluster away with `plinth reset cluster`: it then removes only what a look at the host shows to be the cluster's"
}

// Notice is what Open found wrong and could mend; "" when nothing was.
func (j *Journal) Notice() string { return j.notice }

// Lost reports whether a journal of this folder was put aside: what earlier
// runs changed is then known from the host alone.
func (j *Journal) Lost() bool {
	_, err := j.files.Lstat(filepath.Join(filepath.Dir(j.path), damagedName))
	return err == nil && len(j.data.Runs) == 0
}

// measured adds what write takes to the journal's cost.
func (j *Journal) measured(write func() error) error {
	began := j.now()
	err := write()
	j.cost.Writes++
	j.cost.Time += j.now().Sub(began)
	return err
}

// save writes the journal; a damaged one is put aside first.
func (j *Journal) save() error { return j.measured(j.write) }

func (j *Journal) write() error {
	err := error(nil)
	if j.broken != nil {
		err = j.files.Write(filepath.Join(filepath.Dir(j.path), damagedName), bytes.NewReader(j.broken), 0o600)
	}
	if err == nil {
		j.broken = nil
		err = save(j.files, j.path, j.data, j.extra)
	}
	return writeProblem(j.path, err)
}

// saveTwice writes the journal and then its copy.
func (j *Journal) saveTwice() error {
	if err := j.save(); err != nil {
		return err
	}
	path := filepath.Join(filepath.Dir(j.path), CopyFile)
	return j.measured(func() error { return writeProblem(path, save(j.files, path, j.data, j.extra)) })
}

func writeProblem(path string, err error) error {
	if err == nil {
		return nil
	}
	return problem.New(problem.ExitStep, "write the journal "+path, err, "make space or mend the disk, then run the same command again")
}

// sumKey is the entry that holds the checksum of all others.
const sumKey = "sum"

// sum is the checksum of a file's entries, whatever its white space.
func sum(entries map[string]json.RawMessage) (json.RawMessage, error) {
	rest := make(map[string]json.RawMessage, len(entries))
	for k, e := range entries {
		if k != sumKey {
			rest[k] = e
		}
	}
	raw, err := json.Marshal(rest)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(raw)
	return json.Marshal("sha256:" + hex.EncodeToString(digest[:]))
}

// decode reads a versioned file: known entries into v, all into extra. One
// without a checksum is of an earlier build, and taken.
func decode(raw []byte, v any, extra *map[string]json.RawMessage) error {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return fmt.Errorf("it is damaged: %w", err)
	}
	if head.Version > version {
		return fmt.Errorf("it has schema version %d, this Plinth knows 1 to %d: %w", head.Version, version, errNewer)
	}
	if head.Version < 1 {
		return errors.New("it is damaged: it has no schema version")
	}
	if err := errors.Join(json.Unmarshal(raw, extra), json.Unmarshal(raw, v)); err != nil {
		return fmt.Errorf("it is damaged: %w", err)
	}
	want, err := sum(*extra)
	if have := (*extra)[sumKey]; err == nil && have != nil && !bytes.Equal(have, want) {
		err = errors.New("it is damaged: its checksum does not fit")
	}
	return err
}

// save writes v and the unknown entries atomically, 0600 in a 0711 folder.
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
	if merged[sumKey], err = sum(merged); err != nil {
		return err
	}
	out, err := json.MarshalIndent(merged, "", " ")
	if err != nil {
		return err
	}
	if err := files.MkdirAll(filepath.Dir(path), DirMode); err != nil {
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
