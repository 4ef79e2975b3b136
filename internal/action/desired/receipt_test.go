package desired

import (
	"os"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestNewReceipt_KeepsTheTimeOfTheFirstInstall(t *testing.T) {
	raw, err := os.ReadFile("../../../installer.yaml")
	testkit.Must(t, err)
	in, findings := spec.ParseInstaller("installer.yaml", raw)
	if in == nil {
		t.Fatalf("%+v", findings)
	}
	now := time.Date(2026, 5, 2, 12, 0, 0, 0, time.UTC)
	before := now.Add(-time.Hour)
	for name, c := range map[string]struct {
		earlier journal.Receipt
		want    time.Time
	}{
		"the first":   {journal.Receipt{}, now},
		"a later run": {journal.Receipt{InstalledAt: before}, before},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := NewReceipt(in, c.earlier, now)
			testkit.Must(t, err)
			if !r.InstalledAt.Equal(c.want) || !r.UpdatedAt.Equal(now) || r.Name != "my-app" || r.Versions["kotsadm"] != in.Spec.Kotsadm.Version || r.Versions["k0s"] != in.Spec.K0s.Version || r.Console.Port != 8800 {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestIsRecorded_NeedsTheIdentityOfTheHost(t *testing.T) {
	const bundle = digest.Digest("sha256:abc")
	whole := journal.Receipt{Bundle: bundle.String(), Node: "n1", MachineID: "1", Address: "10.0.0.5"}
	for name, c := range map[string]struct {
		edit func(*journal.Receipt)
		want bool
	}{
		"all of it":                      {func(*journal.Receipt) {}, true},
		"another bundle":                 {func(r *journal.Receipt) { r.Bundle = "sha256:def" }, false},
		"of a build without machine ids": {func(r *journal.Receipt) { r.MachineID = "" }, false},
		"of a build without addresses":   {func(r *journal.Receipt) { r.Address = "" }, false},
		"of a build without names":       {func(r *journal.Receipt) { r.Node = "" }, false},
		"no receipt":                     {func(r *journal.Receipt) { *r = journal.Receipt{} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := whole
			c.edit(&r)
			if got := IsRecorded(r, bundle); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
