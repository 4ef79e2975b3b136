// Package hostpreflight owns the question "will it work on this host?": what a
// check is, how checks are run over a host's facts, which of them may be
// ignored, and the report. It refuses to look at the host (internal/probe
// does), to change it, and to know the Installer: the caller says in a Want
// what this install needs. The checks themselves are in hostpreflight/builtin.
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

// State is what a check says.
type State string

// The states, from best to worst; Unknown is no judgement: the host could not
// be asked, and Found says why.
const (
	Pass    State = "pass"
	Skipped State = "skipped" // was not asked; Found says why, By by whom
	Unknown State = "unknown"
	Warn    State = "warn" // will work, with a known cost or risk; or a failure that was ignored
	Fail    State = "fail" // will not work
)

// Role is what a host is to be in the cluster.
type Role string

// The roles. A controller runs workloads too.
const (
	Controller Role = "controller"
	Worker     Role = "worker"
)

// Verb is a command that asks the checks before it changes a host. A preflight
// on its own asks what an install would.
type Verb string

// The verbs.
const (
	Preflight Verb = "preflight"
	Install   Verb = "install"
	Join      Verb = "join"
	Upgrade   Verb = "upgrade"
)

// Check is one question about a host.
type Check struct {
	ID       string // kebab-case, unique and stable: people write it after --ignore-host-preflight
	Group    string // heading it stands under
	Title    string // what it looks at, in a few words
	Severity State  // the worst it can say: Fail or Warn
	Roles    []Role // nil for all
	Verbs    []Verb // verbs that ask it; nil for all
	Strict   bool   // its failure cannot be ignored
	Wants    string // what is wanted, with its thresholds
	Why      string // what goes wrong otherwise, and where the rule comes from
	Run      func(facts.Facts, Want) Result
}

// Result is a check's answer.
type Result struct {
	State  State  `json:"state"`
	Found  string `json:"found"`            // what was found; for Unknown and Skipped, why there is no answer
	Wanted string `json:"wanted,omitempty"` // what is wanted; left empty, the check's Wants
	Fix    string `json:"fix,omitempty"`    // what to do, with the command where there is one
	By     string `json:"by,omitempty"`     // for Skipped, who decided so: role, verb, install, user, vendor or another check's id
}

// Skip is no answer because by did not want it asked, and why.
func Skip(by, why string) Result { return Result{State: Skipped, Found: why, By: by} }

// Wanting says what is wanted in this very case, in place of the check's Wants.
func (r Result) Wanting(format string, args ...any) Result {
	r.Wanted = fmt.Sprintf(format, args...)
	return r
}

// Want is what one install wants of a host: plain data, which the caller fills
// from the Installer, the bundle and the journal. Zero values mean "the
// default", or "nothing of that kind is wanted".
type Want struct {
	Verb            Verb           // verb that asks; empty for Preflight
	Role            Role           // empty for Controller
	Arch            string         // of the bundle's parts, as Go names it; empty for amd64
	KubernetesMinor int            // 33 for Kubernetes 1.33
	MinCPUs         int            // more than the default of the role, if the vendor asks for it
	MinMemory       uint64         // bytes; likewise
	PodCIDR         netip.Prefix   // network of the pods
	ServiceCIDR     netip.Prefix   // network of the services
	NodeIP          netip.Addr     // address of this node, when it was given
	ConsolePort     int            // port of the admin console
	Ports           map[string]int // other port numbers than the default, by the port's use: {"kube-apiserver": 7443}
	NodePorts       [2]int         // first and last port that services may take
	Sources         []string       // URLs that are fetched from; none for an install without internet
	Lacking         []string       // what is wrong with the bundle's content there, a blob each
	Proxy           string         // URL of the proxy to them; may hold credentials
	Disks           []Disk         // every path that is written to
	EvictBelow      int            // percent of free space below which kubelet is configured to evict; 0 for its default of 15
	NotBefore       time.Time      // when the bundle was made: an earlier clock is wrong
	Quick           bool           // the user does not want to wait for measures
	Ours            Ours           // what is already here and belongs to this install
	Earlier         Earlier        // what an earlier run found here
}

