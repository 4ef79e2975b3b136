package desired

import (
	"os"
	"testing"
	"time"

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
