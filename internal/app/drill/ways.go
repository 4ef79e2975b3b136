package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/failpoint"
	"github.com/plinthdev/plinth/internal/host"
)

// outcome is how one run of this program ended.
type death struct {
	point   string // that killed it; "" if none did
	seconds float64
	step    string // last step that it reported
	changed bool   // its result reports a change
	err     error  // why it failed; nil if a point killed it
}

// runCommand runs this program with args and with rules armed.
func (d *drill) run(ctx context.Context, rules []failpoint.Rule, args ...string) death {
	texts := make([]string, 0, len(rules))
	for _, r := range rules {
		texts = append(texts, r.String())
	}
	argv := append([]string{d.self, "-o", "json", "--data-dir", d.DataDir}, args...)
	start := d.Now()
	out, err := d.Host.Run(ctx, host.Cmd{Argv: argv, Env: []string{failpoint.Variable + "=" + strings.Join(texts, ";")}})
	end := death{seconds: d.Now().Sub(start).Seconds(), err: err}
	end.step, end.changed = read(out)
	var failed *host.CommandError
	if errors.As(err, &failed) {
		if i := slices.IndexFunc(rules, func(r failpoint.Rule) bool { return strings.Contains(failed.Tail, failpoint.LastWords(r)) }); failed.Killed() && i >= 0 {
			end.point, end.err = name(rules[i]), nil
			if rules[i].After > 0 {
				end.point = fmt.Sprintf("a random moment, after %s", rules[i].After)
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
func read(out []byte) (id string, changed bool) {
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
func (d *drill) tell(row Row) {
	d.res.Rows = append(d.res.Rows, row)
	if row.Point == "" || row.Result == Unreached {
		return
	}
	d.res.Kills++
	d.Note(fmt.Sprintf("%-45s killed after %4.1fs  %s %.1fs  %s", row.Point, row.Killed, row.Next, row.Seconds, words(row)))
}

func words(r Row) string {
	if r.Detail != "" {
		return r.Result + ": " + r.Detail
	}
	return r.Result
}

// runChain runs the command until no point kills it any more. Every run is armed
// with all points that have not killed yet, so it is killed at the next one.
func (d *drill) chain(ctx context.Context) error {
	pending, random, args := slices.Clone(d.rules), d.req.Random, d.req.Args
	var open *Row
	for {
		rules := slices.Clone(pending)
		// Spread the random kills over the chain. Arm them three times as often as
		// needed, because many come too late: a point kills the run first.
		if random > 0 && d.rand.IntN(random+len(pending)) < 3*random {
			rules = append(rules, d.timer(args[0]))
		}
		end := d.run(ctx, rules, args...)
		if open != nil {
			open.Next, open.Seconds, open.Result = args[0], end.seconds, Recovered
			if end.err != nil {
				open.Result, open.Detail = Failed, end.err.Error()
			}
			d.tell(*open)
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
		open = &Row{Point: end.point, Killed: end.seconds, Step: end.step}
		before := len(pending)
		pending = slices.DeleteFunc(pending, func(r failpoint.Rule) bool { return name(r) == end.point })
		if len(pending) == before {
			random--
		}
	}
	for _, r := range pending {
		d.tell(Row{Point: name(r), Result: Unreached})
	}
	return d.converged(ctx)
}

// checkConverged runs the command once more and returns an error if it changes anything.
func (d *drill) converged(ctx context.Context) error {
	again := d.run(ctx, nil, d.req.Args...)
	if again.err == nil && again.changed {
		again.err = fmt.Errorf("another run after the completed one still changed the host, at step %s", again.step)
	}
	return again.err
}

// randomKill returns a rule that kills a run at a random time, at most RandomWithin
// after its start.
func (d *drill) timer(verb string) failpoint.Rule {
	after := time.Duration(d.rand.Int64N(int64(d.req.Within))).Round(time.Millisecond) + time.Millisecond
	return failpoint.Rule{Point: failpoint.Point{Verb: verb, Object: failpoint.Run, Moment: failpoint.Started}, Nth: 1, Action: failpoint.Kill, After: after}
}

// ruleName returns the name of a rule in a row: its point, with #N unless N is 1.
func name(r failpoint.Rule) string {
	s, _, _ := strings.Cut(r.String(), "=")
	return s
}

// runEach kills the command at each point, each time on a clean host. It stops
// after the first failure, because the host is not clean then.
func (d *drill) each(ctx context.Context) error {
	for _, rule := range d.rules {
		row := Row{Point: name(rule), Result: Recovered}
		first := d.run(ctx, []failpoint.Rule{rule}, d.req.Args...)
		row.Killed, row.Step = first.seconds, first.step
		after := d.req.Args
		switch {
		case first.err != nil:
			row.Result, row.Detail = Failed, first.err.Error()
		case first.point == "":
			row.Result = Unreached
		}
		if d.req.Way == Reset || row.Result != Recovered {
			after = d.resetArgs()
		}
		next := d.run(ctx, nil, after...)
		row.Next, row.Seconds = after[0], next.seconds
		if next.err == nil && after[0] != "reset" {
			next = d.run(ctx, nil, d.resetArgs()...)
		}
		if next.err != nil {
			row.Result, row.Detail = Failed, next.err.Error()
		}
		d.tell(row)
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
func (d *drill) resetArgs() []string {
	return append([]string{"reset", "cluster", "--yes", "--delete-data"}, named(d.Run)...)
}

// clusterFlag returns the flag that names the cluster on this host; nil if the
// journal names none.
func named(r *run.Run) []string {
	j, err := r.Journal()
	if err != nil || run.ClusterName(j) == "" {
		return nil
	}
	return []string{"--cluster", run.ClusterName(j)}
}
