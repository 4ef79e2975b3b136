package journal

import (
	"bytes"
	"cmp"
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

// Files next to File. The copy is written at the start and end of each run and when a step saves a state;
// everything later can be found on the host itself. A damaged journal is saved as damagedFile.
const (
	CopyFile    = "journal.copy.json"
	damagedFile = "journal.json.damaged"
)

// errNewerSchema is the error for a file of a newer Plinth. Such a file is not damaged.
var errNewerSchema = errors.New("a newer Plinth wrote it")

// Open reads the journal in the data folder dir, or returns an empty one. It writes nothing
// before the first BeginRun. If the journal is damaged or missing, Open reads its
// copy, and RecoveryNotice reports that. It returns a Problem if the copy is damaged, too, and if
// a newer Plinth wrote the journal.
func Open(files Files, dir string, now func() time.Time) (*Journal, error) {
	j := &Journal{path: filepath.Join(dir, File), files: files, now: now}
	raw, err := j.loadFile(j.path)
	if err == nil {
		return j, nil
	}
	copyPath := filepath.Join(dir, CopyFile)
	_, copyErr := j.loadFile(copyPath)
	switch {
	case errors.Is(err, fs.ErrNotExist) && errors.Is(copyErr, fs.ErrNotExist):
		return j, nil
	case copyErr != nil || errors.Is(err, errNewerSchema):
		return nil, problem.New(problem.ExitUsage, "read the journal "+j.path, err, recoveryHint(dir, err))
	}
	j.damaged = raw
	j.notice = fmt.Sprintf("cannot read the journal %s (%v): using its copy %s and the state of the host instead", j.path, err, copyPath)
	return j, nil
}

// loadFile reads the file path into j and returns its content. After an error j is empty.
func (j *Journal) loadFile(path string) (raw []byte, err error) {
	j.data, j.extra = fileContent{Version: schemaVersion}, nil
	if raw, err = j.files.ReadFile(path); err != nil {
		return nil, err
	}
	var data fileContent
	var extra map[string]json.RawMessage
	if err = decodeFile(raw, &data, &extra); err == nil {
		j.data, j.extra = data, extra
	}
	return raw, err
}

// newerPlinthHint is what to do about a file with a newer schema.
const newerPlinthHint = "run the command with the version of Plinth that wrote the file, or a newer one; nothing on this host was changed"

// recoveryHint returns what to do about a journal in dir that cannot be read because of err.
func recoveryHint(dir string, err error) string {
	if errors.Is(err, errNewerSchema) {
		return newerPlinthHint
	}
	return "restore it from a backup of this host. Without a backup, move it away:\n" +
		"  mv " + filepath.Join(dir, File) + " " + filepath.Join(dir, damagedFile) + "; rm -f " + filepath.Join(dir, CopyFile) + "\n" +
		"and remove the cluster with `plinth reset cluster`, which then removes only what it can identify as part of the cluster"
}

// RecoveryNotice returns the problem that Open found and recovered from, or "" if there was none.
func (j *Journal) RecoveryNotice() string { return j.notice }

// HistoryLost reports whether a damaged journal was moved away and the current one is empty.
// The changes of earlier runs are then known only from the host itself.
func (j *Journal) HistoryLost() bool {
	_, err := j.files.Lstat(filepath.Join(filepath.Dir(j.path), damagedFile))
	return err == nil && len(j.data.Runs) == 0
}

// InstallRefusal returns why no install or join can begin before an earlier run is finished or removed,
// and what to do; "" if one can.
func (j *Journal) InstallRefusal() (why, fix string) {
	if j.HistoryLost() {
		return "the journal of an earlier install on this host is lost, so the state before it is unknown", "remove that install first: sudo plinth reset cluster"
	}
	if last, ok := j.LastUnfinished(); ok && last.Verb == "reset" {
		return last.DescribeUnfinished() + ": the host is not clean enough for a cluster",
			"finish it first: sudo plinth reset " + cmp.Or(last.Args.Scope, "cluster")
	}
	return "", ""
}

// measureWrite calls write and adds its duration to the statistics.
func (j *Journal) measureWrite(write func() error) error {
	began := j.now()
	err := write()
	j.stats.Writes++
	j.stats.Time += j.now().Sub(began)
	return err
}

// saveMain writes the journal. It first saves the content of a damaged journal as damagedFile.
func (j *Journal) saveMain() error { return j.measureWrite(j.writeMain) }

func (j *Journal) writeMain() error {
	err := error(nil)
	if j.damaged != nil {
		err = j.files.Write(filepath.Join(filepath.Dir(j.path), damagedFile), bytes.NewReader(j.damaged), 0o600)
	}
	if err == nil {
		j.damaged = nil
		err = saveFile(j.files, j.path, j.data, j.extra)
	}
	return wrapWriteError(j.path, err)
}

// saveBoth writes the journal and then its copy.
func (j *Journal) saveBoth() error {
	if err := j.saveMain(); err != nil {
		return err
	}
	path := filepath.Join(filepath.Dir(j.path), CopyFile)
	return j.measureWrite(func() error { return wrapWriteError(path, saveFile(j.files, path, j.data, j.extra)) })
}

func wrapWriteError(path string, err error) error {
	if err == nil {
		return nil
	}
	return problem.New(problem.ExitStep, "write the journal "+path, err, "free some space or fix the disk, then run the same command again")
}

// checksumKey is the entry that contains the checksum of all other entries.
const checksumKey = "sum"

// checksum returns the checksum of the entries of a file, without checksumKey. White space in the file does not matter.
func checksum(entries map[string]json.RawMessage) (json.RawMessage, error) {
	rest := make(map[string]json.RawMessage, len(entries))
	for k, e := range entries {
		if k != checksumKey {
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

// decodeFile decodes a versioned file: the known entries into v, all entries into extra. A file
// without a checksum is accepted, because earlier builds did not write one.
func decodeFile(raw []byte, v any, extra *map[string]json.RawMessage) error {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return fmt.Errorf("it is damaged: %w", err)
	}
	if head.Version > schemaVersion {
		return fmt.Errorf("it has schema version %d, this version of plinth supports 1 to %d: %w", head.Version, schemaVersion, errNewerSchema)
	}
	if head.Version < 1 {
		return errors.New("it is damaged: it has no schema version")
	}
	if err := errors.Join(json.Unmarshal(raw, extra), json.Unmarshal(raw, v)); err != nil {
		return fmt.Errorf("it is damaged: %w", err)
	}
	want, err := checksum(*extra)
	if have := (*extra)[checksumKey]; err == nil && have != nil && !bytes.Equal(have, want) {
		err = errors.New("it is damaged: its checksum does not match")
	}
	return err
}

// saveFile writes v and the unknown entries extra to path atomically, with mode 0600 in a folder with mode 0711.
func saveFile(files Files, path string, v any, extra map[string]json.RawMessage) error {
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
	if merged[checksumKey], err = checksum(merged); err != nil {
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

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
