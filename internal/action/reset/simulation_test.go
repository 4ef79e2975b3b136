package reset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/testkit"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/faulttest"
	"github.com/plinthdev/plinth/internal/failpoint"
	"github.com/plinthdev/plinth/internal/host/hosttest/sim"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
)

// The simulation installs or joins, and resets, on a simulated host, with the real
// journal, step runner and reset, and the real steps up to the start of k0s. It
// stops at every failpoint and before every change of the host: the state at that
// moment is what a kill would leave. From each such state it continues with every
// command that a user could run, and stops at every moment again: thus it covers
// every pair of kills. A state that was seen before is not continued again.

const dataDir = "/var/lib/plinth"

// simulation is what all cases share.
type simulation struct {
	t         *testing.T
	scenario  scenario
	in        *spec.Installer
	parts     []addons.AddOn
	points    []failpoint.Point
	issued    issued    // certificates of the simulated host, the same in each run
	bare      sim.State // before any run
	converged sim.State // once it is a node, after a run without faults
	ends      moments   // end states of runs that were verified to be complete
}

func newSimulation(t *testing.T, scenario scenario) *simulation {
	t.Helper()
	if raceDetector {
		t.Skip("a simulated host is single-threaded: make test-unit runs this without the race detector, which takes ten times as long")
	}
	raw, err := os.ReadFile("../../../installer.yaml")
	testkit.Must(t, err)
	in, findings := spec.ParseInstaller("installer.yaml", raw)
	if in == nil {
		t.Fatal(findings)
	}
	parts, err := addons.Resolve(in, dataDir)
	testkit.Must(t, err)
	points, err := faulttest.Points()
	testkit.Must(t, err)
	role := token.Controller
	if scenario.worker {
		role = token.Worker
	}
	s := &simulation{t: t, scenario: scenario, in: in, parts: parts, points: points, issued: newIssued(t, role), bare: sim.NewHost()}
	s.converged, err = s.becomeNode(s.bare, nil, nil)
	testkit.Must(t, err)
	return s
}

// errHalfReset is the error for a host whose reset stopped halfway. Install refuses such
// a host too, although it would finish unless only a part of the authority is left.
var errHalfReset = errors.New("the reset is not finished")

// observer is called for each moment at which a run could be killed, with the state that
// it would leave.
type observer func(moment string, left sim.State)

// newRun returns a run of verb on a machine that continues from state, with rules armed;
// or, when see is set, with see called for every moment.
func (s *simulation) newRun(verb string, state sim.State, rules []failpoint.Rule, see observer) (*action.Env, *sim.Machine) {
	m := sim.New(s.t, state)
	failpoints := failpoint.Arm(rules, failpoint.Effects{})
	if see != nil {
		m.OnChange = func(what string) { see("before "+what, maps.Clone(m.State)) }
		failpoints = failpoint.Observe(s.points, func(p failpoint.Point) { see(p.String(), maps.Clone(m.State)) })
	}
	r := &action.Env{Host: m.Host(), GlobalOptions: action.GlobalOptions{DataDir: dataDir, Failpoints: failpoints,
		Events: func(step.Event) {}, Note: func(string) {}, Confirm: func(context.Context, string) error { return nil },
		Now: sim.Now}}
	r.ArmFailpoints(verb)
	return r, m
}

// becomeNode runs the command by which the host becomes a node. It continues from state,
// as the command does after its checks, and returns the state at its end.
func (s *simulation) becomeNode(state sim.State, rules []failpoint.Rule, see observer) (sim.State, error) {
	verb := s.scenario.verb
	r, m := s.newRun(verb, state, rules, see)
	j, err := r.OpenJournal()
	if err != nil {
		return m.State, err
	}
	if last, ok := j.LastRun("reset"); ok && last.Unfinished() {
		if _, err := k0s.CANeeded(r.Host); err != nil || verb == "join" {
			return m.State, errHalfReset
		}
	}
	steps := s.steps(r, m, j)
	_, installed, err := journal.ReadReceipt(r.Host, dataDir)
	if err != nil {
		return m.State, err
	}
	todo, err := r.StepRunner(verb, nil).Plan(s.t.Context(), steps)
	if err != nil || installed && !slices.ContainsFunc(todo, func(p step.Planned) bool { return p.State != "done" }) {
		return m.State, err
	}
	if err := j.BeginRun(verb, journal.Args{PodCIDR: s.in.Spec.Network.PodCIDR, Cluster: "my-app"}); err != nil {
		return m.State, err
	}
	if _, err = r.StepRunner(verb, j).Run(s.t.Context(), steps); err == nil {
		err = journal.WriteReceipt(r.Host, dataDir, journal.Receipt{Name: "my-app"})
	}
	return m.State, errors.Join(err, j.EndRun(err))
}

