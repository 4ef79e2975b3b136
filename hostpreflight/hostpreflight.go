// Package hostpreflight runs checks over the facts of a host and reports whether
// Kubernetes will work there. internal/probe gathers the facts, the caller passes
// what this install needs as Requirements, and the checks themselves are in
// hostpreflight/checks.
package hostpreflight

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/problem"
)

// State is the outcome of a check.
type State string

// The states, from best to worst. Unknown means that the check has no result
// because a fact could not be gathered; Result.Found says why.
const (
	Pass    State = "pass"
	Skipped State = "skipped" // the check did not run; Found says why, SkippedBy says who decided it
	Unknown State = "unknown"
	Warn    State = "warn" // will work, with a known cost or risk; or a failure that was ignored
	Fail    State = "fail" // will not work
)

// Role is the role that a host will have in the cluster.
type Role string

// The roles. A controller runs workloads too.
const (
	Controller Role = "controller"
	Worker     Role = "worker"
)

// Verb is a command that runs the checks before it changes a host. The preflight
// command runs the checks of an install.
type Verb string

// The verbs.
const (
	Preflight Verb = "preflight"
	Install   Verb = "install"
	Join      Verb = "join"
	Upgrade   Verb = "upgrade"
)

// Check is one requirement on a host.
type Check struct {
	ID        string // kebab-case, unique and stable: users pass it to --ignore-host-preflight
	Group     string // heading in the report
	Title     string // what it checks, in a few words
	Severity  State  // the worst state it can return: Fail or Warn
	Roles     []Role // roles it applies to; nil for all
	Verbs     []Verb // verbs that run it; nil for all
	Strict    bool   // its failure cannot be ignored
	Expected  string // what is expected, with its thresholds
	Rationale string // what goes wrong otherwise, and the source of the rule
	Run       func(facts.Facts, Requirements) Result
}

// Result is the result of a check.
type Result struct {
	State     State  `json:"state"`
	Found     string `json:"found"`            // what was found; for Unknown and Skipped, why there is no result
	Expected  string `json:"wanted,omitempty"` // what is expected; empty for the check's own Expected
	Fix       string `json:"fix,omitempty"`    // what to do, with the command if there is one
	SkippedBy string `json:"by,omitempty"`     // for Skipped, who decided it: role, verb, install, user, vendor or the id of another check
}

// Skip returns a Result with state Skipped. by says who decided that the check
// does not run (see Result.SkippedBy), reason says why.
func Skip(by, reason string) Result { return Result{State: Skipped, Found: reason, SkippedBy: by} }

// WithExpected returns r with the expectation of this case, which replaces the
// check's own Expected.
func (r Result) WithExpected(format string, args ...any) Result {
	r.Expected = fmt.Sprintf(format, args...)
	return r
}

// Requirements is what one install requires of a host: plain data that the
// caller fills from the Installer, the bundle and the journal. A zero value means
// the default, or that nothing of that kind is required.
type Requirements struct {
	Verb            Verb                 // verb that runs the checks; empty for Preflight
	Role            Role                 // empty for Controller
	Arch            string               // architecture of the bundle, as in GOARCH; empty for amd64
	KubernetesMinor int                  // 33 for Kubernetes 1.33
	NeedsCgroupV2   bool                 // kubelet of this Kubernetes does not start with control groups version 1
	Containerd      Containerd           // containerd of the bundle's k0s; zero if the bundle is not known
	MinCPUs         int                  // the vendor's minimum, if it is more than the role's default
	MinMemory       uint64               // bytes; the vendor's minimum, if it is more than the role's default
	PodCIDR         netip.Prefix         // pod network
	ServiceCIDR     netip.Prefix         // service network
	Address         facts.AddressRequest // what the node's address must satisfy
	Recorded        facts.Identity       // what an earlier run recorded of this host; zero for none
	DataDir         Refusal              // why the data folder cannot be used
	EarlierRun      Refusal              // why an earlier run must be finished or removed first
	ConsolePort     int                  // port of the admin console
	Ports           map[string]int       // port numbers that differ from the default, and those of add-ons, by use: {"kube-apiserver": 7443}
	LoadBalancer    []AddressRange       // addresses that the load balancer gives to services
	NodePorts       [2]int               // first and last port of the node port range
	Sources         []string             // URLs to fetch from; none for an install without internet access
	MissingBlobs    []string             // problems of the bundle's blobs at the sources, one entry per blob
	Proxy           string               // URL of the proxy to the sources; may contain credentials
	WritePaths      []WritePath          // every path that the install writes to
	Backup          Backup               // schedule of backups; zero for none
	SnapshotFolder  string               // folder of this host for the object store with snapshots; "" for none
	EvictBelow      int                  // percent of free space below which kubelet evicts pods; 0 for its default of 15
	NotBefore       time.Time            // when the bundle was built, or a backup to restore was taken: an earlier clock is wrong
	Quick           bool                 // skip the benchmarks (--quick)
	Owned           Owned                // what is on the host already and belongs to this install
	NodeNetworks    []netip.Prefix       // networks in which the other nodes are; none for the network of the node's address

	ConfigureFirewall bool     // the install adds rules to the firewalls of the host (--configure-firewall)
	Previous          Previous // what the previous run found on this host
}

