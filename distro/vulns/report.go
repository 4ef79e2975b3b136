package vulns

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/distro/debian"
)

// Component is a recipe in the report.
type Component struct {
	Name    string
	Version string
	Module  string // module@version that it is built from, "" if it is not a Go module
}

// Unique returns the findings sorted, one for each component, module and id.
func Unique(findings []Finding) []Finding {
	sortFindings(findings)
	return slices.CompactFunc(findings, func(a, b Finding) bool {
		return a.Component == b.Component && a.Module == b.Module && a.Version == b.Version && a.ID == b.ID
	})
}

// Report returns the report of the payload as Markdown.
func Report(p Policy, components []Component, findings []Finding, debs []debian.Entry) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `# Known vulnerabilities of the payload

Written by `+"`make payload-vulns`"+` from the built payload. Do not edit; decisions are in
[%[1]s](../../distro/%[1]s).

- Database: `+"`%[2]s`"+`
- Listed is a vulnerability whose package is linked into an executable of the component. The executables have no
  symbol table, so whether the vulnerable function is called is in the reason of the decision.

`, PolicyFile, p.Database)
	b.WriteString("| component | version | built from | known |\n|---|---|---|---|\n")
	for _, c := range components {
		n := 0
		for _, f := range findings {
			if f.Component == c.Name {
				n++
			}
		}
		fmt.Fprintf(&b, "| %s | %s | `%s` | %d |\n", c.Name, c.Version, c.Module, n)
	}
	for _, c := range components {
		writeComponent(&b, p, c, findings)
	}
	b.WriteString("\n## Debian packages\n\nPinned in `distro/debian.lock` at the newest version of the suite and its security updates when\n`make payload-repin` last ran.\n\n| package | version |\n|---|---|\n")
	for _, e := range debs {
		fmt.Fprintf(&b, "| %s | %s |\n", e.Name, e.Version)
	}
	return b.Bytes()
}

// writeComponent writes one row for the findings of a module that share a decision.
func writeComponent(b *bytes.Buffer, p Policy, c Component, findings []Finding) {
	type row struct {
		module string
		ids    []string
		reason string
		until  string
	}
	var rows []row
	for _, f := range findings {
		if f.Component != c.Name {
			continue
		}
		e, ok := p.Decision(f)
		if !ok {
			e.Reason = "**none**"
		}
		module, id := f.Module+" "+f.Version, f.ID
		if f.Fixed != "" {
			id += " (" + f.Fixed + ")"
		}
		if n := len(rows); n > 0 && rows[n-1].module == module && rows[n-1].reason == e.Reason && rows[n-1].until == e.Until {
			rows[n-1].ids = append(rows[n-1].ids, id)
			continue
		}
		rows = append(rows, row{module, []string{id}, e.Reason, e.Until})
	}
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## %s %s\n\n| module | id (fixed in) | decision | until |\n|---|---|---|---|\n", c.Name, c.Version)
	for _, r := range rows {
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", r.module, strings.Join(r.ids, ", "), strings.Join(strings.Fields(r.reason), " "), r.until)
	}
}
