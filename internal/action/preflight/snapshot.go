package preflight

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/journal"
)

// factsFile holds the facts that the last install or join found. It is stored in the
// data folder. Its digest is recorded in the journal and, once that run has ended, in
// the receipt.
const factsFile = "facts.json"

// FactsSnapshot is the facts of a host, encoded for storage.
type FactsSnapshot struct {
	raw    []byte
	Digest digest.Digest
}

// NewFactsSnapshot returns the snapshot of found.
func NewFactsSnapshot(found facts.Facts) (FactsSnapshot, error) {
	raw, err := json.MarshalIndent(found, "", "  ")
	return FactsSnapshot{raw: raw, Digest: digest.FromBytes(raw)}, err
}

// Write writes the facts into the data folder, readable by root only.
func (s FactsSnapshot) Write(env *action.Env) error {
	return env.Host.Write(filepath.Join(env.DataDir, factsFile), bytes.NewReader(s.raw), 0o600)
}

// ReadFactsSnapshot returns the stored facts. It returns an error when their digest is
// not want.
func ReadFactsSnapshot(env *action.Env, want string) (facts.Facts, error) {
	path := filepath.Join(env.DataDir, factsFile)
	raw, err := env.Host.ReadFile(path)
	if err != nil {
		return facts.Facts{}, err
	}
	if have := digest.FromBytes(raw).String(); have != want {
		return facts.Facts{}, fmt.Errorf("%s was changed: its digest is not the one in the journal", path)
	}
	var f facts.Facts
	err = json.Unmarshal(raw, &f)
	return f, err
}

// readPrevious returns the facts that the last install or join on this host found, or
// the reason why they cannot be read.
func readPrevious(env *action.Env, j *journal.Journal) (e hostpreflight.Previous) {
	runs := j.Runs()
	for i := len(runs) - 1; i >= 0; i-- {
		sum := runs[i].Args.Facts
		if sum == "" {
			continue
		}
		found, err := ReadFactsSnapshot(env, sum)
		switch {
		case err == nil:
			e.Facts = &found
		case !errors.Is(err, fs.ErrNotExist):
			e.Reason = err.Error()
		}
		return e
	}
	return e
}
