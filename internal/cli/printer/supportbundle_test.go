package printer

import (
	"bytes"
	"testing"

	"github.com/plinthdev/plinth/internal/action/support"
	"github.com/plinthdev/plinth/internal/diagnosis"
	"github.com/plinthdev/plinth/internal/supportbundle"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestWriteSupportBundle(t *testing.T) {
	for name, r := range map[string]support.BundleResult{
		"support-bundle": {Path: "/root/support-bundle-c1-2026-01-02T12_00_00.tar.gz", Size: 3_200_000, Files: 142, Redacted: 12, Findings: []diagnosis.Finding{},
			LeftOut: []supportbundle.LeftOut{{File: "support-bundle-specs/shop/secret-my-app", Reason: "the collector exec is not carried out: it runs a program", Expected: true}}},
		"support-bundle-incomplete": {Path: "/root/a.tar.gz.age", Size: 90_000, Files: 60, Redacted: 1, Encrypted: true,
			LeftOut:  []supportbundle.LeftOut{{File: "host-collectors/journald/k0s.txt", Reason: "journalctl: timed out after 25s"}},
			Findings: []diagnosis.Finding{{Rule: "disk-full", Culprit: "a disk is full"}}},
		"support-bundle-nodes": {Path: "/root/a.tar.gz", Size: 9_100_000, Files: 402, Redacted: 40,
			Findings: []diagnosis.Finding{{Rule: "etcd-slow", Severity: diagnosis.Warning, Culprit: "etcd is slow"}},
			LeftOut:  []supportbundle.LeftOut{{File: "host-collectors/plinth/w2/", Reason: "no answer in time"}},
			Nodes: []support.NodeResult{{Name: "c1", Collected: true},
				{Name: "w1", Collected: true, Findings: []diagnosis.Finding{{Rule: "disk-full", Severity: diagnosis.Error, Culprit: "a disk is\x1b full"}}},
				{Name: "w2", Reason: "no answer in time"}}},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			WriteSupportBundle(&out, r)
			testkit.Golden(t, "testdata/"+name+".txt", out.Bytes())
		})
	}
}
