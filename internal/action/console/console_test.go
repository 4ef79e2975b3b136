package console

import (
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
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