// reset runs a reset from state and returns the state at its end.
func (s *simulation) reset(state sim.State, rules []failpoint.Rule, see observer) (sim.State, error) {
	r, m := s.newRun("reset", state, rules, see)
	_, err := resetHost{r}.resetCluster(s.t.Context(), Options{Yes: true, Cluster: "my-app", DeleteData: true})
	return m.State, err
}

// withoutModules returns state without kernel modules, which stay loaded, and the
// settings that they create.
func withoutModules(state sim.State) sim.State {
	kept := maps.Clone(state)
	for key := range kept {
		if strings.HasPrefix(key, "/sys/module") || key == "/proc/modules" || strings.HasPrefix(key, "/proc/sys/net/bridge") || key == "/proc/sys/net" || key == "/sys" {
			delete(kept, key)
		}
	}
	return kept
}

// differences returns at most 12 differences between two states.
func differences(o, b sim.State) []string {
	o, b = withoutModules(o), withoutModules(b)
	var all []string
	for key, thing := range o {
		if other, ok := b[key]; !ok {
			all = append(all, "- "+key)
		} else if other != thing {
			all = append(all, fmt.Sprintf("~ %s: %v %.300q → %v %.300q", key, thing.Mode, thing.Data, other.Mode, other.Data))
		}
	}
	for key := range b {
		if _, ok := o[key]; !ok {
			all = append(all, "+ "+key)
		}
	}
	slices.Sort(all)
	return all[:min(len(all), 12)]
}

// verifyReset verifies that a reset from state restores the host.
func (s *simulation) verifyReset(history string, state sim.State) {
	end, err := s.reset(state, nil, nil)
	if d := differences(s.bare, end); err != nil || len(d) > 0 {
		s.t.Errorf("%s, then reset: %v\n%s", history, err, strings.Join(d, "\n"))
	}
}

// verifyRecovery verifies that an install from state finishes with the same host as one
// without faults, and that a reset then restores the host.
func (s *simulation) verifyRecovery(history string, state sim.State) {
	end, err := s.becomeNode(state, nil, nil)
	if errors.Is(err, errHalfReset) {
		if end, err = s.reset(state, nil, nil); err == nil {
			end, err = s.becomeNode(end, nil, nil)
		}
	}
	if d := differences(withoutJournal(s.converged), withoutJournal(end)); err != nil || len(d) > 0 {
		s.t.Errorf("%s, then again: %v\n%s", history, err, strings.Join(d, "\n"))
		return
	}
	if !s.ends.see(history, end) {
		return
	}
	again, err := s.becomeNode(end, nil, func(moment string, _ sim.State) {
		if strings.HasPrefix(moment, "before ") {
			s.t.Errorf("%s, then install, then again: not converged, %s", history, moment)
		}
	})
	if d := differences(end, again); err != nil || len(d) > 0 {
		s.t.Errorf("%s, then install, then again: %v\n%s", history, err, strings.Join(d, "\n"))
	}
	s.verifyReset(history+", then again", end)
}

// beforeFile is the record of the host before its first install.
const beforeFile = dataDir + "/" + node.BeforeDir + "/host.json"

func isJournal(key string) bool {
	return strings.HasPrefix(key, dataDir+"/journal.") || strings.HasPrefix(key, dataDir+"/.journal.")
}

