package faulttest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/failpoint"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/problem"
)

// Request describes a fault test.
type Request struct {
	HostIsDisposable bool          // the user confirms that nothing on this host is of value
	Mode             string        // Chain, Resume or Reset
	Points           []string      // failpoints to kill at, each NAME or NAME#N; none for every step boundary
	RandomKills      int           // Chain only: number of additional kills at random times
	RandomWithin     time.Duration // maximum time of a random kill after the start of a run
	Seed             uint64        // of the random times; 0 to take one from the clock
	Args             []string      // command to test and its arguments: install --bundle FILE
}

// Modes of a fault test.
const (
	// Chain runs the command until it completes. Each run is killed at one point
	// and resumed by the next run.
	Chain = "chain"
	// Resume does, for each point: a run that is killed there, a run that
	// completes, and a reset.
	Resume = "resume"
	// Reset does, for each point: a run that is killed there, and a reset.
	Reset = "reset"
)

// Row is one kill and the run that followed it.
type Row struct {
	Point       string  `json:"point"`            // that killed the run
	KilledAfter float64 `json:"killedSeconds"`    // duration of the killed run
	Step        string  `json:"step,omitempty"`   // last step that the killed run reported
	Next        string  `json:"next,omitempty"`   // next command: the tested one, or reset
	Seconds     float64 `json:"seconds"`          // duration of the next command, until it ended or was killed
	Result      string  `json:"result"`           // Recovered, Unreached or Failed
	Detail      string  `json:"detail,omitempty"` // reason for Failed
}

// Results of a Row.
const (
	Recovered = "recovered"   // the next run completed, or reached the point that killed it
	Unreached = "not reached" // the run completed without reaching the point
	Failed    = "failed"      // the next run failed
)

// Result is the result of a fault test.
type Result struct {
	Mode    string  `json:"mode"`
	Seed    uint64  `json:"seed"`
	Rows    []Row   `json:"rows"`
	Kills   int     `json:"kills"`   // total number of killed runs
	Failed  int     `json:"failed"`  // number of failed rows
	Seconds float64 `json:"seconds"` // total duration
}

// tester executes one fault test.
type tester struct {
	*action.Env
	self  string // path of this program
	req   Request
	rules []failpoint.Rule // where to kill
	rand  *rand.Rand
	res   Result
}

// Run kills the command in req.Args at each point, and verifies that the same
// command then completes or that a reset removes everything.
func Run(ctx context.Context, env *action.Env, req Request) (Result, error) {
	const doing = "run the fault test"
	if err := action.RequireRoot(doing); err != nil {
		return Result{}, err
	}
	d, err := newTester(env, req)
	if err != nil {
		return Result{}, err
	}
	start := env.Now()
	if req.Mode == Chain {
		err = d.runChain(ctx)
	} else {
		err = d.runEach(ctx)
	}
	for _, row := range d.res.Rows {
		if row.Result == Failed {
			d.res.Failed++
		}
	}
	d.res.Seconds = env.Now().Sub(start).Seconds()
	if err == nil && d.res.Failed > 0 {
		err = problem.Newf(problem.ExitStep, doing, "see the failed rows in the table; the logs are in "+action.LogDir, "%d of %d rows failed", d.res.Failed, len(d.res.Rows))
	}
	return d.res, err
}

// newTester validates req and this host, and returns a tester for it. It changes nothing.
func newTester(env *action.Env, req Request) (*tester, error) {
	const doing = "run the fault test"
	bad := func(cause, hint string) error { return problem.New(problem.ExitUsage, doing, errors.New(cause), hint) }
	if !req.HostIsDisposable {
		return nil, bad("it kills runs on this host and removes the cluster", "if nothing on this host is of value, confirm it with --host-is-disposable")
	}
	if !slices.Contains([]string{Chain, Resume, Reset}, req.Mode) {
		return nil, bad(fmt.Sprintf("unknown --mode %q", req.Mode), "use --mode chain, resume or reset")
	}
	if !isTestable(req) {
		return nil, bad("only install can be tested, and join or reset with --mode chain", "put the command after two dashes: plinth debug fault-test run --host-is-disposable -- install --bundle FILE")
	}
	if req.Args[0] != "reset" {
		if err := checkUnused(env, bad); err != nil {
			return nil, err
		}
	}
	req.Args = withoutQuestions(env, req.Args)
	rules, err := selectRules(req)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if req.Seed == 0 {
		req.Seed = uint64(env.Now().UnixNano())
	}
	return &tester{Env: env, self: self, req: req, rules: rules, rand: rand.New(rand.NewPCG(req.Seed, 0)),
		res: Result{Mode: req.Mode, Seed: req.Seed, Rows: []Row{}}}, nil
}

// isTestable reports whether the command in req.Args can be tested in the
// requested mode. A join or a reset is limited to Chain, because each reset of a
// joined host would also have to remove it from its cluster.
func isTestable(req Request) bool {
	if len(req.Args) == 0 {
		return false
	}
	switch req.Args[0] {
	case "install":
		return true
	case "join", "reset":
		return req.Mode == Chain
	}
	return false
}

// withoutQuestions returns args with the flags that suppress all questions. A join
// has no questions.
func withoutQuestions(env *action.Env, args []string) []string {
	args = slices.Clone(args)
	if args[0] != "join" && !slices.Contains(args, "--yes") {
		args = append(args, "--yes")
	}
	if strings.HasPrefix(strings.Join(args, " "), "reset cluster") && !slices.Contains(args, "--cluster") {
		args = append(args, clusterFlag(env)...)
	}
	return args
}

// checkUnused returns a problem if a cluster is installed on this host or a run
// is unfinished.
func checkUnused(env *action.Env, bad func(cause, hint string) error) error {
	if _, installed, err := journal.ReadReceipt(env.Host, env.DataDir); err != nil {
		return err
	} else if installed {
		return bad("a cluster is installed on this host", "use a host without a cluster, or remove it first: plinth reset cluster")
	}
	j, err := journal.Open(env.Host, env.DataDir, env.Now)
	if err == nil && len(j.Runs()) > 0 {
		err = bad("this host has an unfinished run", "remove it first: plinth reset cluster")
	}
	return err
}

// selectRules returns the kills that req.Points names, or those at every step
// boundary, but for those of the vendor's charts, whose names are not known here.
// In a chain, the end of a step is left out: an applied step is not
// started again, so a resumed run cannot reach its end; the check of the next step
// is the same state.
func selectRules(req Request) ([]failpoint.Rule, error) {
	all, err := Points()
	if err != nil {
		return nil, err
	}
	verb := req.Args[0]
	if len(req.Points) > 0 {
		rules, err := failpoint.Parse(strings.Join(req.Points, "=kill;")+"=kill", all)
		if err != nil {
			return nil, problem.New(problem.ExitUsage, "run the fault test", err, "list the failpoints with: plinth debug fault-test list")
		}
		if i := slices.IndexFunc(rules, func(r failpoint.Rule) bool { return r.Point.Verb != verb }); i >= 0 {
			return nil, problem.Newf(problem.ExitUsage, "run the fault test", "list the failpoints with: plinth debug fault-test list", "%s is not a failpoint of %s", rules[i].Point, verb)
		}
		return rules, nil
	}
	var rules []failpoint.Rule
	for _, p := range all {
		end := p.Phase == failpoint.Ended && req.Mode == Chain
		if p.Verb == verb && p.Object != failpoint.AnyChart && p.Phase != failpoint.Working && p.Phase != failpoint.Started && !end {
			rules = append(rules, failpoint.Rule{Point: p, Nth: 1, Action: failpoint.Kill})
		}
	}
	return rules, nil
}
