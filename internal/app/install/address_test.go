package install

import (
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/problem"
)

func TestTheAPIsAddressIsTheOneAskedForOrTheOneThatIsKnown(t *testing.T) {
	for name, c := range map[string]struct {
		asked, begun, receipt string
		want                  string
		exit                  int
	}{
		"none":                       {"", "", "", "", 0},
		"asked for":                  {"10.0.0.100", "", "", "10.0.0.100", 0},
		"by the run that is resumed": {"", "10.0.0.100", "", "10.0.0.100", 0},
		"of a host that joined":      {"", "", "10.0.0.100", "10.0.0.100", 0},
		"another one than before":    {"10.0.0.101", "10.0.0.100", "10.0.0.100", "10.0.0.101", 0},
		"with a port":                {"10.0.0.100:6443", "", "", "", problem.ExitUsage},
	} {
		j, err := journal.Open(hosttest.New(t).Host(), "/var/lib/plinth", func() time.Time { return time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC) })
		if err != nil {
			t.Fatal(err)
		}
		if c.begun != "" {
			if err := j.Begin("install", map[string]string{argAPI: c.begun}); err != nil {
				t.Fatal(err)
			}
		}
		req := Request{APIAddress: c.asked, asked: map[string]string{}}
		got, err := apiAddress(t.Context(), j, journal.Receipt{API: c.receipt}, req)
		if problem.ExitCode(err) != c.exit || got != c.want || err == nil && req.asked[argAPI] != c.want {
			t.Errorf("%s: %q %v, asked for %v", name, got, err, req.asked)
		}
	}
}
