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

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/app/drill"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/failpoint"
	"github.com/plinthdev/plinth/internal/host/hosttest/machine"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
)

// The simulation installs or joins, and resets, on a simulated host, with the real
// journal, step machine and reset, and the real steps up to the start of k0s.
// It stands still at every failpoint and before every change of the host: what
// is there then is what a kill at that moment leaves. From each such state it
// goes on in every way that a user could, and stands still everywhere again:
// thus it sees every pair of deaths. What was seen once is not gone on from
// again.

const dataDir = "/var/lib/plinth"

// sim is what all cases share.
type sim struct {
	t         *testing.T
	way       way
	in        *spec.Installer
	parts     []addons.AddOn
	points    []failpoint.Point
	bare      machine.State // before anything
	converged machine.State // once a node, without trouble
	ends      moments       // what runs ended with that were proved to be whole
}

func newSim(t *testing.T, way way) *sim {
	t.Helper()
	if raceDetector {
		t.Skip("a simulated host runs one thing at a time: make test-unit does this without the race detector, which takes ten times as long")
	}
	raw, err := os.ReadFile("../../../installer.yaml")
	must(t, err)
	in, findings := spec.ParseInstaller("installer.yaml", raw)
	if in == nil {
		t.Fatal(findings)
	}
	parts, err := addons.Resolve(in, dataDir)
	must(t, err)
	points, err := drill.Points()
	must(t, err)
	s := &sim{t: t, way: way, in: in, parts: parts, points: points, bare: machine.Bare()}
	s.converged, err = s.become(s.bare, nil, nil)
	must(t, err)
	return s
}

// errHalfReset is the refusal of a host whose reset stopped halfway. Install
// refuses it too, and yet would come to its end.
var errHalfReset = errors.New("the reset is not finished")

// seen is told of each moment at which a run could die, and of what it would
// leave.
type seen func(moment string, left machine.State)

// begin makes a run of verb on a machine that goes on from state, with rules
// armed; or, with see, with every moment told.
func (s *sim) begin(verb string, state machine.State, rules []failpoint.Rule, see seen) (*run.Run, *machine.Machine) {
	m := machine.New(s.t, state)
	effects := failpoint.Effects{}
	if see != nil {
		m.Acts = func(what string) { see("before "+what, maps.Clone(m.State)) }
		// A delay of i stands for the moment at points[i-1].
		rules = nil
		for i, p := range s.points {
			rules = append(rules, failpoint.Rule{Point: p, Nth: 1, Onward: true, Action: failpoint.Delay, After: time.Duration(i + 1)})
		}
		effects.Pause = func(i time.Duration) { see(s.points[i-1].String(), maps.Clone(m.State)) }
	}
	r := &run.Run{Host: m.Host(), Config: run.Config{DataDir: dataDir, Failpoints: failpoint.Arm(rules, effects),
		Events: func(step.Event) {}, Note: func(string) {}, Confirm: func(context.Context, string) error { return nil },
		Now: machine.Now}}
	r.Arm(verb)
	return r, m
}

// become runs the verb by which the host becomes a node. It goes on from state, as
// the verb does once its looks are over, and gives the state at its end.
func (s *sim) become(state machine.State, rules []failpoint.Rule, see seen) (machine.State, error) {
	verb := s.way.verb
	r, m := s.begin(verb, state, rules, see)
	j, err := r.Journal()
	if err != nil {
		return m.State, err
	}
	if last, ok := j.Last("reset"); ok && last.Unfinished() && verb == "join" {
		return m.State, errHalfReset
	}
	steps := s.steps(r, m, j)
	_, installed, err := journal.ReadReceipt(r.Host, dataDir)
	if err != nil {
		return m.State, err
	}
	todo, err := r.Steps(verb, nil).Plan(s.t.Context(), steps)
	if err != nil || installed && !slices.ContainsFunc(todo, func(p step.Planned) bool { return p.State != "done" }) {
		return m.State, err
	}
	if err := j.Begin(verb, map[string]string{run.ArgPodCIDR: s.in.Spec.Network.PodCIDR, run.ArgName: "my-app"}); err != nil {
		return m.State, err
	}
	if _, err = r.Steps(verb, j).Run(s.t.Context(), steps); err == nil {
		err = journal.WriteReceipt(r.Host, dataDir, journal.Receipt{Name: "my-app"})
	}
	return m.State, errors.Join(err, j.End(err))
}

// reset runs a reset that goes on from state.
func (s *sim) reset(state machine.State, rules []failpoint.Rule, see seen) (machine.State, error) {
	r, m := s.begin("reset", state, rules, see)
	_, err := job{r}.reset(s.t.Context(), Request{Yes: true, Cluster: "my-app", DeleteData: true})
	return m.State, err
}

