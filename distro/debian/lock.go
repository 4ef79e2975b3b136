// Package debian pins, downloads and unpacks the files that come from Debian. It
// accepts a file only if its digest is the one in the lock file.
package debian

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/plinthdev/plinth/internal/problem"
)

// LockFile is the name of the lock file in the distro folder.
const LockFile = "debian.lock"

// Entry pins one file of Debian's pool. The cache keys contain its JSON form.
type Entry struct {
	Name    string // package, or source.orig for a source's upstream tarball
	Suite   string // suite to re-pin from
	Version string
	Sum     string // sha256, hex
	Size    int64  // bytes
	Path    string // below the mirror's root: pool/main/…
	License string `json:"License"` // SPDX expression
}

// Lock is the parsed lock file. Comment holds its comments and empty lines.
type Lock struct {
	Comment []string
	Entries []Entry
}

// Load reads and parses the lock file.
func Load(file string) (*Lock, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, problem.New(problem.ExitConfig, "read "+file, err, "")
	}
	l, err := Parse(b)
	if err != nil {
		return nil, problem.New(problem.ExitConfig, "read "+file, err, "")
	}
	return l, nil
}

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Parse parses lines of seven fields: name, suite, version, sha256, size, path
// and license, which may contain spaces. The error names every invalid line.
func Parse(b []byte) (*Lock, error) {
	var l Lock
	var faults []error
	seen := map[string]bool{}
	for i, line := range strings.Split(strings.TrimRight(string(b), "\n"), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			l.Comment = append(l.Comment, line)
			continue
		}
		e, err := parseEntry(line)
		if err == nil && seen[e.Name] {
			err = fmt.Errorf("%s is listed twice", e.Name)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("line %d: %w", i+1, err))
			continue
		}
		seen[e.Name] = true
		l.Entries = append(l.Entries, e)
	}
	return &l, errors.Join(faults...)
}

func parseEntry(line string) (Entry, error) {
	f := strings.Fields(line)
	if len(f) < 7 {
		return Entry{}, fmt.Errorf("%d fields, want name suite version sha256 size path license", len(f))
	}
	size, err := strconv.ParseInt(f[4], 10, 64)
	if err != nil || size <= 0 {
		return Entry{}, fmt.Errorf("%q is not a size", f[4])
	}
	if !sha256Hex.MatchString(f[3]) {
		return Entry{}, fmt.Errorf("%q is not a sha256", f[3])
	}
	if !strings.HasPrefix(f[5], "pool/") || path.Clean(f[5]) != f[5] {
		return Entry{}, fmt.Errorf("%q is not a path in the pool", f[5])
	}
	return Entry{Name: f[0], Suite: f[1], Version: f[2], Sum: f[3], Size: size, Path: f[5], License: strings.Join(f[6:], " ")}, nil
}

// Get returns the entry with this name, or an error if there is none.
func (l *Lock) Get(name string) (Entry, error) {
	for _, e := range l.Entries {
		if e.Name == name {
			return e, nil
		}
	}
	return Entry{}, problem.Newf(problem.ExitConfig, "find a Debian package", "add a line for it to "+LockFile+", then run: payload repin", "%s has no entry %s", LockFile, name)
}

// Bytes returns the text of the lock file.
func (l *Lock) Bytes() []byte {
	var b bytes.Buffer
	for _, c := range l.Comment {
		fmt.Fprintln(&b, c)
	}
	for _, e := range l.Entries {
		fmt.Fprintln(&b, e)
	}
	return b.Bytes()
}

// String returns the entry's line in the lock file. It is part of cache keys.
func (e Entry) String() string {
	return fmt.Sprintf("%s %s %s %s %d %s %s", e.Name, e.Suite, e.Version, e.Sum, e.Size, e.Path, e.License)
}
