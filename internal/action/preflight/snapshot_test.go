package preflight

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
)

func TestReadPrevious_ReturnsTheFactsOfTheLastRun(t *testing.T) {
	h := hosttest.New(t).Host()
	r := &action.Env{Host: h, GlobalOptions: action.GlobalOptions{DataDir: "/var/lib/plinth", Now: time.Now}}
	j, err := journal.Open(h, r.DataDir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if e := readPrevious(r, j); e.Facts != nil || e.Reason != "" {
		t.Errorf("of a fresh host: %+v", e)
	}
	k, err := NewFactsSnapshot(facts.Facts{Hostname: "a", Network: facts.Network{Interfaces: []facts.Interface{{Name: "e", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.BeginRun("install", journal.Args{Facts: k.Digest.String()}); err != nil {
		t.Fatal(err)
	}
	if e := readPrevious(r, j); e.Facts != nil || e.Reason != "" {
		t.Errorf("of a run killed before it wrote them: %+v", e)
	}
	if err := k.Write(r); err != nil {
		t.Fatal(err)
	}
	if err := j.BeginRun("reset", journal.Args{}); err != nil { // which found nothing
		t.Fatal(err)
	}
	if e := readPrevious(r, j); e.Facts == nil || e.Facts.Hostname != "a" {
		t.Errorf("%+v", e)
	}
	if info, err := h.Lstat("/var/lib/plinth/facts.json"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if err := h.Write("/var/lib/plinth/facts.json", strings.NewReader("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if e := readPrevious(r, j); e.Facts != nil || !strings.Contains(e.Reason, "was changed") {
		t.Errorf("changed by another program: %+v", e)
	}
}