// lasting is what of a host counts: not modules of the kernel, which stay
// loaded, with the settings that they bring.
func lasting(state machine.State) machine.State {
	kept := maps.Clone(state)
	for key := range kept {
		if strings.HasPrefix(key, "/sys/module") || key == "/proc/modules" || strings.HasPrefix(key, "/proc/sys/net/bridge") || key == "/proc/sys/net" || key == "/sys" {
			delete(kept, key)
		}
	}
	return kept
}

// differences lists what differs between two states, at most 12 things.
func differences(a, b machine.State) []string {
	a, b = lasting(a), lasting(b)
	var all []string
	for key, thing := range a {
		if other, ok := b[key]; !ok {
			all = append(all, "- "+key)
		} else if other != thing {
			all = append(all, fmt.Sprintf("~ %s: %v %.300q → %v %.300q", key, thing.Mode, thing.Data, other.Mode, other.Data))
		}
	}
	for key := range b {
		if _, ok := a[key]; !ok {
			all = append(all, "+ "+key)
		}
	}
	slices.Sort(all)
	return all[:min(len(all), 12)]
}

// zero proves that a reset leaves the host as it was.
func (s *sim) zero(history string, state machine.State) {
	end, err := s.reset(state, nil, nil)
	if d := differences(s.bare, end); err != nil || len(d) > 0 {
		s.t.Errorf("%s, then reset: %v\n%s", history, err, strings.Join(d, "\n"))
	}
}

// whole proves that an install comes to its end, to the same host as one
// without trouble, and that a reset then leaves the host as it was.
func (s *sim) whole(history string, state machine.State) {
	end, err := s.become(state, nil, nil)
	if errors.Is(err, errHalfReset) {
		if end, err = s.reset(state, nil, nil); err == nil {
			end, err = s.become(end, nil, nil)
		}
	}
	if d := differences(journalless(s.converged), journalless(end)); err != nil || len(d) > 0 {
		s.t.Errorf("%s, then again: %v\n%s", history, err, strings.Join(d, "\n"))
		return
	}
	if !s.ends.see(history, end) {
		return
	}
	again, err := s.become(end, nil, func(moment string, _ machine.State) {
		if strings.HasPrefix(moment, "before ") {
			s.t.Errorf("%s, then install, then again: not converged, %s", history, moment)
		}
	})
	if d := differences(end, again); err != nil || len(d) > 0 {
		s.t.Errorf("%s, then install, then again: %v\n%s", history, err, strings.Join(d, "\n"))
	}
	s.zero(history+", then again", end)
}

// seenBefore is what could be seen of the host before its first install.
const seenBefore = dataDir + "/" + node.BeforeDir + "/host.json"

func isJournal(key string) bool {
	return strings.HasPrefix(key, dataDir+"/journal.") || strings.HasPrefix(key, dataDir+"/.journal.")
}

// journalless is a host without its journal, which tells of its past; in which
// order mounts, rules and users came does not count.
func journalless(state machine.State) machine.State {
	kept := maps.Clone(state)
	maps.DeleteFunc(kept, func(key string, _ machine.Thing) bool {
		return isJournal(key)
	})
	if photo, ok := kept[seenBefore]; ok { // in which modules are, which stay
		var sections map[string]any
		if json.Unmarshal([]byte(photo.Data), &sections) == nil {
			delete(sections, "modules")
			photo.Data = fmt.Sprint(sections)
			kept[seenBefore] = photo
		}
	}
	for _, key := range []string{machine.Rules, machine.MountInfo, "/etc/passwd", "/etc/group"} {
		lines := strings.Split(kept[key].Data, "\n")
		slices.Sort(lines)
		kept[key] = machine.Thing{Data: strings.Join(lines, "\n")}
	}
	return kept
}

// sound proves what must hold at every moment: nothing foreign is touched, a
// file that Plinth writes has its old content or its new one, and the journal
// can be read.
func (s *sim) sound(moment string, state machine.State) {
	for key, was := range s.bare {
		is, there := state[key]
		switch {
		case key == machine.Rules:
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
			continue // it goes once the host is a node
		}
		written := strings.HasPrefix(key, "/etc/") && key != "/etc/passwd" && key != "/etc/group" || strings.HasPrefix(key, "/usr/local/bin/") ||
			key == dataDir+"/"+journal.ReceiptFile
		was, had := s.bare[key]
		will, has := s.converged[key]
		if written && !strings.HasSuffix(key, ".plinth-tmp") && (!had || is != was) && (!has || is != will) {
			s.t.Errorf("%s: %s is neither as before nor as wanted: %v %q", moment, key, is.Mode, is.Data)
		}
	}
	if _, err := journal.Open(machine.New(s.t, state).Host(), dataDir, time.Now); err != nil {
		s.t.Errorf("%s: %v", moment, err)
	}
}

