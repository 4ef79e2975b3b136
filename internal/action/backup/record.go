package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/host"
)

// Record is what a host remembers of its backups. Its JSON format is part of that of the status.
type Record struct {
	Path     string        `json:"path,omitempty"` // of the last good backup; "" for none
	TakenAt  time.Time     `json:"takenAt,omitzero"`
	Size     int64         `json:"size,omitempty"` // bytes
	Digest   digest.Digest `json:"digest,omitempty"`
	Verified Verified      `json:"verified,omitempty"`
	FailedAt *time.Time    `json:"failedAt,omitempty"` // of the last backup, if it failed
	Failure  string        `json:"failure,omitempty"`  // why
}

// recordPath returns the path of the record.
func recordPath(dataDir string) string { return path.Join(dataDir, "backup.json") }

// ReadRecord returns the record of a host; ok is false if there was no backup.
func ReadRecord(h host.Files, dataDir string) (r Record, ok bool, err error) {
	raw, err := h.ReadFile(recordPath(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err != nil {
		return Record{}, false, fmt.Errorf("%s: %w", recordPath(dataDir), err)
	}
	return r, true, nil
}

// writeRecord stores the record of a host.
func writeRecord(h host.Files, dataDir string, r Record) error {
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return h.Write(recordPath(dataDir), bytes.NewReader(append(raw, '\n')), 0o600)
}
