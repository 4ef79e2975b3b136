package console

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestCheckConsole_RefusesHostsWithoutAConsole(t *testing.T) {
	const dataDir = "/var/lib/plinth"
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	console := journal.Receipt{Name: "my-app", Role: "worker", Node: "w", Console: journal.Console{Namespace: "kotsadm", Port: 8800}}
	for name, c := range map[string]struct {
		receipt journal.Receipt
		removed bool
		cause   string // "" for none
	}{
		"a node":            {console, false, ""},
		"a removed node":    {console, true, "removed from the cluster by an administrator on c1"},
		"without a console": {journal.Receipt{Name: "my-app"}, false, "this cluster has no KOTS console"},
	} {
		t.Run(name, func(t *testing.T) {
			h := hosttest.New(t).Host()
			ca, err := pki.NewCA("kubernetes-ca", now)
			testkit.Must(t, err)
			self, err := node.NewIdentity(now)
			testkit.Must(t, err)
			self, err = self.Issue(nodecert.Identity{Node: "w", UID: "u", Role: "worker", Address: "10.0.0.9"}, ca, now)
			testkit.Must(t, err, self.Write(h, dataDir))
			if c.removed {
				testkit.Must(t, node.Removal{Node: "w", UID: "u", By: "an administrator on c1", At: now}.Write(h, dataDir))
			}
			err = checkConsole(&action.Env{Host: h, GlobalOptions: action.GlobalOptions{DataDir: dataDir}}, "show the console's URL", c.receipt)
			if c.cause == "" && err == nil || err != nil && c.cause != "" && strings.Contains(err.Error(), c.cause) && problem.ExitCode(err) == problem.ExitUsage {
				return
			}
			t.Errorf("%v (%s)", err, problem.Hint(err))
		})
	}
}

func TestURL_IsKnownIfOnlyTheApplicationIsMissing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const dataDir = "/var/lib/plinth"
	args := journal.Args{Cluster: "my-app", Address: "10.0.0.5", Console: journal.Console{Namespace: "kotsadm", Port: 8800}}
	failed := errors.New("the application's own preflight checks fail")
	type run struct {
		verb   string
		steps  []string // the last one fails, if the run does
		result error
	}
	for name, c := range map[string]struct {
		runs []run
		want string // "" if the command is refused
	}{
		"nothing is installed":    {nil, ""},
		"before it":               {[]run{{"install", []string{"console", "registry"}, failed}}, ""},
		"the application failed":  {[]run{{"install", []string{"console", plan.ApplicationID}, failed}}, "https://10.0.0.5:8800"},
		"then the console":        {[]run{{"install", []string{"console", plan.ApplicationID}, failed}, {"install", []string{"console-answers"}, failed}}, "https://10.0.0.5:8800"},
		"a reset was interrupted": {[]run{{"install", []string{"console", plan.ApplicationID}, failed}, {"reset", []string{"k0s-stop"}, failed}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := hosttest.New(t).Host()
			j, err := journal.Open(h, dataDir, time.Now)
			testkit.Must(t, err)
			for _, r := range c.runs {
				testkit.Must(t, j.BeginRun(r.verb, args))
				for i, id := range r.steps {
					testkit.Must(t, j.BeginStep(id, nil))
					if i == len(r.steps)-1 {
						testkit.Must(t, j.EndStep(id, r.result))
					} else {
						testkit.Must(t, j.EndStep(id, nil))
					}
				}
				testkit.Must(t, j.EndRun(r.result))
			}
			url, err := URL(&action.Env{Host: h, GlobalOptions: action.GlobalOptions{DataDir: dataDir, Now: time.Now}})
			if url != c.want || (err == nil) != (c.want != "") || err != nil && problem.ExitCode(err) != problem.ExitUsage {
				t.Errorf("%q, %v", url, err)
			}
		})
	}
}
