package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/spec"
)

const installerWith = "apiVersion: plinth.dev/v1beta1\nkind: Installer\nmetadata: {name: my-app}\nspec:\n  k0s: {version: v1.33.8+k0s.1}\n  hostPreflights:\n"

func TestLintFiles_ValidatesHostPreflights(t *testing.T) {
	good := spec.File{Name: "installer.yaml", Data: []byte(installerWith + "    analyzers: [{cpu: {checkName: CPUs, outcomes: [{fail: {when: count < 4, message: more}}]}}]\n")}
	report := LintFiles([]spec.File{good})
	checks, err := ParseHostPreflights(report.Installer)
	if err != nil || spec.HasErrors(report.Findings) || len(checks.Checks) != 1 || checks.Checks[0].ID != "vendor-cpus" {
		t.Errorf("%+v, %+v", report.Findings, checks)
	}
	bad := spec.File{Name: "installer.yaml", Data: []byte(installerWith + "    collectors: [{copy: {}}]\n    analyzers: [{cpu: {outcomes: [{fail: {when: sockets < 4}}]}}]\n")}
	report = LintFiles([]spec.File{bad})
	report.Findings = slices.DeleteFunc(report.Findings, func(f spec.Finding) bool { return f.Severity == spec.Warning })
	if len(report.Findings) != 2 || report.Err("lint") == nil {
		t.Fatalf("%+v", report.Findings)
	}
	if at := report.Findings[1].String(); !strings.HasPrefix(at, "installer.yaml:8:") {
		t.Errorf("not at the line of the analyzer: %s", at)
	}
	want := "[host-preflights] spec.hostPreflights.collectors[0]: collector copy is not supported"
	if got := report.Findings[0].String() + report.Findings[1].String(); !strings.Contains(got, want) {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// TestLintFiles_TakesWholeHostPreflight pastes a HostPreflight document under the key.
func TestLintFiles_TakesWholeHostPreflight(t *testing.T) {
	const document = "    apiVersion: troubleshoot.sh/v1beta2\n    kind: HostPreflight\n    metadata: {name: checks, labels: {a: b}}\n"
	const analyzers = "analyzers: [{cpu: {checkName: CPUs, outcomes: [{fail: {when: count < 4, message: more}}]}}]}\n"
	for name, c := range map[string]struct{ text, want string }{
		"whole":              {document + "    spec: {" + analyzers, ""},
		"a bad condition":    {document + "    spec: {" + strings.ReplaceAll(analyzers, "count", "sockets"), "spec.hostPreflights.spec.analyzers[0].cpu.outcomes[0].when"},
		"without a spec":     {document, "spec.hostPreflights.spec: is missing"},
		"an older version":   {strings.ReplaceAll(document, "v1beta2", "v1beta1") + "    spec: {" + analyzers, `spec.hostPreflights.apiVersion: "troubleshoot.sh/v1beta1" is not troubleshoot.sh/v1beta2`},
		"of the cluster":     {strings.ReplaceAll(document, "HostPreflight", "Preflight") + "    spec: {" + analyzers, `spec.hostPreflights.kind: "Preflight" is not HostPreflight`},
		"lists beside it":    {document + "    spec: {" + analyzers + "    collectors: [{cpu: {}}]\n", "beside the fields of a whole document"},
		"remote collectors":  {document + "    spec: {remoteCollectors: []}\n", "remoteCollectors"},
		"an empty spec":      {document + "    spec: {}\n", ""},
		"a spec by its list": {"    analyzers: [{cpu: {outcomes: [{pass: {message: fine}}]}}]\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			report := LintFiles([]spec.File{{Name: "installer.yaml", Data: []byte(installerWith + c.text)}})
			var all strings.Builder
			for _, f := range report.Findings {
				all.WriteString(f.String() + "\n")
			}
			if bad := spec.HasErrors(report.Findings); bad != (c.want != "") || !strings.Contains(all.String(), c.want) {
				t.Errorf("%swant %q", all.String(), c.want)
			}
			if name == "whole" {
				if p, err := ParseHostPreflights(report.Installer); err != nil || len(p.Checks) != 1 {
					t.Errorf("%+v, %v", p.Checks, err)
				}
			}
		})
	}
}

func TestReadFiles_RefusesEmptyName(t *testing.T) {
	if _, err := ReadFiles(t.Context(), []string{""}); err == nil || !strings.Contains(err.Error(), "the name of the file is empty") {
		t.Error(err)
	}
}
