package checks

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/hostpreflight/troubleshoot"
	"github.com/plinthdev/plinth/internal/testkit"
)

const documentHead = `# Host preflights

<!-- Generated from the checks by "go test ./hostpreflight/checks -update"; do not edit. -->

Before Plinth changes a host, it gathers facts about it (at most three seconds), measures its disk (usually two seconds,
at most eleven) and runs the checks below. The result of a check is *pass*, *warn*, *fail*, *unknown* (a fact could not
be gathered; the reason is printed) or *skipped* (the check does not apply; the report says who decided it and why).
Failures stop the command with exit code 5 and leave the host unchanged.

- ` + "`plinth preflight`" + ` runs only the checks and changes nothing, like ` + "`plinth install --plan`" + `. ` + "`-o json`" + ` prints the report
  as JSON ([schema](preflight.schema.json)).
- ` + "`--ignore-host-preflight ID[,ID…]`" + ` turns the failure of a check into a warning that is printed and recorded in the
  receipt. An unknown id is an error.
- The journal records what an installation created on the host, so the checks do not fail on it when a command runs
  again.
- Sizes are decimal: 1 GB is 1,000,000,000 bytes.
`

// TestDocument_ListsEveryCheck compares docs/reference/preflights.md with the checks;
// `go test ./hostpreflight/checks -update` writes it.
func TestDocument_ListsEveryCheck(t *testing.T) {
	tail, err := os.ReadFile("testdata/vendor.md")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(documentHead)
	group := ""
	for _, c := range All() {
		if c.Group != group {
			group = c.Group
			fmt.Fprintf(&b, "\n## %s\n\n| id | what | expected | otherwise | runs for | why | example of a fix |\n|---|---|---|---|---|---|---|\n", group)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s |\n", c.ID, c.Title, c.Expected, c.Severity, describeScope(c), c.Rationale, exampleFix(t, c))
	}
	fmt.Fprintf(&b, string(tail), strings.Join(troubleshoot.SupportedCollectors(), "`, `"), strings.Join(troubleshoot.SupportedAnalyzers(), "`, `"))
	testkit.Golden(t, "../../docs/reference/preflights.md", []byte(b.String()))
}

// TestGuide_SaysWhatToDoForEveryCheck finds every check in the tables of the guide.
func TestGuide_SaysWhatToDoForEveryCheck(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guide/preflights.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(string(guide)) {
		if strings.HasPrefix(line, "| `") {
			rows = append(rows, line)
		}
	}
	for _, c := range All() {
		name := "`" + c.ID + "`"
		if strings.HasPrefix(c.ID, "port-") {
			name = "`port-…`"
		}
		if !slices.ContainsFunc(rows, func(row string) bool { return strings.Contains(row, name) }) {
			t.Errorf("docs/guide/preflights.md does not say what to do for %s", c.ID)
		}
	}
}

// exampleFix returns the fix for the first fault that shows c at its severity.
func exampleFix(t *testing.T, c hp.Check) string {
	for _, x := range faults() {
		f, req := loadFixture(t, "debian-12"), exampleRequirements()
		x.edit(&f, &req)
		if r := c.Run(f, req); x.id == c.ID && r.State == c.Severity {
			return strings.NewReplacer("\n", "<br>", "|", "\\|").Replace(r.Fix)
		}
	}
	t.Errorf("%s: no fault with its severity", c.ID)
	return ""
}

// describeScope returns the verbs and roles of c, or "all".
func describeScope(c hp.Check) string {
	if c.Roles == nil && c.Verbs == nil {
		return "all"
	}
	var all []string
	for _, v := range c.Verbs {
		all = append(all, string(v))
	}
	for _, r := range c.Roles {
		all = append(all, string(r))
	}
	return strings.Join(all, ", ")
}
