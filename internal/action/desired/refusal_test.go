package desired

import (
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

func TestRefusals_ProtectHostsOfACluster(t *testing.T) {
	const removed = "was removed from the cluster by root on a"
	for name, c := range map[string]struct {
		receipt journal.Receipt
		verb    string // of the last run; "" for none
		ended   bool
		removed string // UID of the admission that the cluster has removed; the host has "uid-1"
		install string // part of the refusal and of its hint; "" for none
		join    string
		hint    string
	}{
		"an empty host":                        {},
		"a controller":                         {receipt: journal.Receipt{Name: "my-app", Role: token.Controller}, verb: "install", ended: true},
		"a worker":                             {receipt: journal.Receipt{Name: "my-app", Role: token.Worker}, verb: "join", ended: true, install: "a worker of the cluster my-app", hint: "on a controller"},
		"an unfinished install":                {verb: "install"},
		"an unfinished join":                   {verb: "join", install: "the join started at 2026-05-01T12:00:00Z is not finished", hint: "reset node"},
		"a removed worker":                     {receipt: journal.Receipt{Role: token.Worker}, verb: "join", ended: true, removed: "uid-1", install: removed, join: removed, hint: "sudo plinth reset node"},
		"a removed controller":                 {receipt: journal.Receipt{Role: token.Controller}, verb: "join", ended: true, removed: "uid-1", install: removed, join: removed, hint: "sudo plinth reset node"},
		"a controller that was admitted again": {receipt: journal.Receipt{Role: token.Controller}, verb: "join", ended: true, removed: "uid-0"},
		"an unfinished restore":                {verb: "restore", install: "the restore started at", join: "the restore started at", hint: "run the same `plinth restore` again"},
		"an unfinished reset":                  {verb: "reset", install: "the reset started at", join: "the reset started at", hint: "reset cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			h := hosttest.New(t).Host()
			noon := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
			j, err := journal.Open(h, journal.DefaultDir, func() time.Time { return noon })
			testkit.Must(t, err)
			if c.verb != "" {
				testkit.Must(t, j.BeginRun(c.verb, journal.Args{}))
			}
			if c.ended {
				testkit.Must(t, j.EndRun(nil))
			}
			if c.removed != "" {
				ca, err := pki.NewCA("kubernetes-ca", noon)
				testkit.Must(t, err)
				identity, err := node.NewIdentity(noon)
				testkit.Must(t, err)
				identity, err = identity.Issue(nodecert.Identity{Node: "n", UID: "uid-1", Role: token.Controller, Address: "10.0.0.5"}, ca, noon)
				testkit.Must(t, err)
				testkit.Must(t, identity.Write(h, journal.DefaultDir))
				testkit.Must(t, node.Removal{Node: "n", UID: c.removed, By: "root on a", At: noon}.Write(h, journal.DefaultDir))
			}
			why, fix := InstallRefusal(h, journal.DefaultDir, j, c.receipt)
			if (why == "") != (c.install == "") || !strings.Contains(why, c.install) || !strings.Contains(fix, c.hint) {
				t.Errorf("install: %q, %q", why, fix)
			}
			if why, _ = JoinRefusal(h, journal.DefaultDir, j); (why == "") != (c.join == "") || !strings.Contains(why, c.join) {
				t.Errorf("join: %q", why)
			}
		})
	}
}
