package builtin

import (
	"fmt"
	"strings"
	"testing"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/hostpreflight/troubleshoot"
	"github.com/plinthdev/plinth/internal/testkit"
)

const documentHead = `# Host preflights

<!-- Written by "go test ./hostpreflight/builtin -update" from the registry of checks. -->

Before anything on a host is changed, Plinth looks at it (at most three seconds), measures its disk (as a rule two seconds,
at most eleven) and asks the checks below. A check answers
*pass*, *warn*, *fail*, *unknown* (the host could not be asked; the reason is printed) or *skipped* (it does not concern this
role or verb; by whom is said). Failures stop the command with exit code 5 and leave the host as it is.

- ` + "`plinth preflight`" + ` asks them alone and changes nothing, as does ` + "`plinth install --plan`" + `; ` + "`-o json`" + ` prints the report as JSON
  ([schema](preflight.schema.json)).
- ` + "`--ignore-host-preflight ID[,ID…]`" + ` turns the failure of a check into a warning that is printed and kept in the receipt.
  An id that does not exist is an error.
- What this installation itself put on the host is known from its journal and is no obstacle to running a command again.
- Sizes are decimal: 1 GB is 1,000,000,000 bytes.
`

const documentTail = `
## The vendor's own checks

` + "`spec.hostPreflights`" + ` of the Installer is the spec of a ` + "`troubleshoot.sh/v1beta2`" + ` HostPreflight: collectors and analyzers, as
[troubleshoot.sh](https://troubleshoot.sh/docs/host-collect-analyze/overview/) describes them. ` + "`install`" + ` asks them with the checks above, and
` + "`plinth preflight --bundle`" + ` does. An analyzer's id is ` + "`vendor-`" + ` and its checkName in lower case. With ` + "`strict: true`" + ` its
failure cannot be ignored; others can.

Supported collectors and analyzers: ` + "`%s`" + `. Any other one, and any condition that cannot be read, is an error of the
Installer (exit code 3, also of ` + "`lint`" + ` and ` + "`bundle build`" + `): a check that is silently left out would be worse. Of
` + "`filesystemPerformance`" + ` p50, p99 and p999 are known, measured once on the disk of /var/lib/k0s; of ` + "`http`" + ` only get; of an
interface only lo. Of ` + "`systemPackages`" + ` the packages are asked of dpkg or rpm, and the templates may name OS, OSVersion, OSVersionMajor,
OSVersionMinor, Name, IsInstalled, Version, Error and ExitCode. What ` + "`dns`" + ` and ` + "`networkNamespaceConnectivity`" + ` are used for is built in:
` + "`dns-answers`, `dns-wildcard`, `kernel-namespaces` and `sysctl-forwarding`" + `.
`

// TestTheDocumentListsEveryCheck keeps docs/preflights.md the registry's own
// words; `go test ./hostpreflight/builtin -update` writes it.
func TestTheDocumentListsEveryCheck(t *testing.T) {
	var b strings.Builder
	b.WriteString(documentHead)
	group := ""
	for _, c := range Checks() {
		if c.Group != group {
			group = c.Group
			fmt.Fprintf(&b, "\n## %s\n\n| id | what | wanted | else | asked of | why | what to do, in an example |\n|---|---|---|---|---|---|---|\n", group)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s |\n", c.ID, c.Title, c.Wants, c.Severity, roles(c), c.Why, fix(t, c))
	}
	fmt.Fprintf(&b, documentTail, strings.Join(troubleshoot.Supported(), "`, `"))
	testkit.Golden(t, "../../docs/preflights.md", []byte(b.String()))
}

// fix is what the check says of the first of the faults that show it at its worst.
func fix(t *testing.T, c hp.Check) string {
	for _, x := range faults() {
		f, w := fixture(t, "debian-12"), wanted()
		x.edit(&f, &w)
		if r := c.Run(f, w); x.id == c.ID && r.State == c.Severity {
			return strings.NewReplacer("\n", "<br>", "|", "\\|").Replace(r.Fix)
		}
	}
	t.Errorf("%s: no fault shows what to do", c.ID)
	return ""
}

func roles(c hp.Check) string {
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
