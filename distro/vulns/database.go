package vulns

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Database maps modules to the entries that name them.
type Database map[string][]osvEntry

// osvEntry is a file of the database in the OSV format.
type osvEntry struct {
	ID        string `json:"id"`
	Summary   string `json:"summary"`
	Withdrawn string `json:"withdrawn"`
	Affected  []struct {
		Package struct {
			Name string `json:"name"`
		} `json:"package"`
		Ranges []struct {
			Events []osvEvent `json:"events"`
		} `json:"ranges"`
	} `json:"affected"`
}

type osvEvent struct {
	Introduced string `json:"introduced"`
	Fixed      string `json:"fixed"`
}

// LoadDatabase reads a folder of OSV files.
func LoadDatabase(dir string) (Database, error) {
	files, err := filepath.Glob(filepath.Join(dir, "GO-*.json"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("%s has no vulnerabilities (%v)", dir, err)
	}
	db := Database{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var e osvEntry
		if err := json.Unmarshal(b, &e); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if e.Withdrawn != "" {
			continue
		}
		for _, a := range e.Affected {
			if name := a.Package.Name; !slices.ContainsFunc(db[name], func(o osvEntry) bool { return o.ID == e.ID }) {
				db[name] = append(db[name], e)
			}
		}
	}
	return db, nil
}

// Lookup returns the vulnerabilities of a module, given as module@version. An
// executable that was built in a copy of its module does not record the version of
// that module, so govulncheck cannot find them.
func (db Database) Lookup(component, module string) ([]Finding, error) {
	path, text, _ := strings.Cut(module, "@")
	version, err := semver.NewVersion(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", module, err)
	}
	var findings []Finding
	for _, e := range db[path] {
		for _, a := range e.Affected {
			if a.Package.Name != path {
				continue
			}
			for _, r := range a.Ranges {
				if fixed, ok := affects(r.Events, version); ok {
					findings = append(findings, Finding{ID: e.ID, Component: component, Module: path, Version: text, Fixed: fixed, Summary: e.Summary})
				}
			}
		}
	}
	return findings, nil
}

// affects reports whether a version is in a range, and the version that ends the range.
// Events are in rising order.
func affects(events []osvEvent, version *semver.Version) (fixed string, ok bool) {
	for _, e := range events {
		if e.Introduced != "" {
			at, err := semver.NewVersion(e.Introduced)
			ok = ok || err == nil && !version.LessThan(at)
			continue
		}
		if at, err := semver.NewVersion(e.Fixed); ok && err == nil {
			if version.LessThan(at) {
				return "v" + e.Fixed, true
			}
			ok = false
		}
	}
	return "", ok
}
