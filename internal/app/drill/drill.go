package drill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/failpoint"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/problem"
)

// Request is what a drill is asked for.
type Request struct {
	ThrowAway bool          // the user says that nothing on this host is of value
	Way       string        // Chain, Resume or Reset
	Points    []string      // to kill at, each NAME or NAME#N; none for every boundary of a step
	Random    int           // of Chain: so many kills more, at random moments
	Within    time.Duration // a random moment is at most that long after a run's begin
	Seed      uint64        // of the random moments; 0 for one of the clock
	Args      []string      // the verb to be drilled and its arguments: install --bundle FILE
}

// Ways of a drill.
const (
	// Chain is one run of the verb that dies at one point after the other, each
	// time resumed by the next, until it has come to its end.
	Chain = "chain"
	// Resume is, for each point, a run that dies there, one that comes to its
	// end, and a reset.
	Resume = "resume"
	// Reset is, for each point, a run that dies there, and a reset.
	Reset = "reset"
)

// Row is one death and what followed.
type Row struct {
	Point   string  `json:"point"`            // that killed
	Killed  float64 `json:"killedSeconds"`    // how long the run had lived
	Step    string  `json:"step,omitempty"`   // which it had told of last
	Next    string  `json:"next,omitempty"`   // what was run next: the verb, or reset
	Seconds float64 `json:"seconds"`          // how long the next took, to its end or its own death
	Result  string  `json:"result"`           // Recovered, Unreached or Failed
	Detail  string  `json:"detail,omitempty"` // of Failed
}

// Results of a Row.
const (
	Recovered = "recovered"   // the next run came to its end, or as far as its own death
	Unreached = "not reached" // the run ended well without coming there
	Failed    = "failed"      // the next run did not do what it must
)

// Result is how a drill ended.
type Result struct {
	Way     string  `json:"way"`
	Seed    uint64  `json:"seed"`
	Rows    []Row   `json:"rows"`
	Kills   int     `json:"kills"`   // deaths in all
	Failed  int     `json:"failed"`  // rows that failed
	Seconds float64 `json:"seconds"` // in all
}

// drill is one drill at work.
type drill struct {
	*run.Run
	self  string // this program
	req   Request
	rules []failpoint.Rule // to die by
	rand  *rand.Rand
	res   Result
}

// Run kills the verb of req.Args at each point and proves that the same
// command then comes to its end, or a reset takes everything back.
func Run(ctx context.Context, r *run.Run, req Request) (Result, error) {
	const doing = "run a drill"
	if err := run.NeedRoot(doing); err != nil {
		return Result{}, err
	}
	d, err := prepare(r, req)
	if err != nil {
		return Result{}, err
	}
	start := r.Now()
	if req.Way == Chain {
		err = d.chain(ctx)
	} else {
		err = d.each(ctx)
	}
	for _, row := range d.res.Rows {
		if row.Result == Failed {
			d.res.Failed++
		}
	}
	d.res.Seconds = r.Now().Sub(start).Seconds()
	if err == nil && d.res.Failed > 0 {
		err = problem.Newf(problem.ExitStep, doing, "the table says which; the logs are in "+run.LogDir, "%d of %d rows failed", d.res.Failed, len(d.res.Rows))
	}
	return d.res, err
}

// prepare refuses what cannot be drilled; it changes nothing.
func prepare(r *run.Run, req Request) (*drill, error) {
	const doing = "run a drill"
	bad := func(cause, hint string) error { return problem.New(problem.ExitUsage, doing, errors.New(cause), hint) }
	if !req.ThrowAway {
		return nil, bad("it kills runs on this host and removes the cluster", "on a host whose loss does not matter, say so with --this-host-is-throw-away")
	}
	if !slices.Contains([]string{Chain, Resume, Reset}, req.Way) {
		return nil, bad(fmt.Sprintf("no drill goes the way %q", req.Way), "the ways are chain, resume and reset")
	}
	if !drillable(req) {
		return nil, bad("only an install can be drilled, and a join or a reset as a chain", "name it behind two dashes: plinth drill run --this-host-is-throw-away -- install --bundle FILE")
	}
	if req.Args[0] != "reset" {
		if err := unused(r, bad); err != nil {
			return nil, err
		}
	}
	req.Args = unasked(r, req.Args)
	rules, err := choose(req)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if req.Seed == 0 {
		req.Seed = uint64(r.Now().UnixNano())
	}
	return &drill{Run: r, self: self, req: req, rules: rules, rand: rand.New(rand.NewPCG(req.Seed, 0)),
		res: Result{Way: req.Way, Seed: req.Seed, Rows: []Row{}}}, nil
}

// drillable reports whether a verb can be drilled the way that is asked for: a
// reset of a joined host would have to be told to its cluster each time.
func drillable(req Request) bool {
	if len(req.Args) == 0 {
		return false
	}
	switch req.Args[0] {
	case "install":
		return true
	case "join", "reset":
		return req.Way == Chain
	}
	return false
}

// unasked is a command line that asks nothing: a join never does.
func unasked(r *run.Run, args []string) []string {
	args = slices.Clone(args)
	if args[0] != "join" && !slices.Contains(args, "--yes") {
		args = append(args, "--yes")
	}
	if strings.HasPrefix(strings.Join(args, " "), "reset cluster") && !slices.Contains(args, "--cluster") {
		args = append(args, named(r)...)
	}
	return args
}

// unused refuses a host on which anything is, or was begun.
func unused(r *run.Run, bad func(cause, hint string) error) error {
	if _, installed, err := journal.ReadReceipt(r.Host, r.DataDir); err != nil {
		return err
	} else if installed {
		return bad("a cluster is installed on this host", "take a host that has none, or take it back first: plinth reset cluster")
	}
	j, err := journal.Open(r.Host, r.DataDir, r.Now)
	if err == nil && len(j.Runs()) > 0 {
		err = bad("an unfinished run is on this host", "take it back first: plinth reset cluster")
	}
	return err
}

// choose gives the deaths that req names, or those at every boundary at which a
// chain can die: a step that was applied is not begun again, so that in a chain
// its end is reached only as the look at the next one, which is the same state.
func choose(req Request) ([]failpoint.Rule, error) {
	all, err := Points()
	if err != nil {
		return nil, err
	}
	verb := req.Args[0]
	if len(req.Points) > 0 {
		rules, err := failpoint.Parse(strings.Join(req.Points, "=kill;")+"=kill", all)
		if err != nil {
			return nil, problem.New(problem.ExitUsage, "run a drill", err, "list them with: plinth drill list")
		}
		if i := slices.IndexFunc(rules, func(r failpoint.Rule) bool { return r.Point.Verb != verb }); i >= 0 {
			return nil, problem.Newf(problem.ExitUsage, "run a drill", "list them with: plinth drill list", "%s is no failpoint of %s", rules[i].Point, verb)
		}
		return rules, nil
	}
	var rules []failpoint.Rule
	for _, p := range all {
		end := p.Moment == failpoint.Ended && req.Way == Chain
		if p.Verb == verb && p.Moment != failpoint.Working && p.Moment != failpoint.Started && !end {
			rules = append(rules, failpoint.Rule{Point: p, Nth: 1, Action: failpoint.Kill})
		}
	}
	return rules, nil
}
