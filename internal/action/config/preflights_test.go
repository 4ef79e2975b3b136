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
	bad := spec.File{Name: "installer.yaml", Data: []byte(installerWith + "    collectors: [{run: {}}]\n    analyzers: [{cpu: {outcomes: [{fail: {when: physical < 4}}]}}]\n")}
	report = LintFiles([]spec.File{bad})
	report.Findings = slices.DeleteFunc(report.Findings, func(f spec.Finding) bool { return f.Severity == spec.Warning })
	if len(report.Findings) != 2 || report.Err("lint") == nil {
		t.Fatalf("%+v", report.Findings)
	}
	if at := report.Findings[1].String(); !strings.HasPrefix(at, "installer.yaml:8:") {
		t.Errorf("not at the line of the analyzer: %s", at)
	}
	want := "[host-preflights] spec.hostPreflights.collectors[0]: collector run is not supported"
	if got := report.Findings[0].String() + report.Findings[1].String(); !strings.Contains(got, want) {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestReadFiles_RefusesEmptyName(t *testing.T) {
	if _, err := ReadFiles([]string{""}); err == nil || !strings.Contains(err.Error(), "the name of the file is empty") {
		t.Error(err)
	}
}
