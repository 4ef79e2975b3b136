// Package vulns compares known vulnerabilities of what Plinth ships with the
// decisions that are written down about them.
package vulns

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/problem"
)

// PolicyFile is the name of the policy in the distro folder.
const PolicyFile = "vulnerabilities.yaml"

// Host is the component of the plinth executable. Other components have the
// names of recipes.
const Host = "host"

// Policy pins the vulnerability database and the scanner, and lists the
// vulnerabilities that are known and accepted for some time.
type Policy struct {
	Database   string      `yaml:"database"` // module@version with OSV files in data/osv
	Sum        string      `yaml:"sum"`      // h1: digest of that module
	Scanner    string      `yaml:"scanner"`  // package@version of govulncheck
	Exceptions []Exception `yaml:"exceptions"`
}

// Exception accepts vulnerabilities in some components until the end of a day.
type Exception struct {
	IDs        []string `yaml:"ids"`        // GO-2026-1234
	Components []string `yaml:"components"` // Host, or names of recipes
	Reason     string   `yaml:"reason"`     // why it does no harm, or what has to happen first
	Until      string   `yaml:"until"`      // last day, 2006-01-02
}

// Finding is a vulnerability whose code is linked into a component.
type Finding struct {
	ID        string
	Component string
	Module    string
	Version   string // of the module in the component
	Fixed     string // first fixed version, "" if there is none
	Symbol    string // a vulnerable function, "" if the database names only the module
	Summary   string
}

var validID = regexp.MustCompile(`^GO-\d{4}-\d{4,}$`)

// LoadPolicy reads and parses the policy. today decides which exceptions have ended.
func LoadPolicy(file string, today time.Time) (Policy, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return Policy{}, problem.New(problem.ExitConfig, "read "+file, err, "")
	}
	p, err := ParsePolicy(b, today)
	if err != nil {
		return Policy{}, problem.New(problem.ExitConfig, "read "+file, err, "fix the vulnerability, or check the reason again and set a later date")
	}
	return p, nil
}

// ParsePolicy parses the policy. The error names every invalid line and every
// exception that has ended.
func ParsePolicy(b []byte, today time.Time) (Policy, error) {
	var p Policy
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&p); err != nil {
		return Policy{}, err
	}
	var faults []error
	for _, pin := range []struct{ key, value, part string }{{"database", p.Database, "@v"}, {"scanner", p.Scanner, "@v"}, {"sum", p.Sum, "h1:"}} {
		if !strings.Contains(pin.value, pin.part) {
			faults = append(faults, fmt.Errorf("%s %q is not a pin", pin.key, pin.value))
		}
	}
	seen := map[[2]string]bool{}
	for i, e := range p.Exceptions {
		if err := e.validate(today); err != nil {
			faults = append(faults, fmt.Errorf("exception %d: %w", i+1, err))
		}
		for _, pair := range e.pairs() {
			if seen[pair] {
				faults = append(faults, fmt.Errorf("exception %d: %s in %s is listed twice", i+1, pair[0], pair[1]))
			}
			seen[pair] = true
		}
	}
	return p, errors.Join(faults...)
}

func (e Exception) validate(today time.Time) error {
	var faults []error
	for _, id := range e.IDs {
		if !validID.MatchString(id) {
			faults = append(faults, fmt.Errorf("%q is not an id such as GO-2026-1234", id))
		}
	}
	if len(e.IDs) == 0 || len(e.Components) == 0 || slices.Contains(e.Components, "") {
		faults = append(faults, errors.New("ids and components are required"))
	}
	if strings.TrimSpace(e.Reason) == "" {
		faults = append(faults, errors.New("reason is required"))
	}
	until, err := time.Parse(time.DateOnly, e.Until)
	if err != nil {
		faults = append(faults, fmt.Errorf("until %q is not a date such as 2027-01-31", e.Until))
	} else if !today.Before(until.AddDate(0, 0, 1)) {
		faults = append(faults, fmt.Errorf("%s ended on %s", strings.Join(e.IDs, " "), e.Until))
	}
	return errors.Join(faults...)
}

func (e Exception) pairs() [][2]string {
	var pairs [][2]string
	for _, id := range e.IDs {
		for _, c := range e.Components {
			pairs = append(pairs, [2]string{id, c})
		}
	}
	return pairs
}

// Decision returns the exception for a finding, and false if there is none.
func (p Policy) Decision(f Finding) (Exception, bool) {
	for _, e := range p.Exceptions {
		if slices.Contains(e.IDs, f.ID) && slices.Contains(e.Components, f.Component) {
			return e, true
		}
	}
	return Exception{}, false
}

// Check returns an error that names every finding without an exception, and
// every exception that matches no finding in the scanned components.
func (p Policy) Check(findings []Finding, scanned []string) error {
	found := map[[2]string]bool{}
	var faults []error
	for _, f := range findings {
		found[[2]string{f.ID, f.Component}] = true
		if _, ok := p.Decision(f); !ok {
			faults = append(faults, errors.New(f.String()))
		}
	}
	for i, e := range p.Exceptions {
		for _, name := range e.unmatched(found, scanned) {
			faults = append(faults, fmt.Errorf("exception %d: %s matches no finding; remove it", i+1, name))
		}
	}
	return errors.Join(faults...)
}

// unmatched returns the ids that no component of the exception has, and the
// components that have none of its ids. Components that were not scanned count as
// matched.
func (e Exception) unmatched(found map[[2]string]bool, scanned []string) []string {
	matched := map[string]bool{}
	for _, pair := range e.pairs() {
		if found[pair] || !slices.Contains(scanned, pair[1]) {
			matched[pair[0]], matched[pair[1]] = true, true
		}
	}
	names := slices.Concat(e.IDs, e.Components)
	return slices.DeleteFunc(names, func(n string) bool { return matched[n] })
}

// Components returns the components that exceptions name, sorted.
func (p Policy) Components() []string {
	names := map[string]bool{}
	for _, e := range p.Exceptions {
		for _, c := range e.Components {
			names[c] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// String returns the finding in one line.
func (f Finding) String() string {
	fixed := "no fixed version"
	if f.Fixed != "" {
		fixed = "fixed in " + f.Fixed
	}
	return fmt.Sprintf("%s in %s: %s (%s %s, %s)", f.ID, f.Component, f.Summary, f.Module, f.Version, fixed)
}