// withoutJournal returns state without its journal, which depends on the past runs. The
// order of mounts, rules and users is removed too.
func withoutJournal(state sim.State) sim.State {
	kept := maps.Clone(state)
	maps.DeleteFunc(kept, func(key string, _ sim.Object) bool {
		return isJournal(key)
	})
	if photo, ok := kept[beforeFile]; ok { // without its modules, which stay loaded
		var sections map[string]any
		if json.Unmarshal([]byte(photo.Data), &sections) == nil {
			delete(sections, "modules")
			photo.Data = fmt.Sprint(sections)
			kept[beforeFile] = photo
		}
	}
	for _, key := range []string{sim.RulesKey, sim.MountInfoPath, "/etc/passwd", "/etc/group"} {
		lines := strings.Split(kept[key].Data, "\n")
		slices.Sort(lines)
		kept[key] = sim.Object{Data: strings.Join(lines, "\n")}
	}
	return kept
}

// verifyInvariants verifies what must hold at every moment: no file of another program is
// changed, a file that Plinth writes has its old or its new content, and the journal can
// be read.
func (s *simulation) verifyInvariants(moment string, state sim.State) {
	for key, was := range s.bare {
		is, there := state[key]
		switch {
		case key == sim.RulesKey:
			for line := range strings.Lines(was.Data) {
				if !strings.Contains(is.Data, line) {
					s.t.Errorf("%s: the packet rule %q is gone", moment, line)
				}
			}
		case s.converged[key] == was && is != was:
			s.t.Errorf("%s: %s is not Plinth's, and was %v, is %v (%t)", moment, key, was, is, there)
		}
	}
	for key, is := range state {
		if key == k0s.TokenPath {
			continue // it is removed once the host is a node
		}
		written := strings.HasPrefix(key, "/etc/") && key != "/etc/passwd" && key != "/etc/group" || strings.HasPrefix(key, "/usr/local/bin/") ||
			key == dataDir+"/"+journal.ReceiptFile
		was, had := s.bare[key]
		will, has := s.converged[key]
		if written && !strings.HasSuffix(key, ".plinth-tmp") && (!had || is != was) && (!has || is != will) {
			s.t.Errorf("%s: %s is neither unchanged nor in its final state: %v %q", moment, key, is.Mode, is.Data)
		}
	}
	if _, err := journal.Open(sim.New(s.t, state).Host(), dataDir, time.Now); err != nil {
		s.t.Errorf("%s: %v", moment, err)
	}
}

// moments collects what a run leaves at each of its moments, each state once.
type moments struct {
	mu        sync.Mutex
	known     map[uint64]bool
	seed      maphash.Seed
	summaries map[string]string
	names     []string
	left      []sim.State
	all       int // number of moments, including repeated states
}

// see records what is left at a moment and reports whether the state is new.
func (c *moments) see(name string, left sim.State) (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known, c.seed, c.summaries = map[uint64]bool{}, maphash.MakeSeed(), map[string]string{}
	}
	c.all++
	key := c.hashState(left)
	if c.known[key] {
		return false
	}
	c.known[key] = true
	c.names, c.left = append(c.names, name), append(c.left, left)
	return true
}

// hashState returns a hash that differs between states only if a later run can tell them
// apart: such a run reads from the journal the arguments of the runs, what their steps
// changed and found, and how far the last one came.
func (c *moments) hashState(state sim.State) uint64 {
	sum := uint64(0)
	for key, thing := range state {
		if strings.HasSuffix(key, ".plinth-tmp") {
			thing.Data = "" // never read, only overwritten
		} else if isJournal(key) {
			known, ok := c.summaries[thing.Data]
			if !ok {
				known = summarizeJournal(thing.Data)
				c.summaries[thing.Data] = known
			}
			thing.Data = known
		}
		sum += maphash.Comparable(c.seed, struct {
			string
			sim.Object
		}{key, thing})
	}
	return sum
}

// summarizeJournal returns what a later run reads from the journal text.
func summarizeJournal(text string) string {
	var content struct{ Runs []journal.Run }
	if json.Unmarshal([]byte(text), &content) != nil || len(content.Runs) == 0 {
		return text
	}
	facts := map[string]bool{}
	for _, r := range content.Runs {
		facts[fmt.Sprint(r.Verb, r.Args)] = true
		for _, s := range r.Steps {
			facts[fmt.Sprint(s.ID, s.Affects, string(s.OriginalState))] = true
		}
	}
	last := content.Runs[len(content.Runs)-1]
	return fmt.Sprint(slices.Sorted(maps.Keys(facts)), last.Verb, last.Unfinished(), last.ReachedStep())
}

