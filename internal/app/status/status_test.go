package status_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/app/status"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots/pki"
)

const dataDir = "/var/lib/plinth"

func clock() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// look looks through a host that cannot be changed.
func look(t *testing.T, f *hosttest.Fake) status.Status {
	t.Helper()
	s, err := status.Look(t.Context(), host.ReadOnly(f.Host()), dataDir, clock)
	must(t, err)
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func begun(t *testing.T, f *hosttest.Fake) *journal.Journal {
	t.Helper()
	j, err := journal.Open(f.Host(), dataDir, clock)
	must(t, err)
	must(t, j.Begin("install", nil))
	return j
}

func TestABareHostHasNothingToTell(t *testing.T) {
	s := look(t, hosttest.New(t))
	if s.Installed || s.Unfinished != nil || s.Service != "" || len(s.Warnings) != 0 || s.Console != nil {
		t.Errorf("status is %+v", s)
	}
}

func TestAnInstallThatWasKilledOrFailedIsUnfinished(t *testing.T) {
	f := hosttest.New(t)
	j := begun(t, f)
	must(t, j.BeginStep("kernel", nil))
	s := look(t, f)
	if s.Installed || s.Unfinished == nil || *s.Unfinished != (status.Unfinished{Verb: "install", Began: clock(), Step: "kernel"}) {
		t.Errorf("killed: %+v", s.Unfinished)
	}
	failure := errors.New("no space left")
	must(t, j.EndStep("kernel", failure))
	must(t, j.End(failure))
	if s := look(t, f); s.Unfinished == nil || s.Unfinished.Failed != "no space left" {
		t.Errorf("failed: %+v", s.Unfinished)
	}
	must(t, j.Begin("install", nil))
	must(t, j.End(nil))
	if s := look(t, f); s.Unfinished != nil {
		t.Errorf("resumed: %+v", s.Unfinished)
	}
}

func TestAnInstallWhoseClusterIsSilentIsStillDescribed(t *testing.T) {
	f := hosttest.New(t)
	must(t, begun(t, f).End(nil))
	must(t, journal.WriteReceipt(f.Host(), dataDir, journal.Receipt{Name: "my-app", Role: "controller", Bundle: "sha256:abc",
		Versions: map[string]string{"k0s": "v1.33.8+k0s.1"}, Warnings: []string{"the gate was skipped"}}))
	f.Unit[k0s.Unit] = host.UnitState{Load: "loaded", Active: "failed", Sub: "failed"}
	s := look(t, f)
	if !s.Installed || s.Name != "my-app" || s.Role != "controller" || s.Bundle != "sha256:abc" || s.Service != "failed" || s.Versions["k0s"] == "" {
		t.Errorf("status is %+v", s)
	}
	if len(s.Warnings) != 2 || s.Warnings[0] != "the gate was skipped" || !strings.Contains(s.Warnings[1], "the cluster does not answer") {
		t.Errorf("warnings are %q", s.Warnings)
	}
}

func TestCertificatesAreListedTheFirstToEndFirst(t *testing.T) {
	f := hosttest.New(t)
	must(t, begun(t, f).End(nil))
	put := func(name string, content []byte) {
		must(t, f.Host().Write(k0s.DataDir+"/pki/"+name, strings.NewReader(string(content)), 0o600))
	}
	for name, now := range map[string]time.Time{"late.crt": clock(), "soon.crt": clock().AddDate(-1, 0, 0)} {
		pair, err := pki.SelfSigned([]string{"localhost"}, now)
		must(t, err)
		put(name, pair.Cert)
		put(strings.Replace(name, ".crt", ".key", 1), pair.Key)
	}
	put("garbage.crt", []byte("no PEM"))
	put("wrong.crt", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	var paths []string
	for _, c := range look(t, f).Certificates {
		paths = append(paths, c.Path)
		if c.Expires.Before(clock().AddDate(-1, 0, 0)) || c.Expires.Location() != time.UTC {
			t.Errorf("%s ends %s", c.Path, c.Expires)
		}
	}
	if want := []string{k0s.DataDir + "/pki/soon.crt", k0s.DataDir + "/pki/late.crt"}; !slices.Equal(paths, want) {
		t.Errorf("listed %v, want %v", paths, want)
	}
}

func TestAJournalThatCannotBeReadIsAnError(t *testing.T) {
	f := hosttest.New(t)
	must(t, f.Host().Write(dataDir+"/journal.json", strings.NewReader("{"), 0o600))
	if _, err := status.Look(t.Context(), f.Host(), dataDir, clock); err == nil {
		t.Error("a damaged journal passes for none")
	}
}
