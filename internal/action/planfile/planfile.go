// Package planfile writes and compares the state on which a plan depends, so that --plan-file applies exactly the plan
// that was reviewed.
package planfile

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

// Inputs is the state on which a plan depends: a run with this plan is refused when any of
// it has changed. Its JSON format is public.
type Inputs struct {
	Args   journal.Args      `json:"args"`   // arguments of the run; files by their digests
	Facts  map[string]string `json:"facts"`  // facts of the host on which the plan depends
	Digest string            `json:"digest"` // digest of the arguments, the facts and the steps
}

// newInputs returns the state on which a plan of steps depends.
func newInputs(facts map[string]string, args journal.Args, dataDir string, steps []step.Planned) (*Inputs, error) {
	b := &Inputs{Args: args, Facts: maps.Clone(facts)}
	b.Facts["data folder"] = dataDir
	for _, p := range steps {
		b.Facts["step "+p.Step] = strings.TrimSpace(p.State + " " + p.Reason)
	}
	digest, err := b.computeDigest(steps)
	b.Digest = digest
	return b, err
}

// computeDigest returns the digest of the inputs and the steps of a plan.
func (in Inputs) computeDigest(steps []step.Planned) (string, error) {
	raw, err := json.Marshal(map[string]any{"args": in.Args, "facts": in.Facts, "steps": steps})
	return fmt.Sprintf("sha256:%x", sha256.Sum256(raw)), err
}

// file is the output of a verb with `--plan -o json`.
type file struct {
	V      int `json:"v"`
	Result struct {
		Plan   []step.Planned `json:"plan"`
		Inputs *Inputs        `json:"inputs"`
	} `json:"result"`
}

// maxPlanSize is the most that is read as a plan, in bytes: a hundred times a usual one.
const maxPlanSize = 10 << 20

// read returns the inputs of the plan of verb in the file at path. It returns a usage problem
// when the file is not a plan or was changed.
func read(path, verb string) (*Inputs, error) {
	bad := func(err error) error {
		return problem.New(problem.ExitUsage, "use the plan "+path, err, "create it again: plinth -o json "+verb+" --plan --bundle FILE >plan.json; nothing on this host was changed")
	}
	raw, err := action.ReadInput(nil, path, maxPlanSize)
	if err != nil {
		return nil, bad(err)
	}
	raw = bytes.TrimSpace(raw)
	if i := bytes.LastIndexByte(raw, '\n'); i >= 0 { // the lines before it are events
		raw = raw[i+1:]
	}
	var f file
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, bad(fmt.Errorf("it is not a plan: %w", err))
	}
	if f.V != 1 || f.Result.Inputs == nil {
		return nil, bad(fmt.Errorf("it is not a plan of this version of Plinth"))
	}
	digest, err := f.Result.Inputs.computeDigest(f.Result.Plan)
	if err == nil && digest != f.Result.Inputs.Digest {
		err = fmt.Errorf("it was changed: its digest does not match")
	}
	if err != nil {
		return nil, bad(err)
	}
	return f.Result.Inputs, nil
}

// Plan is the plan of --plan-file, and what the plan of this run is compared by.
type Plan struct {
	Inputs *Inputs // state on which the plan of this run depends; nil before Verify
	file   *Inputs // that of the plan in the file; nil for none
}

// Open reads the plan of verb in the file at path; "" is none. It returns a usage problem when the file is not a
// plan or was changed.
func Open(path, verb string) (p Plan, err error) {
	if path != "" {
		p.file, err = read(path, verb)
	}
	return p, err
}

// Digest returns the digest of the plan in the file, or "".
func (p Plan) Digest() string {
	if p.file == nil {
		return ""
	}
	return p.file.Digest
}

// Verify sets p.Inputs for the steps of this run. It returns a usage problem that names each difference to the plan in
// the file, if there is one. facts are what the steps depend on, by the names used in messages.
func (p *Plan) Verify(facts map[string]string, args journal.Args, dataDir string, steps []step.Planned) (err error) {
	if p.Inputs, err = newInputs(facts, args, dataDir, steps); err != nil || p.file == nil {
		return err
	}
	return p.compare()
}

func (p Plan) compare() error {
	plan, now := p.file, p.Inputs
	diff := DiffArgs(planArgs(), plan.Args, now.Args)
	keys := slices.Collect(maps.Keys(plan.Facts))
	for k := range now.Facts {
		if _, ok := plan.Facts[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		if was, is := plan.Facts[k], now.Facts[k]; was != is {
			diff = append(diff, describeChange(k, was, is))
		}
	}
	if len(diff) == 0 {
		return nil
	}
	return problem.Newf(problem.ExitUsage, "apply the plan "+plan.Digest, "check the differences and create the plan again; nothing on this host was changed",
		"its inputs have changed: %s", strings.Join(diff, "; "))
}

// Arg is an argument of a run: its name in messages and its value.
type Arg struct {
	Name  string
	Value func(journal.Args) string
}

// ResumeArgs returns the arguments that must not change when a run is resumed. License,
// config values and application bundle may change: only the last step uses them, and
// one that KOTS refused has to be replaced.
func ResumeArgs() []Arg {
	return []Arg{
		{"the cluster's name", func(a journal.Args) string { return a.Cluster }},
		{"the bundle", func(a journal.Args) string { return a.Bundle }},
		{"the pod network", func(a journal.Args) string { return a.PodCIDR }},
		{"the API address", func(a journal.Args) string { return a.APIAddress }},
	}
}

// planArgs returns the arguments that must not change between a plan and its run.
func planArgs() []Arg {
	return append(ResumeArgs(),
		Arg{"the load balancer's address list", func(a journal.Args) string { return strings.Join(a.LoadBalancer, ", ") }},
		Arg{"the installed bundle", func(a journal.Args) string { return a.From }},
		Arg{"the firewall", func(a journal.Args) string { return a.Firewall }},
		Arg{"the license", func(a journal.Args) string { return a.License }},
		Arg{"the config values", func(a journal.Args) string { return a.ConfigValues }},
		Arg{"the application bundle", func(a journal.Args) string { return a.AppBundle }})
}

// DiffArgs returns a message for each of the arguments args that differs between was and is.
func DiffArgs(args []Arg, was, is journal.Args) (all []string) {
	for _, t := range args {
		if old, new := t.Value(was), t.Value(is); old != new {
			all = append(all, describeChange(t.Name, old, new))
		}
	}
	return all
}

func describeChange(name, was, is string) string {
	return fmt.Sprintf("%s was %s and is now %s", name, cmp.Or(was, "none"), cmp.Or(is, "none"))
}

// HostFacts returns the facts of a host on which every plan depends; installed is the digest of the bundle in its
// receipt, or "".
func HostFacts(found facts.Facts, installed string) map[string]string {
	return map[string]string{"hostname": found.Hostname, "machine id": found.MachineID, "address": found.Network.NodeAddress.String(),
		"system": found.OS.Name + " " + found.OS.Arch, "kernel": found.Kernel.Release, "installed": installed}
}