// SetSnapshotFolder sets the folder of this host for the object store with snapshots, which writes to it, instead of an
// earlier one; "" changes nothing.
func (req *Requirements) SetSnapshotFolder(folder string) {
	if folder == "" {
		return
	}
	req.WritePaths = slices.DeleteFunc(req.WritePaths, func(w WritePath) bool { return req.SnapshotFolder != "" && w.Path == req.SnapshotFolder })
	req.SnapshotFolder = folder
	req.WritePaths = append(req.WritePaths, WritePath{Path: folder, Purpose: "snapshots"})
}

// Refusal is why no install or join can begin on a host, whatever its facts are; zero if
// one can.
type Refusal struct {
	Found string
	Fix   string // what to do
}

// AddressRange is a range of IPv4 addresses.
type AddressRange struct{ First, Last netip.Addr }

// Contains reports whether an address is in the range.
func (r AddressRange) Contains(a netip.Addr) bool {
	return a.Is4() && r.First.Compare(a) <= 0 && a.Compare(r.Last) <= 0
}

// String returns the range as an Installer has it.
func (r AddressRange) String() string { return r.First.String() + "-" + r.Last.String() }

// Containerd is the configuration of the containerd in a k0s.
type Containerd struct {
	Version int    // version of the configuration that it reads: 2 for containerd 1.7, 3 for containerd 2
	DropIn  string // path of Plinth's own drop-in, which is always written for that version
}

// Backup is the schedule of control-plane backups.
type Backup struct {
	Calendar string // OnCalendar of systemd
	Folder   string // "" if backups are not written to a folder
	EnvFile  string // file with the settings of the object store; "" if backups are written to a folder
	DataDir  string // folder of Plinth, which a reset removes
}

// Previous is what the last install or join found on this host.
type Previous struct {
	Facts  *facts.Facts // nil when there are none
	Reason string       // why the stored facts cannot be trusted; "" when none were stored
}

// effectiveVerb returns the verb whose checks run: Install for Preflight.
func (req Requirements) effectiveVerb() Verb {
	if req.Verb == Preflight {
		return Install
	}
	return req.Verb
}

// IsWorker reports whether the host will run workloads only.
func (req Requirements) IsWorker() bool { return req.Role == Worker }

// WritePath is a path that the install writes to.
type WritePath struct {
	Path    string // absolute; may not exist yet
	Purpose string // what it is used for, in a few words: "images and containers"
	Bytes   uint64 // bytes that will still be written there; 0 when the size does not matter
	Exec    bool   // programs are run from there
	Pods    bool   // kubelet and containerd store pods and images there
}

// Owned is what an earlier run of the same install left on the host, finished or
// not. The caller reads it from the journal, so that no check reports it as
// foreign software.
type Owned struct {
	Installed bool     // k0s was started here: its network, rules and links belong to this install
	Paths     []string // files and directories of this install, including everything below them
	Units     []string // systemd units, with or without .service
}

