package console

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

func TestNewToolCommand_NamesWhereItRuns(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for name, c := range map[string]struct {
		role string // of a finished install; "" for none
		conf bool   // the administrator's kubeconfig is there
		want string // part of the problem; "" for none
	}{
		"a controller":         {token.Controller, true, ""},
		"an unfinished one":    {"", true, ""},
		"a worker":             {token.Worker, false, "this host is a worker"},
		"nothing is installed": {"", false, "no cluster runs on this host"},
	} {
		t.Run(name, func(t *testing.T) {
			f := hosttest.New(t)
			env := &action.Env{Host: f.Host(), GlobalOptions: action.GlobalOptions{DataDir: journal.DefaultDir, Now: time.Now}}
			if c.role != "" {
				testkit.Must(t, journal.WriteReceipt(env.Host, journal.DefaultDir, journal.Receipt{Name: "my-app", Role: c.role}))
			}
			if c.conf {
				testkit.Must(t, env.Host.Write(k0s.AdminConf, strings.NewReader("x"), 0o600))
			}
			_, err := NewToolCommand(env, Kubectl, nil, "")
			if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || problem.ExitCode(err) != problem.ExitUsage) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
