package preflight

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
)

func TestReadPrevious_ReturnsTheFactsOfTheLastRun(t *testing.T) {
	h := hosttest.New(t).Host()
	r := &run.Run{Host: h, Config: run.Config{DataDir: "/var/lib/plinth", Now: time.Now}}
	j, err := journal.Open(h, r.DataDir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if e := earlier(r, j); e.Facts != nil || e.Why != "" {
		t.Errorf("of a fresh host: %+v", e)
	}
	k, err := Keep(facts.Facts{Hostname: "a", Network: facts.Network{Interfaces: []facts.Interface{{Name: "e", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Begin("install", k.Bind(map[string]string{})); err != nil {
		t.Fatal(err)
	}
	if e := earlier(r, j); e.Facts != nil || e.Why != "" {
		t.Errorf("of a run killed before it wrote them: %+v", e)
	}
	if err := k.Write(r); err != nil {
		t.Fatal(err)
	}
	if err := j.Begin("reset", nil); err != nil { // which found nothing
		t.Fatal(err)
	}
	if e := earlier(r, j); e.Facts == nil || e.Facts.Hostname != "a" {
		t.Errorf("%+v", e)
	}
	if info, err := h.Lstat("/var/lib/plinth/facts.json"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if err := h.Write("/var/lib/plinth/facts.json", strings.NewReader("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if e := earlier(r, j); e.Facts != nil || !strings.Contains(e.Why, "was changed") {
		t.Errorf("changed by another program: %+v", e)
	}
}
