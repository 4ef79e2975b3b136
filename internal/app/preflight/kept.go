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
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/journal"
)

// factsFile holds the facts that the last install or join found. It is stored in the
// data folder. Its digest is recorded in the journal and, once that run has ended, in
// the receipt.
const keptFile = "facts.json"

// FactsSnapshot is the facts of a host, encoded for storage.
type Keeping struct {
	raw    []byte
	Digest digest.Digest
}

// NewFactsSnapshot returns the snapshot of found.
func Keep(found facts.Facts) (Keeping, error) {
	raw, err := json.MarshalIndent(found, "", "  ")
	return Keeping{raw: raw, Digest: digest.FromBytes(raw)}, err
}

// AddDigest adds the digest to args, which the journal stores, and returns args.
func (k Keeping) Bind(args map[string]string) map[string]string {
	args[run.ArgFacts] = k.Digest.String()
	return args
}

// Write writes the facts into the data folder, readable by root only.
func (k Keeping) Write(r *run.Run) error {
	return r.Host.Write(filepath.Join(r.DataDir, keptFile), bytes.NewReader(k.raw), 0o600)
}

// ReadFactsSnapshot returns the stored facts. It returns an error when their digest is
// not want.
func Kept(r *run.Run, want string) (facts.Facts, error) {
	path := filepath.Join(r.DataDir, keptFile)
	raw, err := r.Host.ReadFile(path)
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
func earlier(r *run.Run, j *journal.Journal) (e hostpreflight.Earlier) {
	runs := j.Runs()
	for i := len(runs) - 1; i >= 0; i-- {
		sum := runs[i].Args[run.ArgFacts]
		if sum == "" {
			continue
		}
		found, err := Kept(r, sum)
		switch {
		case err == nil:
			e.Facts = &found
		case !errors.Is(err, fs.ErrNotExist):
			e.Why = err.Error()
		}
		return e
	}
	return e
}