// HasUnit reports whether the systemd unit belongs to this install.
func (o Owned) HasUnit(name string) bool {
	return slices.Contains(o.Units, name) || slices.Contains(o.Units, name+".service")
}

// HasPath reports whether path p belongs to this install.
func (o Owned) HasPath(p string) bool {
	return slices.ContainsFunc(o.Paths, func(own string) bool {
		own = path.Clean(own)
		return p == own || strings.HasPrefix(p, own+"/")
	})
}

// HasProcess reports whether process p, or one of its parents, runs a program that
// belongs to this install. The program of a container does not belong to it, but
// the containerd shim above it does.
func (o Owned) HasProcess(p *facts.Owner) bool {
	return p != nil && (o.HasPath(p.Program) || slices.ContainsFunc(p.Parents, o.HasPath))
}

// Run runs every check on f and returns the report. The failures of the checks
// with an id in ignore become warnings. An unknown id in ignore is an error that
// suggests similar ids (exit code 2).
func Run(checks []Check, f facts.Facts, req Requirements, ignore []string) (Report, error) {
	if req.Role == "" {
		req.Role = Controller
	}
	if req.Verb == "" {
		req.Verb = Preflight
	}
	if err := validateIgnoredIDs(checks, ignore); err != nil {
		return Report{}, err
	}
	r := Report{Schema: Schema, Host: f.Hostname, Role: req.Role, Verb: req.Verb}
	for _, c := range checks {
		e := Entry{ID: c.ID, Group: c.Group, Title: c.Title, Rationale: c.Rationale, Result: runCheck(c, f, req)}
		e.Strict = c.Strict && e.State == Fail
		if e.State == Fail && !c.Strict && slices.Contains(ignore, c.ID) {
			e.State, e.Ignored = Warn, true
		}
		r.addEntry(e)
	}
	return r, nil
}

// runCheck runs c unless its roles or verbs exclude it, and fills in what is
// expected.
func runCheck(c Check, f facts.Facts, req Requirements) Result {
	if c.Roles != nil && !slices.Contains(c.Roles, req.Role) {
		return Skip("role", fmt.Sprintf("runs only on a %s", c.Roles[0]))
	}
	if verb := req.effectiveVerb(); c.Verbs != nil && !slices.Contains(c.Verbs, verb) {
		return Skip("verb", fmt.Sprintf("does not run before %s", verb))
	}
	res := c.Run(f, req)
	if res.Expected == "" && res.State != Skipped {
		res.Expected = c.Expected
	}
	return res
}

// validateIgnoredIDs returns a usage error when an id in ignore has no check.
func validateIgnoredIDs(checks []Check, ignore []string) error {
	var wrong []string
	for _, id := range ignore {
		if slices.ContainsFunc(checks, func(c Check) bool { return c.ID == id }) {
			continue
		}
		s := fmt.Sprintf("unknown host preflight %q", id)
		if n := suggestIDs(checks, id); len(n) > 0 {
			s += "; did you mean " + strings.Join(n, " or ") + "?"
		}
		wrong = append(wrong, s)
	}
	if wrong == nil {
		return nil
	}
	return problem.Newf(problem.ExitUsage, "ignore host preflights",
		"run `plinth preflight` to list every check with its id", "%s", strings.Join(wrong, "; "))
}

// suggestIDs returns up to three ids of checks that are similar to id, best first.
func suggestIDs(checks []Check, id string) []string {
	type match struct {
		id   string
		cost int
	}
	var all []match
	for _, c := range checks {
		cost := problem.EditDistance(id, c.ID)
		if len(id) > 2 && strings.Contains(c.ID, id) || strings.Contains(id, c.ID) {
			cost = min(cost, 1)
		}
		if cost <= 1+len(id)/4 {
			all = append(all, match{c.ID, cost})
		}
	}
	slices.SortStableFunc(all, func(a, b match) int { return a.cost - b.cost })
	var ids []string
	for _, m := range all[:min(3, len(all))] {
		ids = append(ids, m.id)
	}
	return ids
}
