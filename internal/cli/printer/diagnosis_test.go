package printer

import (
	"bytes"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action/support"
	"github.com/plinthdev/plinth/internal/diagnosis"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestWriteDiagnosis(t *testing.T) {
	full := diagnosis.Finding{Rule: "disk-full", Severity: diagnosis.Error, Culprit: "a disk is full", Evidence: []string{"1 MB of 20.0 GB are free at /, with /var/lib/k0s"},
		Fix: "find what uses the space: sudo du -xhd2 / | sort -h | tail -20\nshorten old logs: sudo journalctl --vacuum-size=500M"}
	clock := diagnosis.Finding{Rule: "clock-not-synchronized", Severity: diagnosis.Warning, Culprit: "no time server sets the clock",
		Evidence: []string{"the kernel reports its clock as not synchronized"}, Fix: "sudo timedatectl set-ntp true"}
	report := support.Report{Host: "c1", Role: "controller", Time: time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC), Findings: []diagnosis.Finding{}}
	for name, edit := range map[string]func(*support.Report){
		"diagnosis": func(r *support.Report) {
			r.Findings = []diagnosis.Finding{full, clock}
			r.Unknown = []facts.Unknown{{Fact: "log: --unit=k0scontroller.service", Reason: "no answer in time"}}
		},
		"diagnosis-warnings": func(r *support.Report) { r.Findings = []diagnosis.Finding{clock} },
		"diagnosis-nothing":  func(*support.Report) {},
	} {
		t.Run(name, func(t *testing.T) {
			r := report
			edit(&r)
			var out bytes.Buffer
			WriteDiagnosis(&out, r)
			testkit.Golden(t, "testdata/"+name+".txt", out.Bytes())
		})
	}
	t.Run("likely cause", func(t *testing.T) {
		want := "Likely cause: a disk is full (disk-full): 1 MB of 20.0 GB are free at /, with /var/lib/k0s\n" +
			"→ find what uses the space: sudo du -xhd2 / | sort -h | tail -20\nMore: plinth diagnose"
		if got := DescribeLikelyCause(full); got != want {
			t.Errorf("%q", got)
		}
	})
	t.Run("JSON", func(t *testing.T) {
		r := report
		r.Findings = []diagnosis.Finding{full}
		var out bytes.Buffer
		testkit.Must(t, WriteJSON(&out, r, nil, nil))
		testkit.Golden(t, "testdata/diagnosis.json", out.Bytes())
	})
}
