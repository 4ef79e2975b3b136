package vulns

import (
	"strings"
	"testing"
	"time"
)

const pins = "database: example.com/db@v0.1.0\nsum: h1:abc=\nscanner: example.com/scan@v1.0.0\n"

func day(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestParsePolicy_AcceptsExceptionUntilEndOfItsLastDay(t *testing.T) {
	text := pins + "exceptions:\n- {ids: [GO-2026-0001], components: [host], reason: not reachable, until: 2026-12-31}\n"
	for at, ended := range map[string]bool{"2026-12-30T23:00:00Z": false, "2026-12-31T23:59:59Z": false, "2027-01-01T00:00:00Z": true} {
		_, err := ParsePolicy([]byte(text), day(t, at))
		if ended != (err != nil) || ended && !strings.Contains(err.Error(), "GO-2026-0001 ended on 2026-12-31") {
			t.Errorf("%s: %v", at, err)
		}
	}
}

func TestParsePolicy_ReportsEveryFault(t *testing.T) {
	cases := map[string]string{
		"- {ids: [CVE-2026-1], components: [host], reason: r, until: 2026-12-31}":                 "is not an id",
		"- {ids: [], components: [host], reason: r, until: 2026-12-31}":                           "ids and components are required",
		"- {ids: [GO-2026-0001], components: [], reason: r, until: 2026-12-31}":                   "ids and components are required",
		"- {ids: [GO-2026-0001], components: [host], until: 2026-12-31}":                          "reason is required",
		"- {ids: [GO-2026-0001], components: [host], reason: r}":                                  "is not a date",
		"- {ids: [GO-2026-0001], components: [host], reason: r, until: 31.12.26}":                 "is not a date",
		"- {id: GO-2026-0001, components: [host], reason: r, until: 2026-12-31}":                  "field id not found",
		"- {ids: [GO-2026-0001, GO-2026-0001], components: [host], reason: r, until: 2026-12-31}": "listed twice",
	}
	for line, want := range cases {
		_, err := ParsePolicy([]byte(pins+"exceptions:\n"+line+"\n"), day(t, "2026-11-01T00:00:00Z"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", line, err, want)
		}
	}
	if _, err := ParsePolicy([]byte("exceptions: []\n"), time.Time{}); err == nil || !strings.Contains(err.Error(), "database") {
		t.Errorf("without pins: %v", err)
	}
}

func TestCheck_FailsOnUndecidedFindingAndStaleException(t *testing.T) {
	p := Policy{Exceptions: []Exception{{IDs: []string{"GO-2026-0001", "GO-2026-0002"}, Components: []string{"host", "etcd"}}}}
	first, second := Finding{ID: "GO-2026-0001", Component: "host"}, Finding{ID: "GO-2026-0002", Component: "etcd"}
	cases := []struct {
		name     string
		findings []Finding
		scanned  []string
		want     string
	}{
		{"all matched", []Finding{first, second}, []string{"host", "etcd"}, ""},
		{"etcd was not scanned", []Finding{first}, []string{"host"}, ""},
		{"no exception", []Finding{first, second, {ID: "GO-2026-0003", Component: "host", Summary: "panic"}}, []string{"host", "etcd"}, "GO-2026-0003 in host: panic"},
		{"exception of another component", []Finding{first, second, {ID: "GO-2026-0001", Component: "runc"}}, []string{"host", "etcd", "runc"}, "GO-2026-0001 in runc"},
		{"id is fixed", []Finding{first}, []string{"host", "etcd"}, "GO-2026-0002 matches no finding"},
		{"component is fixed", []Finding{first, {ID: "GO-2026-0002", Component: "host"}}, []string{"host", "etcd"}, "etcd matches no finding"},
	}
	for _, c := range cases {
		err := p.Check(c.findings, c.scanned)
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestLoadPolicy_ReadsRepositoryPolicy(t *testing.T) {
	// The date is fixed: `make verify` and `make payload-vulns` report exceptions that have ended.
	p, err := LoadPolicy("../"+PolicyFile, day(t, "2026-11-29T00:00:00Z"))
	if err != nil || len(p.Exceptions) == 0 {
		t.Errorf("%d exceptions, %v", len(p.Exceptions), err)
	}
}