// recordIn returns an observer that records each moment in c.
func recordIn(c *moments) observer {
	return func(moment string, left sim.State) { c.see(moment, left) }
}

// forEach runs do for every state of c.
func (c *moments) forEach(do func(name string, left sim.State)) {
	inParallel(len(c.left), func(i int) { do(c.names[i], c.left[i]) })
}

// inParallel runs do for each number below n, many in parallel: a reset waits between two
// checks of the processes that it ends.
func inParallel(n int, do func(i int)) {
	next := make(chan int)
	var wg sync.WaitGroup
	for range 48 {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// forEachScenario runs do as a subtest for each scenario.
func forEachScenario(t *testing.T, do func(*testing.T, *simulation)) {
	for _, w := range scenarios() {
		t.Run(w.String(), func(t *testing.T) { do(t, newSimulation(t, w)) })
	}
}

func TestSimulation_ResetRestoresTheHost(t *testing.T) {
	forEachScenario(t, func(t *testing.T, s *simulation) {
		if len(differences(s.bare, s.converged)) == 0 {
			t.Fatal("it changed nothing")
		}
		s.verifyReset(s.scenario.verb, s.converged)
		s.verifyRecovery("nothing", s.bare)
	})
}

// isFailpoint reports whether a moment is a failpoint, not one before a change.
func isFailpoint(moment string) bool { return !strings.HasPrefix(moment, "before ") }

func TestSimulation_RecoversFromAKillBeforeAnyChange(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes longer than all other tests of this package")
	}
	forEachScenario(t, func(t *testing.T, s *simulation) {
		var growing, resetting moments
		_, err := s.becomeNode(s.bare, nil, recordIn(&growing))
		testkit.Must(t, err)
		_, err = s.reset(s.converged, nil, recordIn(&resetting))
		testkit.Must(t, err)
		growing.forEach(func(moment string, left sim.State) {
			s.verifyInvariants(moment, left)
			s.verifyReset(moment, left)
			s.verifyRecovery(moment, left)
		})
		resetting.forEach(func(moment string, left sim.State) {
			s.verifyReset(moment, left)
			s.verifyRecovery(moment, left)
		})
		t.Logf("%d moments, %d states; reset: %d, %d", growing.all, len(growing.left), resetting.all, len(resetting.left))
	})
}

func TestSimulation_RecoversFromEveryPairOfFailpoints(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes longer than all other tests of this package")
	}
	forEachScenario(t, func(t *testing.T, s *simulation) {
		var growing, resetting, twice, inReset, resetTwice moments
		only := func(c *moments, before string) observer {
			return func(moment string, left sim.State) {
				if isFailpoint(moment) {
					c.see(before+moment, left)
				}
			}
		}
		_, err := s.becomeNode(s.bare, nil, only(&growing, ""))
		testkit.Must(t, err)
		_, err = s.reset(s.converged, nil, only(&resetting, ""))
		testkit.Must(t, err)
		growing.forEach(func(first string, left sim.State) {
			if _, err := s.becomeNode(left, nil, only(&twice, first+" and ")); err != nil {
				t.Errorf("%s, then again: %v", first, err)
			}
			if _, err := s.reset(left, nil, only(&inReset, first+" and ")); err != nil {
				t.Errorf("%s, then reset: %v", first, err)
			}
		})
		if s.scenario.verb == "join" {
			resetting = moments{} // the same as for install
		}
		resetting.forEach(func(first string, left sim.State) {
			if _, err := s.reset(left, nil, only(&resetTwice, first+" and ")); err != nil {
				t.Errorf("%s, then reset: %v", first, err)
			}
		})
		twice.forEach(func(history string, left sim.State) {
			s.verifyInvariants(history, left)
			s.verifyRecovery(history, left)
		})
		inReset.forEach(s.verifyReset)
		resetTwice.forEach(s.verifyReset)
		t.Logf("twice: %d pairs, %d states; then reset: %d, %d; reset, reset: %d, %d",
			twice.all, len(twice.left), inReset.all, len(inReset.left), resetTwice.all, len(resetTwice.left))
	})
}