// moments is what a run leaves at each of its moments, each state once.
type moments struct {
	mu    sync.Mutex
	known map[uint64]bool
	seed  maphash.Seed
	gists map[string]string
	names []string
	left  []machine.State
	all   int // moments, whatever they leave
}

// see notes what is left at a moment, and reports whether it was not seen before.
func (c *moments) see(name string, left machine.State) (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known, c.seed, c.gists = map[uint64]bool{}, maphash.MakeSeed(), map[string]string{}
	}
	c.all++
	key := c.essence(left)
	if c.known[key] {
		return false
	}
	c.known[key] = true
	c.names, c.left = append(c.names, name), append(c.left, left)
	return true
}

// essence tells states apart as far as a later run can: it reads of the runs in
// the journal what they were asked for, what their steps touched and found, and
// how far the last one came.
func (c *moments) essence(state machine.State) uint64 {
	sum := uint64(0)
	for key, thing := range state {
		if strings.HasSuffix(key, ".plinth-tmp") {
			thing.Data = "" // never read, only written anew
		} else if isJournal(key) {
			known, ok := c.gists[thing.Data]
			if !ok {
				known = gist(thing.Data)
				c.gists[thing.Data] = known
			}
			thing.Data = known
		}
		sum += maphash.Comparable(c.seed, struct {
			string
			machine.Thing
		}{key, thing})
	}
	return sum
}

func gist(text string) string {
	var content struct{ Runs []journal.Run }
	if json.Unmarshal([]byte(text), &content) != nil || len(content.Runs) == 0 {
		return text
	}
	facts := map[string]bool{}
	for _, r := range content.Runs {
		facts[fmt.Sprint(r.Verb, r.Args)] = true
		for _, s := range r.Steps {
			facts[fmt.Sprint(s.ID, s.Touches, string(s.Before))] = true
		}
	}
	last := content.Runs[len(content.Runs)-1]
	return fmt.Sprint(slices.Sorted(maps.Keys(facts)), last.Verb, last.Unfinished(), last.At())
}

// noted tells c of each moment.
func noted(c *moments) seen {
	return func(moment string, left machine.State) { c.see(moment, left) }
}

// each runs do for every state of c.
func (c *moments) each(do func(name string, left machine.State)) {
	atOnce(len(c.left), func(i int) { do(c.names[i], c.left[i]) })
}

// atOnce runs do for each number below n, many at once: a reset waits between two
// looks at the processes that it ends.
func atOnce(n int, do func(i int)) {
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

// inEveryWay does the same for each way in which a host becomes a node.
func inEveryWay(t *testing.T, do func(*testing.T, *sim)) {
	for _, w := range ways() {
		t.Run(w.String(), func(t *testing.T) { do(t, newSim(t, w)) })
	}
}

func TestASimulatedHostAndItsResetLeaveNothing(t *testing.T) {
	inEveryWay(t, func(t *testing.T, s *sim) {
		if len(differences(s.bare, s.converged)) == 0 {
			t.Fatal("it changed nothing")
		}
		s.zero(s.way.verb, s.converged)
		s.whole("nothing", s.bare)
	})
}

// at reports whether a moment is a failpoint, not one before a change.
func at(moment string) bool { return !strings.HasPrefix(moment, "before ") }

func TestADeathBeforeAnyChangeIsRecoveredFrom(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes longer than all else here")
	}
	inEveryWay(t, func(t *testing.T, s *sim) {
		var growing, resetting moments
		_, err := s.become(s.bare, nil, noted(&growing))
		must(t, err)
		_, err = s.reset(s.converged, nil, noted(&resetting))
		must(t, err)
		growing.each(func(moment string, left machine.State) {
			s.sound(moment, left)
			s.zero(moment, left)
			s.whole(moment, left)
		})
		resetting.each(func(moment string, left machine.State) {
			s.zero(moment, left)
			s.whole(moment, left)
		})
		t.Logf("%d moments, %d states; reset: %d, %d", growing.all, len(growing.left), resetting.all, len(resetting.left))
	})
}

