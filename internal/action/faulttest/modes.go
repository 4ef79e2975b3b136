package faulttest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/failpoint"
	"github.com/plinthdev/plinth/internal/host"
)

// outcome is how one run of this program ended.
type outcome struct {
	point   string // that killed it; "" if none did
	seconds float64
	step    string // last step that it reported
	changed bool   // its result reports a change
	err     error  // why it failed; nil if a point killed it
}

// runCommand runs this program with args and with rules armed.
func (d *tester) runCommand(ctx context.Context, rules []failpoint.Rule, args ...string) outcome {
	texts := make([]string, 0, len(rules))
	for _, r := range rules {
		texts = append(texts, r.String())
	}
	argv := append([]string{d.self, "-o", "json", "--data-dir", d.DataDir}, args...)
	start := d.Now()
	out, err := d.Host.Run(ctx, host.Cmd{Argv: argv, Env: []string{failpoint.EnvVar + "=" + strings.Join(texts, ";")}})
	end := outcome{seconds: d.Now().Sub(start).Seconds(), err: err}
	end.step, end.changed = parseEvents(out)
	var failed *host.CommandError
	if errors.As(err, &failed) {
		if i := slices.IndexFunc(rules, func(r failpoint.Rule) bool { return strings.Contains(failed.Tail, failpoint.KillMessage(r)) }); failed.Killed() && i >= 0 {
			end.point, end.err = ruleName(rules[i]), nil
			if rules[i].Duration > 0 {
				end.point = fmt.Sprintf("a random moment, after %s", rules[i].Duration)
			}
		}
	}
	if ctx.Err() != nil {
		end.err = context.Cause(ctx)
	}
	return end
}

// parseEvents returns the last step that the JSON events of a run report, and
// whether its result reports a change.
func parseEvents(out []byte) (id string, changed bool) {
	for line := range strings.Lines(string(out)) {
		var e struct {
			Step   string
			Result struct{ Changed bool }
		}
		if json.Unmarshal([]byte(line), &e) != nil {
			continue
		}
		if e.Step != "" {
			id = e.Step
		}
		changed = e.Result.Changed
	}
	return id, changed
}

// addRow records a completed row and notes it, unless its point was not reached.
func (d *tester) addRow(row Row) {
	d.res.Rows = append(d.res.Rows, row)
	if row.Point == "" || row.Result == Unreached {
		return
	}
	d.res.Kills++
	d.Note(fmt.Sprintf("%-45s killed after %4.1fs  %s %.1fs  %s", row.Point, row.KilledAfter, row.Next, row.Seconds, resultText(row)))
}

func resultText(r Row) string {
	if r.Detail != "" {
		return r.Result + ": " + r.Detail
	}
	return r.Result
}

// runChain runs the command until no point kills it any more. Every run is armed
// with all points that have not killed yet, so it is killed at the next one.
func (d *tester) runChain(ctx context.Context) error {
	pending, random, args := slices.Clone(d.rules), d.req.RandomKills, d.req.Args
	var open *Row
	for {
		rules := slices.Clone(pending)
		// Spread the random kills over the chain. Arm them three times as often as
		// needed, because many come too late: a point kills the run first.
		if random > 0 && d.rand.IntN(random+len(pending)) < 3*random {
			rules = append(rules, d.randomKill(args[0]))
		}
		end := d.runCommand(ctx, rules, args...)
		if open != nil {
			open.Next, open.Seconds, open.Result = args[0], end.seconds, Recovered
			if end.err != nil {
				open.Result, open.Detail = Failed, end.err.Error()
			}
			d.addRow(*open)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if end.err != nil {
			if open == nil {
				return end.err // no kill preceded: the command itself fails on this host
			}
			return nil
		}
		if end.point == "" {
			break
		}
		open = &Row{Point: end.point, KilledAfter: end.seconds, Step: end.step}
		before := len(pending)
		pending = slices.DeleteFunc(pending, func(r failpoint.Rule) bool { return ruleName(r) == end.point })
		if len(pending) == before {
			random--
		}
	}
	for _, r := range pending {
		d.addRow(Row{Point: ruleName(r), Result: Unreached})
	}
	return d.checkConverged(ctx)
}

// checkConverged runs the command once more and returns an error if it changes anything.
func (d *tester) checkConverged(ctx context.Context) error {
	again := d.runCommand(ctx, nil, d.req.Args...)
	if again.err == nil && again.changed {
		again.err = fmt.Errorf("another run after the completed one still changed the host, at step %s", again.step)
	}
	return again.err
}

// randomKill returns a rule that kills a run at a random time, at most RandomWithin
// after its start.
func (d *tester) randomKill(verb string) failpoint.Rule {
	after := time.Duration(d.rand.Int64N(int64(d.req.RandomWithin))).Round(time.Millisecond) + time.Millisecond
	return failpoint.Rule{Point: failpoint.Point{Verb: verb, Object: failpoint.Run, Phase: failpoint.Started}, Nth: 1, Action: failpoint.Kill, Duration: after}
}

// ruleName returns the name of a rule in a row: its point, with #N unless N is 1.
func ruleName(r failpoint.Rule) string {
	s, _, _ := strings.Cut(r.String(), "=")
	return s
}

// runEach kills the command at each point, each time on a clean host. It stops
// after the first failure, because the host is not clean then.
func (d *tester) runEach(ctx context.Context) error {
	for _, rule := range d.rules {
		row := Row{Point: ruleName(rule), Result: Recovered}
		first := d.runCommand(ctx, []failpoint.Rule{rule}, d.req.Args...)
		row.KilledAfter, row.Step = first.seconds, first.step
		after := d.req.Args
		switch {
		case first.err != nil:
			row.Result, row.Detail = Failed, first.err.Error()
		case first.point == "":
			row.Result = Unreached
		}
		if d.req.Mode == Reset || row.Result != Recovered {
			after = d.resetArgs()
		}
		next := d.runCommand(ctx, nil, after...)
		row.Next, row.Seconds = after[0], next.seconds
		if next.err == nil && after[0] != "reset" {
			next = d.runCommand(ctx, nil, d.resetArgs()...)
		}
		if next.err != nil {
			row.Result, row.Detail = Failed, next.err.Error()
		}
		d.addRow(row)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if row.Result == Failed {
			return nil // the host is not clean any more
		}
	}
	return nil
}

// resetArgs returns the command line that removes what the tested command did.
func (d *tester) resetArgs() []string {
	return append([]string{"reset", "cluster", "--yes", "--delete-data"}, clusterFlag(d.Env)...)
}

// clusterFlag returns the flag that names the cluster on this host; nil if the
// journal names none.
func clusterFlag(env *action.Env) []string {
	j, err := env.OpenJournal()
	if err != nil || action.ClusterName(j) == "" {
		return nil
	}
	return []string{"--cluster", action.ClusterName(j)}
}
