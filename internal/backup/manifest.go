package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Limits of an archive, for the writer and the reader. A reader needs less than 100 MB of memory, whatever
// a file declares: only the manifest and the header of age are read as a whole.
const (
	maxManifest = 4 << 20
	maxFiles    = 10_000
	maxEtcd     = 16 << 30  // etcd warns above a quota of 8 GiB (etcd documentation, "System limits")
	maxFile     = 64 << 20  // every other file
	maxOthers   = 512 << 20 // all other files together
	maxWindow   = 8 << 20   // of zstd
)

// EtcdName is the name of the snapshot of etcd in the archive. Files of the host have names that begin
// with HostPrefix.
const (
	EtcdName   = "etcd.db"
	HostPrefix = "host"
)

const manifestName = "manifest.json"

// Manifest is the first entry of the archive: what the backup is of, and every file in it.
type Manifest struct {
	Header
	Networks Networks `json:"networks"`
	Nodes    []Node   `json:"nodes"` // of the cluster when it was taken
	Files    []File   `json:"files"` // in the order of the archive
}

// Networks are the settings of the cluster that cannot be changed after its installation.
type Networks struct {
	PodCIDR     string `json:"podCIDR"`
	ServiceCIDR string `json:"serviceCIDR"`
}

// Node is a node of the cluster.
type Node struct {
	Name    string `json:"name"`
	Role    string `json:"role"`
	Address string `json:"address"`
}

// File is one file of the archive.
type File struct {
	Name   string        `json:"name"` // EtcdName, or HostPrefix and an absolute path
	Mode   fs.FileMode   `json:"mode"` // permissions
	Size   int64         `json:"size"` // bytes
	Digest digest.Digest `json:"digest"`
}

// HostName returns the name in an archive of the file p of the host.
func HostName(p string) string { return HostPrefix + p }

// HostPath returns the path on the host of a file of the archive; ok is false for the snapshot of etcd.
func (f File) HostPath() (p string, ok bool) {
	p, ok = strings.CutPrefix(f.Name, HostPrefix)
	return p, ok && path.IsAbs(p)
}

// FindFile returns the file with this name.
func (m Manifest) FindFile(name string) (File, bool) {
	for _, f := range m.Files {
		if f.Name == name {
			return f, true
		}
	}
	return File{}, false
}

// Bytes returns the size of all files.
func (m Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// validate returns an error for a manifest that exceeds a limit, or that names a file outside its place.
func (m Manifest) validate() error {
	if len(m.Files) > maxFiles {
		return fmt.Errorf("it lists %d files, at most %d are allowed", len(m.Files), maxFiles)
	}
	seen := map[string]bool{}
	others := int64(0)
	for _, f := range m.Files {
		if err := f.validate(); err != nil {
			return err
		}
		if seen[f.Name] {
			return fmt.Errorf("it lists %q twice", f.Name)
		}
		seen[f.Name] = true
		if f.Name != EtcdName {
			others += f.Size
		}
	}
	switch {
	case others > maxOthers:
		return fmt.Errorf("its files have %d bytes, at most %d are allowed", others, maxOthers)
	case !seen[EtcdName]:
		return errors.New("it has no snapshot of etcd")
	}
	return nil
}

// validate returns an error for a file that exceeds a limit, or that is outside its place.
func (f File) validate() error {
	limit := int64(maxEtcd)
	if f.Name != EtcdName {
		p, ok := f.HostPath()
		if !ok || path.Clean(p) != p || p == "/" || strings.ContainsRune(p, 0) {
			return fmt.Errorf("it has a file with the name %.200q", f.Name)
		}
		limit = maxFile
	}
	switch {
	case f.Size < 0 || f.Size > limit:
		return fmt.Errorf("its file %.200q has %d bytes, at most %d are allowed", f.Name, f.Size, limit)
	case f.Mode&^fs.ModePerm != 0:
		return fmt.Errorf("its file %.200q has the mode %v", f.Name, f.Mode)
	case f.Digest.Validate() != nil || f.Digest.Algorithm() != digest.SHA256:
		return fmt.Errorf("its file %.200q has no SHA-256", f.Name)
	}
	return nil
}

// encode returns the manifest as JSON.
func (m Manifest) encode() ([]byte, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	raw, err := json.MarshalIndent(m, "", " ")
	if err == nil && len(raw) > maxManifest {
		err = fmt.Errorf("the manifest has %d bytes, at most %d are allowed", len(raw), maxManifest)
	}
	return raw, err
}

// decodeManifest reads a manifest and compares it with the header of its file.
func decodeManifest(raw []byte, header Header) (m Manifest, err error) {
	if err := json.Unmarshal(raw, &m); err != nil {
		return Manifest{}, damagedf("its manifest cannot be read: %w", err)
	}
	if err := m.validate(); err != nil {
		return Manifest{}, damagedf("%w", err)
	}
	if !m.equal(header) {
		return Manifest{}, damagedf("its header was changed")
	}
	return m, nil
}

// equal reports whether two headers say the same.
func (h Header) equal(other Header) bool {
	sameTimes := h.TakenAt.Equal(other.TakenAt) && h.ReceiptAt.Equal(other.ReceiptAt)
	h.TakenAt, h.ReceiptAt, other.TakenAt, other.ReceiptAt = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	return sameTimes && h == other
}