func TestEveryPairOfFailpointsIsRecoveredFrom(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes longer than all else here")
	}
	inEveryWay(t, func(t *testing.T, s *sim) {
		var growing, resetting, twice, inReset, resetTwice moments
		only := func(c *moments, before string) seen {
			return func(moment string, left machine.State) {
				if at(moment) {
					c.see(before+moment, left)
				}
			}
		}
		_, err := s.become(s.bare, nil, only(&growing, ""))
		must(t, err)
		_, err = s.reset(s.converged, nil, only(&resetting, ""))
		must(t, err)
		growing.each(func(first string, left machine.State) {
			if _, err := s.become(left, nil, only(&twice, first+" and ")); err != nil {
				t.Errorf("%s, then again: %v", first, err)
			}
			if _, err := s.reset(left, nil, only(&inReset, first+" and ")); err != nil {
				t.Errorf("%s, then reset: %v", first, err)
			}
		})
		if s.way.verb == "join" {
			resetting = moments{} // it is the same one
		}
		resetting.each(func(first string, left machine.State) {
			if _, err := s.reset(left, nil, only(&resetTwice, first+" and ")); err != nil {
				t.Errorf("%s, then reset: %v", first, err)
			}
		})
		twice.each(func(history string, left machine.State) {
			s.sound(history, left)
			s.whole(history, left)
		})
		inReset.each(s.zero)
		resetTwice.each(s.zero)
		t.Logf("twice: %d pairs, %d states; then reset: %d, %d; reset, reset: %d, %d",
			twice.all, len(twice.left), inReset.all, len(inReset.left), resetTwice.all, len(resetTwice.left))
	})
}

// TestEveryErrorIsRecoveredFrom lets each point of an install and of a reset
// fail, each time it is reached, as on a full disk or a broken one.
func TestEveryErrorIsRecoveredFrom(t *testing.T) {
	inEveryWay(t, func(t *testing.T, s *sim) {
		actions := []failpoint.Action{failpoint.Fail, failpoint.NoSpace, failpoint.BadDisk}
		var failed, failedReset moments
		writes := 8 // of the journal, each of which fails
		if s.way.verb == "join" {
			writes = 2 // they are the same ones
		}
		var rules []failpoint.Rule
		for nth := 1; nth <= writes; nth++ {
			for _, p := range s.points {
				mayFail := p.Moment != failpoint.Working && p.Moment != failpoint.Started && (nth == 1 || p.Object == failpoint.Journal)
				if mayFail && (p.Verb == "reset" || p.Verb == s.way.verb) {
					rules = append(rules, failpoint.Rule{Point: p, Nth: nth, Action: actions[nth%len(actions)]})
				}
			}
		}
		atOnce(len(rules), func(i int) {
			verb, from, c := s.become, s.bare, &failed
			if rules[i].Point.Verb == "reset" {
				verb, from, c = s.reset, s.converged, &failedReset
			}
			if left, err := verb(from, rules[i:i+1], nil); err != nil { // else it was not reached, or of no account
				c.see(rules[i].String(), left)
			}
		})
		failed.each(func(history string, left machine.State) {
			s.zero(history, left)
			s.whole(history, left)
		})
		failedReset.each(s.zero) // it says what is left, and is to be run again
		if failed.all < 50 || failedReset.all < 20 {
			t.Errorf("only %d runs and %d resets failed", failed.all, failedReset.all)
		}
		t.Logf("%d runs and %d resets failed on purpose", failed.all, failedReset.all)
	})
}

// TestSeriesOfDeathsAndErrors goes on from what the other tests leave out:
// longer series, each whole, nothing taken for seen. The seed is fixed; another
// one is in the environment.
func TestSeriesOfDeathsAndErrors(t *testing.T) {
	inEveryWay(t, func(t *testing.T, s *sim) {
		seed := uint64(1)
		if v := os.Getenv("PLINTH_TEST_SEED"); v != "" {
			_, err := fmt.Sscan(v, &seed)
			must(t, err)
		}
		random := rand.New(rand.NewPCG(seed, 0))
		for range 12 {
			state, history := s.bare, fmt.Sprintf("seed %d", seed)
			for range 2 + random.IntN(5) {
				verb, name := s.become, s.way.verb
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
				var left []machine.State
				var where []string
				_, err := verb(state, nil, func(moment string, l machine.State) { left, where = append(left, l), append(where, moment) })
				if err != nil && !errors.Is(err, errHalfReset) {
					t.Errorf("%s, then %s: %v", history, name, err)
				}
				if len(left) > 0 {
					i := random.IntN(len(left))
					state, history = left[i], history+", "+name+" killed at "+where[i]
				}
			}
			s.sound(history, state)
			s.zero(history, state)
			s.whole(history, state)
		}
	})
}