// TestSimulation_RecoversFromEveryError lets each point of an install and of a reset
// fail, each time it is reached, as on a full disk or a broken one.
func TestSimulation_RecoversFromEveryError(t *testing.T) {
	forEachScenario(t, func(t *testing.T, s *simulation) {
		actions := []failpoint.Action{failpoint.Fail, failpoint.NoSpace, failpoint.BadDisk}
		var failed, failedReset moments
		writes := 8 // of the journal, each of which fails
		if s.scenario.verb == "join" {
			writes = 2 // the same as for install
		}
		var rules []failpoint.Rule
		for nth := 1; nth <= writes; nth++ {
			for _, p := range s.points {
				mayFail := p.Phase != failpoint.Working && p.Phase != failpoint.Started && (nth == 1 || p.Object == failpoint.Journal)
				if mayFail && (p.Verb == "reset" || p.Verb == s.scenario.verb) {
					rules = append(rules, failpoint.Rule{Point: p, Nth: nth, Action: actions[nth%len(actions)]})
				}
			}
		}
		inParallel(len(rules), func(i int) {
			verb, from, c := s.becomeNode, s.bare, &failed
			if rules[i].Point.Verb == "reset" {
				verb, from, c = s.reset, s.converged, &failedReset
			}
			if left, err := verb(from, rules[i:i+1], nil); err != nil { // else the point was not reached, or its error was ignored
				c.see(rules[i].String(), left)
			}
		})
		failed.forEach(func(history string, left sim.State) {
			s.verifyReset(history, left)
			s.verifyRecovery(history, left)
		})
		failedReset.forEach(s.verifyReset) // it reports what is left, and can be run again
		if failed.all < 50 || failedReset.all < 20 {
			t.Errorf("only %d runs and %d resets failed", failed.all, failedReset.all)
		}
		t.Logf("%d runs and %d resets failed on purpose", failed.all, failedReset.all)
	})
}

// TestSimulation_RecoversFromSeriesOfKillsAndErrors covers what the other tests leave out:
// longer series, each run completely, without skipping known states. The seed is fixed;
// PLINTH_TEST_SEED sets another one.
func TestSimulation_RecoversFromSeriesOfKillsAndErrors(t *testing.T) {
	forEachScenario(t, func(t *testing.T, s *simulation) {
		seed := uint64(1)
		if v := os.Getenv("PLINTH_TEST_SEED"); v != "" {
			_, err := fmt.Sscan(v, &seed)
			testkit.Must(t, err)
		}
		random := rand.New(rand.NewPCG(seed, 0))
		for range 12 {
			state, history := s.bare, fmt.Sprintf("seed %d", seed)
			for range 2 + random.IntN(5) {
				verb, name := s.becomeNode, s.scenario.verb
				if random.IntN(4) == 0 {
					verb, name = s.reset, "reset"
				}
				var rules []failpoint.Rule
				if random.IntN(3) == 0 {
					p := s.points[random.IntN(len(s.points))]
					rules = []failpoint.Rule{{Point: p, Nth: 1 + random.IntN(5), Action: failpoint.NoSpace}}
				}
				if rules != nil {
					state, _ = verb(state, rules, nil)
					history += ", " + name + " with " + rules[0].String()
					continue
				}
				var left []sim.State
				var where []string
				_, err := verb(state, nil, func(moment string, l sim.State) { left, where = append(left, l), append(where, moment) })
				if err != nil && !errors.Is(err, errHalfReset) {
					t.Errorf("%s, then %s: %v", history, name, err)
				}
				if len(left) > 0 {
					i := random.IntN(len(left))
					state, history = left[i], history+", "+name+" killed at "+where[i]
				}
			}
			s.verifyInvariants(history, state)
			s.verifyReset(history, state)
			s.verifyRecovery(history, state)
		}
	})
}
