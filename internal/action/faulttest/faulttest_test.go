package faulttest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/failpoint"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/problem"
)

// fakeProgram stands for this program: an install of three steps that obeys the
// failpoints, and a reset.
type fakeProgram struct {
	done  int // completed steps
	ran   []string
	fails string // step that fails
}

var fakeSteps = []string{"record-host", "kernel", "k0s-start"}

func (p *fakeProgram) Run(ctx context.Context, cmd host.Cmd) ([]byte, error) {
	value, _ := strings.CutPrefix(cmd.Env[0], failpoint.EnvVar+"=")
	all, err := Points()
	if err != nil {
		return nil, err
	}
	rules, err := failpoint.Parse(value, all)
	if err != nil {
		return nil, err
	}
	line := strings.Join(cmd.Argv[5:], " ")
	p.ran = append(p.ran, line)
	said, died := "", false
	points := failpoint.Arm(rules, failpoint.Effects{Log: func(s string) { said += s }, Kill: func() { died = true; panic(p) }, Sleep: func(time.Duration) {}})
	changed := false
	var out strings.Builder
	func() {
		defer func() {
			if r := recover(); r != nil && r != any(p) {
				panic(r)
			}
		}()
		if strings.HasPrefix(line, "reset") {
			p.done = 0
			return
		}
		for i, id := range fakeSteps {
			if i < p.done {
				continue
			}
			for _, m := range []failpoint.Phase{failpoint.Needed, failpoint.Begun} {
				_ = points.Reach("install", id, m)
			}
			fmt.Fprintf(&out, `{"v":1,"step":%q,"state":"started"}`+"\n", id)
			if p.fails == id {
				err = errors.New("no")
				return
			}
			p.done++
			changed = true
			_ = points.Reach("install", id, failpoint.Applied)
			_ = points.Reach("install", id, failpoint.Ended)
		}
		_ = points.Reach("install", failpoint.Receipt, failpoint.Temp)
	}()
	fmt.Fprintf(&out, `{"v":1,"result":{"changed":%t}}`+"\n", changed)
	if died {
		return []byte(out.String()), killed(ctx, said)
	}
	return []byte(out.String()), err
}

// killed returns the error of a program that printed said and was killed.
func killed(ctx context.Context, said string) error {
	_, err := host.Local("/").Run(ctx, host.Cmd{Argv: []string{"sh", "-c", "echo '" + said + "' >&2; kill -9 $$"}})
	return err
}

// runFaultTest runs a fault test of an install by p on a fake host.
func runFaultTest(t *testing.T, p *fakeProgram, req Request) (Result, error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a fault test requires root, even on a fake host")
	}
	h := hosttest.New(t).Host()
	h.Commands = p
	r := &action.Env{GlobalOptions: action.GlobalOptions{DataDir: "/var/lib/plinth", Note: func(string) {}, Now: time.Now}, Host: h}
	req.HostIsDisposable, req.Args, req.RandomWithin = true, []string{"install", "--bundle", "b"}, 20*time.Second
	return Run(t.Context(), r, req)
}

// summary returns "point=result" of each row whose point was reached.
func summary(res Result) string {
	var all []string
	for _, r := range res.Rows {
		if r.Result != Unreached {
			all = append(all, r.Point+"="+r.Result)
		}
	}
	return strings.Join(all, " ")
}

func TestRun_ChainKillsAtEveryPointOfOneInstall(t *testing.T) {
	p := &fakeProgram{}
	res, err := runFaultTest(t, p, Request{Mode: Chain})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, id := range fakeSteps {
		for _, m := range []string{"needed", "begun", "applied"} {
			want = append(want, "install/"+id+":"+m+"=recovered")
		}
	}
	want = append(want, "install/receipt:temp=recovered")
	if got := summary(res); got != strings.Join(want, " ") || res.Kills != len(want) || res.Failed != 0 {
		t.Errorf("%d kills: %s", res.Kills, got)
	}
	if len(p.ran) != len(want)+2 || p.ran[0] != "install --bundle b --yes" {
		t.Errorf("ran %q", p.ran)
	}
	if r := res.Rows[5]; r.Step != "kernel" || r.Next != "install" {
		t.Errorf("%+v", r)
	}
}

func TestRun_ReportsFailedResumeAsRowAndError(t *testing.T) {
	res, err := runFaultTest(t, &fakeProgram{fails: "k0s-start"}, Request{Mode: Chain})
	if problem.ExitCode(err) != problem.ExitStep || res.Failed != 1 || !strings.HasSuffix(summary(res), "install/k0s-start:begun=failed") {
		t.Errorf("%v, %s", err, summary(res))
	}
}

