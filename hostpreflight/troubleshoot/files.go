package troubleshoot

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/facts"
)

// producedFile is a file that a collector of troubleshoot.sh would write, for the analyzer
// textAnalyze. Nothing is written: its text comes from facts.
type producedFile struct {
	path       string
	collector  collector
	fact       string
	addRequest func(*facts.Request)
	read       func(facts.Facts) (string, error)
}

// notVerified is why a program did not run, and what to do.
const notVerified = "programs run only from a verified bundle; use the vendor's own plinth, which has its key, " +
	"or `plinth install --verify-key FILE`, which runs them before it changes the host"

// fileWriter is a kind of collector that has no analyzer of its own.
type fileWriter struct {
	validate func(collector) error // returns an error for settings that are not supported
	files    func(collector) []producedFile
}

// fileWriters returns these kinds by their name.
func fileWriters() map[string]fileWriter {
	return map[string]fileWriter{
		"run":     {validateProgram, programFiles},
		"dns":     {validateDNS, dnsFiles},
		"cgroups": {validateCgroups, cgroupFiles},
	}
}

// validateProgram returns an error for a run collector that Plinth cannot run without
// writing to the host, or without knowing which program it is.
func validateProgram(c collector) error {
	switch {
	case c.Command == "":
		return errors.New("command: must be set")
	case strings.Contains(c.Command, "/") && !path.IsAbs(c.Command):
		return fmt.Errorf("command: %q must be a name or an absolute path", c.Command)
	case c.OutputDir != "" || c.Input != nil:
		return errors.New("input and outputDir are not supported: preflights write nothing to the host")
	case strings.Contains(c.CollectorName, "/"):
		return errors.New("collectorName: must not contain a slash")
	}
	for _, kv := range c.Env {
		if name, _, ok := strings.Cut(kv, "="); !ok || name == "" {
			return errors.New("env: every entry must be NAME=VALUE")
		}
	}
	return nil
}

// programFiles returns the standard output of a run collector, and how it ended. Without
// inheritEnvs the program gets only PATH, HOME, TMPDIR and LC_ALL of this process.
func programFiles(c collector) []producedFile {
	timeout, _ := time.ParseDuration(c.Timeout) // validated
	key := facts.CommandKey{Name: cmp.Or(c.CollectorName, "run-host"), Argv: append([]string{c.Command}, c.Args...), Env: c.Env, Timeout: timeout}
	if !c.IgnoreParentEnvs {
		key.Inherit = c.InheritEnvs
	}
	request := func(r *facts.Request) {
		if !slices.ContainsFunc(r.Runs, func(k facts.CommandKey) bool { return k.Name == key.Name }) {
			r.Runs = append(r.Runs, key)
		}
	}
	result := func(f facts.Facts) (facts.CommandResult, error) {
		for _, r := range f.Runs {
			if r.Name == key.Name {
				return r, nil
			}
		}
		return facts.CommandResult{}, fmt.Errorf("`%s` was not run: %s", strings.Join(key.Argv, " "), notVerified)
	}
	at := "host-collectors/run-host/" + key.Name
	return []producedFile{
		{path: at + ".txt", fact: facts.FactRun + ":" + key.Name, addRequest: request, read: func(f facts.Facts) (string, error) {
			r, err := result(f)
			return r.Output, err
		}},
		{path: at + "-info.json", fact: facts.FactRun + ":" + key.Name, addRequest: request, read: func(f facts.Facts) (string, error) {
			r, err := result(f)
			if err != nil {
				return "", err
			}
			return marshalCompact(map[string]any{"command": strings.Join(key.Argv, " "), "exitCode": fmt.Sprint(r.Code), "error": r.Error})
		}},
	}
}

// marshalCompact returns v as JSON without spaces.
func marshalCompact(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}

// marshalIndented returns v as JSON with an indent of two spaces.
func marshalIndented(v any) (string, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	return string(text), err
}

// validateDNS returns an error for a dns collector without names.
func validateDNS(c collector) error {
	if len(c.Hostnames) == 0 || slices.Contains(c.Hostnames, "") {
		return errors.New("hostnames: must list at least one name")
	}
	return nil
}

// dnsFiles returns the answers of the name servers of /etc/resolv.conf.
func dnsFiles(c collector) []producedFile {
	name := cmp.Or(c.CollectorName, "dns")
	request := func(r *facts.Request) {
		for _, h := range c.Hostnames {
			appendUnique(&r.DNS, h)
		}
	}
	return []producedFile{{path: "host-collectors/dns/" + strings.ReplaceAll(name, " ", "_") + "/result.json", fact: facts.FactDNS, addRequest: request,
		read: func(f facts.Facts) (string, error) { return renderDNS(c.Hostnames, f.DNS) }}}
}

// renderDNS returns the answers for names in the format of troubleshoot.sh.
func renderDNS(names []string, all []facts.DNSAnswer) (string, error) {
	type entry struct {
		Server string `json:"server"`
		Search string `json:"search"`
		Name   string `json:"name"`
		Answer string `json:"answer"`
		Record string `json:"record"`
	}
	queries := map[string][]entry{}
	var search []string
	for _, name := range names {
		queries[name] = []entry{}
		for _, a := range all {
			if a.Name != name {
				continue
			}
			e := entry{Server: a.Server, Search: a.Search, Name: a.Query, Record: a.Record}
			if a.Record != "" {
				e.Answer = a.Query + "\t0\tIN\t" + recordType(a.Record) + "\t" + a.Record
			}
			if a.Search != "" {
				appendUnique(&search, a.Search)
			}
			queries[name] = append(queries[name], e)
		}
	}
	return marshalIndented(struct {
		Query              map[string][]entry `json:"query"`
		ResolvedFromSearch string             `json:"resolvedFromSearch"`
	}{queries, strings.Join(search, ", ")})
}

// recordType returns the type of the DNS record that contains address.
func recordType(address string) string {
	if strings.Contains(address, ":") {
		return "AAAA"
	}
	return "A"
}

// cgroupMount is the only mount point of control groups that is examined.
const cgroupMount = "/sys/fs/cgroup"

// validateCgroups returns an error for another mount point.
func validateCgroups(c collector) error {
	if c.MountPoint != "" && c.MountPoint != cgroupMount {
		return fmt.Errorf("mountPoint: only %s is supported", cgroupMount)
	}
	return nil
}

// cgroupFiles returns the control groups of the host.
func cgroupFiles(collector) []producedFile {
	return []producedFile{{path: "host-collectors/system/cgroups.json", fact: facts.FactCgroup, addRequest: func(*facts.Request) {}, read: renderCgroups}}
}

// renderCgroups returns the control groups of f in the format of troubleshoot.sh.
func renderCgroups(f facts.Facts) (string, error) {
	type hierarchy struct {
		Enabled     bool     `json:"enabled"`
		MountPoint  string   `json:"mountPoint"`
		Controllers []string `json:"controllers"`
	}
	of := func(version int) hierarchy {
		if f.Cgroup.Version != version {
			return hierarchy{Controllers: []string{}}
		}
		return hierarchy{true, cgroupMount, append([]string{}, f.Cgroup.Controllers...)}
	}
	return marshalIndented(struct {
		Enabled bool      `json:"cgroup-enabled"`
		V1      hierarchy `json:"cgroup-v1"`
		V2      hierarchy `json:"cgroup-v2"`
		All     []string  `json:"allControllers"`
	}{f.Cgroup.Version > 0, of(1), of(2), append([]string{}, f.Cgroup.Controllers...)})
}