// Earlier is what the last install or join found on this host.
type Earlier struct {
	Facts *facts.Facts // nil when there was none
	Why   string       // why there is none that can be trusted; "" when nothing was kept
}

// asking is the verb whose checks are asked.
func (w Want) asking() Verb {
	if w.Verb == Preflight {
		return Install
	}
	return w.Verb
}

// IsWorker reports whether the host is to run workloads only.
func (w Want) IsWorker() bool { return w.Role == Worker }

// Disk is a path that is written to.
type Disk struct {
	Path  string // absolute; need not exist
	Use   string // what for, in a few words: "images and containers"
	Bytes uint64 // what will still be written there; 0 when it does not matter
	Exec  bool   // programs run from there
	Pods  bool   // kubelet and containerd keep pods and images there
}

// Ours is what an earlier run of the same install left, finished or not, so
// that no check takes it for somebody else's. The journal knows it.
type Ours struct {
	Installed bool     // k0s was started here: its network, rules and links are ours
	Paths     []string // files and folders that are ours; what lies below them, too
	Units     []string // systemd units, with or without .service
}

// Unit reports whether the systemd unit belongs to this install.
func (o Ours) Unit(name string) bool {
	return slices.Contains(o.Units, name) || slices.Contains(o.Units, name+".service")
}

// Path reports whether p belongs to this install.
func (o Ours) Path(p string) bool {
	return slices.ContainsFunc(o.Paths, func(own string) bool {
		own = path.Clean(own)
		return p == own || strings.HasPrefix(p, own+"/")
	})
}

// Owner reports whether a process, or one of those that started it, runs a
// program that belongs to this install: a container's program does not, the
// shim above it does.
func (o Ours) Owner(p *facts.Owner) bool {
	return p != nil && (o.Path(p.Program) || slices.ContainsFunc(p.Parents, o.Path))
}

// Run asks every check and turns the failures of the ignored ones into
// warnings. An id in ignore that no check has is an error that names the
// nearest ones (exit code 2).
func Run(checks []Check, f facts.Facts, w Want, ignore []string) (Report, error) {
	if w.Role == "" {
		w.Role = Controller
	}
	if w.Verb == "" {
		w.Verb = Preflight
	}
	if err := known(checks, ignore); err != nil {
		return Report{}, err
	}
	r := Report{Schema: Schema, Host: f.Hostname, Role: w.Role, Verb: w.Verb}
	for _, c := range checks {
		e := Entry{ID: c.ID, Group: c.Group, Title: c.Title, Result: ask(c, f, w)}
		e.Strict = c.Strict && e.State == Fail
		if e.State == Fail && !c.Strict && slices.Contains(ignore, c.ID) {
			e.State, e.Ignored = Warn, true
		}
		r.add(e)
	}
	return r, nil
}

func ask(c Check, f facts.Facts, w Want) Result {
	if c.Roles != nil && !slices.Contains(c.Roles, w.Role) {
		return Skip("role", fmt.Sprintf("only asked of a %s", c.Roles[0]))
	}
	if verb := w.asking(); c.Verbs != nil && !slices.Contains(c.Verbs, verb) {
		return Skip("verb", fmt.Sprintf("not asked before %s", verb))
	}
	res := c.Run(f, w)
	if res.Wanted == "" && res.State != Skipped {
		res.Wanted = c.Wants
	}
	return res
}

func known(checks []Check, ignore []string) error {
	var wrong []string
	for _, id := range ignore {
		if slices.ContainsFunc(checks, func(c Check) bool { return c.ID == id }) {
			continue
		}
		s := fmt.Sprintf("no host preflight is called %q", id)
		if n := near(checks, id); len(n) > 0 {
			s += "; did you mean " + strings.Join(n, " or ") + "?"
		}
		wrong = append(wrong, s)
	}
	if wrong == nil {
		return nil
	}
	return problem.Newf(problem.ExitUsage, "ignore host preflights",
		"`plinth preflight` prints every check with its id", "%s", strings.Join(wrong, "; "))
}

// near are up to three ids that id may have been meant to be, best first.
func near(checks []Check, id string) []string {
	type match struct {
		id   string
		cost int
	}
	var all []match
	for _, c := range checks {
		cost := distance(id, c.ID)
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

// distance is how many letters must be changed, added or left out to make a
// into b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
