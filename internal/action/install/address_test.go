package install

import (
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/problem"
)

func TestResolveAPIAddress_PrefersTheRequestedAddress(t *testing.T) {
	for name, c := range map[string]struct {
		requested, started, receipt string
		want                        string
		exit                        int
	}{
		"none":                         {"", "", "", "", 0},
		"requested":                    {"10.0.0.100", "", "", "10.0.0.100", 0},
		"from the run that is resumed": {"", "10.0.0.100", "", "10.0.0.100", 0},
		"from a host that joined":      {"", "", "10.0.0.100", "10.0.0.100", 0},
		"a different one than before":  {"10.0.0.101", "10.0.0.100", "10.0.0.100", "10.0.0.101", 0},
		"with a port":                  {"10.0.0.100:6443", "", "", "", problem.ExitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			j, err := journal.Open(hosttest.New(t).Host(), "/var/lib/plinth", func() time.Time { return time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC) })
			if err != nil {
				t.Fatal(err)
			}
			if c.started != "" {
				if err := j.BeginRun("install", journal.Args{APIAddress: c.started}); err != nil {
					t.Fatal(err)
				}
			}
			o := operation{opts: Options{APIAddress: c.requested}, receipt: journal.Receipt{API: c.receipt}}
			err = o.resolveAPIAddress(t.Context(), j)
			if problem.ExitCode(err) != c.exit || o.apiAddress != c.want || o.args.APIAddress != c.want {
				t.Errorf("%q %v, arguments %v", o.apiAddress, err, o.args)
			}
		})
	}
}