func TestRun_ResetsAfterEachPoint(t *testing.T) {
	points := []string{"install/kernel:applied", "install/kernel:ended", "install/application:begun"}
	for way, want := range map[string]string{
		Reset:  "install reset install reset install reset",
		Resume: "install install reset install install reset install reset",
	} {
		t.Run(way, func(t *testing.T) {
			p := &fakeProgram{}
			res, err := runFaultTest(t, p, Request{Mode: way, Points: points})
			var ran []string
			for _, line := range p.ran {
				ran = append(ran, strings.Fields(line)[0])
			}
			if err != nil || strings.Join(ran, " ") != want || res.Rows[2].Result != Unreached ||
				summary(res) != "install/kernel:applied=recovered install/kernel:ended=recovered" {
				t.Errorf("%v, ran %q, %s", err, ran, summary(res))
			}
		})
	}
}

func TestNewTester_RefusesUnconfirmedUnknownOrUsedHost(t *testing.T) {
	install := []string{"install", "--bundle", "b"}
	for name, c := range map[string]struct {
		req  Request
		file string // on the host: name and content
		want string
	}{
		"not confirmed":      {Request{Mode: Chain, Args: install}, "", "it kills runs"},
		"unknown mode":       {Request{HostIsDisposable: true, Mode: "round", Args: install}, "", `unknown --mode "round"`},
		"no command":         {Request{HostIsDisposable: true, Mode: Chain}, "", "only install can be tested"},
		"another command":    {Request{HostIsDisposable: true, Mode: Chain, Args: []string{"status"}}, "", "only install can be tested"},
		"reset, not a chain": {Request{HostIsDisposable: true, Mode: Reset, Args: []string{"reset", "cluster"}}, "", "only install can be tested"},
		"join, not a chain":  {Request{HostIsDisposable: true, Mode: Resume, Args: []string{"join", "--token-file", "t"}}, "", "only install can be tested"},
		"a join on a node":   {Request{HostIsDisposable: true, Mode: Chain, Args: []string{"join", "--token-file", "t"}}, `receipt.json {"version":1}`, "a cluster is installed"},
		"a cluster":          {Request{HostIsDisposable: true, Mode: Chain, Args: install}, `receipt.json {"version":1}`, "a cluster is installed"},
		"an unfinished run": {Request{HostIsDisposable: true, Mode: Chain, Args: install},
			`journal.json {"version":1,"runs":[{"verb":"install","steps":[]}]}`, "has an unfinished run"},
		"a point of another verb": {Request{HostIsDisposable: true, Mode: Chain, Args: install, Points: []string{"reset/files:begun"}}, "", "is not a failpoint of install"},
	} {
		t.Run(name, func(t *testing.T) {
			fake := hosttest.New(t)
			h := fake.Host()
			if file, content, ok := strings.Cut(c.file, " "); ok {
				if err := h.Write("/var/lib/plinth/"+file, strings.NewReader(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := newTester(&action.Env{GlobalOptions: action.GlobalOptions{DataDir: "/var/lib/plinth", Now: time.Now}, Host: h}, c.req)
			if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestPointNames_AreUniqueAndComplete(t *testing.T) {
	all, err := PointNames()
	if err != nil {
		t.Fatal(err)
	}
	sorted := slices.Sorted(slices.Values(all))
	if len(slices.Compact(sorted)) != len(all) {
		t.Error("two points have the same name")
	}
	for _, want := range []string{"install/record-host:needed", "install/registry:applied", "install/application:ended", "install/receipt:temp",
		"install/journal:torn", "install/snapshot-location:begun", "install/chart-*:begun", "upgrade/remove-chart-*:begun",
		"restore/restore-keys:applied", "restore/restore-location:applied", "restore/restore-console:begun", "restore/restore-application:begun", "reset/run:started", "reset/node-leave:applied", "reset/units:begun", "reset/data-dir:applied"} {
		if !slices.Contains(all, want) {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestArmFromEnviron_ArmsForRootOnly(t *testing.T) {
	near := func(name string, _ []string) string { return "near " + name }
	for value, want := range map[string]string{"": "", "install/kernel:begun=kill": "", "install/chart-hello:begun=kill": "", "upgrade/chart-hello-2:ended=kill": "",
		"install/chart-:begun=kill": "did you mean near install/chart-:begun?", "install/kernl:begun=kill": "did you mean near install/kernl:begun?", "x": "plinth debug fault-test list"} {
		t.Run(value, func(t *testing.T) {
			rules, err := ArmFromEnviron([]string{"A=b", failpoint.EnvVar + "=" + value}, near, nil)
			switch {
			case os.Geteuid() != 0 || value == "":
				if rules != nil || err != nil {
					t.Errorf("%q: %v, %v", value, rules, err)
				}
			case want == "" && (err != nil || rules == nil):
				t.Errorf("%q: %v, %v", value, rules, err)
			case want != "" && (problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(problem.Hint(err), want)):
				t.Errorf("%q: %v (%s)", value, err, problem.Hint(err))
			}
		})
	}
}
