package printer

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/action/install"
	"github.com/plinthdev/plinth/internal/action/preflight"
	"github.com/plinthdev/plinth/internal/action/repair"
	"github.com/plinthdev/plinth/internal/action/status"
	"github.com/plinthdev/plinth/internal/action/upgrade"
)

// WriteInstallResult writes what an install found, planned or did. again is the
// command line without --plan; failed reports that the install returned an error.
func WriteInstallResult(w io.Writer, r install.Result, again string, failed bool) {
	switch {
	case r.Preflights != nil && r.Preflights.Failed > 0:
		fmt.Fprint(w, r.Preflights.Text())
	case failed:
	case r.Plan != nil:
		writePreflightWarnings(w, r.Preflights)
		if r.Inputs != nil {
			fmt.Fprintf(w, "This host's node has the address %s.\n\n", r.Inputs.Facts["address"])
		}
		writePlan(w, r.Plan, again)
	case !r.Changed:
		writePreflightWarnings(w, r.Preflights)
		writeInstalled(w, r)
	default: // the warnings were printed before the first change
		writeInstalled(w, r)
	}
}

// WritePreflightReport writes the report on a host and the install command for it; verbose adds the
// reasons of warnings and failures.
func WritePreflightReport(w io.Writer, r hostpreflight.Report, req preflight.RunOptions, verbose bool) {
	if verbose {
		fmt.Fprint(w, r.VerboseText())
	} else {
		fmt.Fprint(w, r.Text())
	}
	if r.Failed > 0 {
		return // the error has a hint
	}
	if r.Role == hostpreflight.Worker {
		writeNextCommand(w, "echo TOKEN | sudo plinth join -"+addressFlags(req.NodeAddress))
		return
	}
	line := "plinth install"
	switch {
	case req.Bundle != "":
		line += " --bundle " + QuoteShellWord(req.Bundle)
	case req.Source == "":
		line += " --bundle FILE"
	}
	if req.Source != "" {
		line += " --source " + QuoteShellWord(req.Source)
	}
	line += addressFlags(req.NodeAddress)
	if len(req.Ignore) > 0 {
		line += " --ignore-host-preflight " + QuoteShellWord(strings.Join(req.Ignore, ","))
	}
	writeNextCommand(w, line)
}

// addressFlags returns the flags that choose the address a, with a space before each.
func addressFlags(a preflight.AddressFlags) (flags string) {
	if a.Address != "" {
		flags += " --address " + QuoteShellWord(a.Address)
	}
	if a.Interface != "" {
		flags += " --network-interface " + QuoteShellWord(a.Interface)
	}
	return flags
}

// writePreflightWarnings writes the warnings and a summary of r.
func writePreflightWarnings(w io.Writer, r *hostpreflight.Report) {
	if r == nil {
		return
	}
	if warnings := r.WarningText(false); warnings != "" {
		fmt.Fprintln(w, warnings)
	}
	fmt.Fprintf(w, "Host preflights: %s\n\n", r.Summary())
}

// writeInstalled writes how to reach the admin console.
func writeInstalled(w io.Writer, r install.Result) {
	if !r.Changed {
		fmt.Fprintln(w, "Nothing to do: everything is installed.")
	}
	if r.ConsoleURL != "" {
		fmt.Fprintf(w, "Admin console  %s\n", r.ConsoleURL)
	}
	if r.Password != "" {
		fmt.Fprintf(w, "Password       %s   (shown only once; `plinth console reset-password` sets a new one)\n", r.Password)
	}
	if r.Kubeconfig != "" {
		fmt.Fprintf(w, "Kubeconfig     %s   (`plinth kubectl` uses it)\n", r.Kubeconfig)
	}
	if r.Log != "" {
		fmt.Fprintf(w, "Log            %s\n", r.Log)
	}
	if r.Changed {
		fmt.Fprintln(w, "More hosts     plinth token create --role worker   (prints the line to run on a new host)")
	}
	writeNextCommand(w, "plinth status")
}

// WriteExistingResult writes what an install in an existing cluster planned or did. again is the command line without
// --plan.
func WriteExistingResult(w io.Writer, r install.Result, again string) {
	if r.Plan != nil {
		writePlan(w, r.Plan, again)
		return
	}
	if !r.Changed {
		fmt.Fprintln(w, "Nothing to do: everything is installed.")
	}
	fmt.Fprintln(w, "Admin console  http://localhost:8800, while the command below runs")
	if r.Password != "" {
		fmt.Fprintf(w, "Password       %s   (shown only once; for a new one: kubectl kots reset-password --namespace NAMESPACE)\n", r.Password)
	}
	if r.Log != "" {
		fmt.Fprintf(w, "Log            %s\n", r.Log)
	}
	writeNextCommand(w, r.ConsoleCommand)
}

// WriteStatus writes what is installed on this host and its state; verbose adds the errors behind
// the reasons.
func WriteStatus(w io.Writer, s status.Status, verbose bool) {
	switch {
	case s.Installed:
		bundle := s.Bundle
		if bundle != "" {
			bundle = "bundle " + bundle
		}
		fmt.Fprintf(w, "%s\n", joinNonEmpty(s.Name, s.Role, "k0s "+s.Versions["k0s"]+" ("+s.Service+")", bundle))
	case s.Running != nil:
	case s.Unfinished != nil:
		fmt.Fprintf(w, "The %s on this host is not finished.\n", s.Unfinished.Verb)
	default:
		fmt.Fprintln(w, "Nothing is installed on this host.")
	}
	if len(s.Nodes) > 0 && (s.Installed || s.Running == nil) { // below the line above
		fmt.Fprintln(w)
	}
	writeCluster(w, s.ClusterView)
	if s.Agent != "" {
		fmt.Fprintf(w, "Agent          %s\n", s.Agent)
	}
	writeAddOns(w, s)
	if len(s.Certificates) > 0 {
		first := s.Certificates[0]
		fmt.Fprintf(w, "\nCertificates: the first of %d expires %s: %s\n", len(s.Certificates), first.Expires.Format(time.DateOnly), first.Path)
	}
	writeLastBackup(w, s.Backup)
	writeLastSnapshot(w, s.Snapshot)
	for _, warning := range s.Warnings {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
	if verbose {
		writeList(w, "Errors:", s.Details)
	}
	writeUpgrade(w, s)
	switch {
	case s.Running != nil:
		var nodes []status.UpgradingNode
		if s.Upgrade != nil && s.Upgrade.Unfinished {
			nodes = s.Upgrade.Nodes
		}
		writeRunningCommand(w, *s.Running, nodes)
	case s.Unfinished != nil:
		writeUnfinishedRun(w, *s.Unfinished)
	case s.Removed:
		writeNextCommand(w, "sudo plinth reset node")
	case s.Installed && (s.Service == "inactive" || s.Service == "failed"):
		writeNextCommand(w, "sudo systemctl start "+s.Unit())
	case s.Installed && len(s.Details) > 0 && !verbose:
		writeNextCommand(w, "plinth status -v   (with the errors behind the warnings)")
	case s.Installed:
		writeNextCommand(w, "plinth console url")
	default:
		writeNextCommand(w, "plinth install --bundle FILE")
	}
}

// writeUpgrade writes what the cluster has recorded of its last upgrade, unless a run of this host tells it.
func writeUpgrade(w io.Writer, s status.Status) {
	u := s.Upgrade
	switch {
	case u == nil:
	case !u.Unfinished:
		fmt.Fprintf(w, "\nUpgrade: that of %s can be rolled back: sudo plinth upgrade --rollback; to end that: sudo plinth upgrade --commit\n", u.StartedAt.Format(time.RFC3339))
	case s.Unfinished == nil && s.Running == nil:
		where := "there"
		if len(u.Nodes) > 0 {
			where = "on any controller"
		}
		fmt.Fprintf(w, "\nUpgrade: started on node %s at %s, not finished (%s): resume it or roll it back %s\n", u.Coordinator, u.StartedAt.Format(time.RFC3339), u.Phase, where)
		writeUpgradingNodes(w, u.Nodes)
	}
}

// writeUnfinishedRun writes where a run of this host has stopped, and how to resume it.
func writeUnfinishedRun(w io.Writer, u status.Unfinished) {
	fmt.Fprintf(w, "\nUnfinished: %s, started %s, stopped at step %s", u.Verb, u.StartedAt.Format(time.RFC3339), u.Step)
	if u.Failed != "" {
		fmt.Fprintf(w, ": %s", u.Failed)
	}
	switch u.Verb {
	case repair.Verb:
		fmt.Fprint(w, "\n\nNext: sudo plinth repair address   (to finish it)\n")
	case upgrade.RollbackVerb:
		fmt.Fprint(w, "\n\nNext: sudo plinth upgrade --rollback   (to finish it)\n")
	case upgrade.Verb:
		fmt.Fprint(w, "\n\nNext: run the same `plinth upgrade` again to resume it; or roll it back: sudo plinth upgrade --rollback\n")
	default:
		fmt.Fprintf(w, "\n\nNext: run the same `plinth %s` again to resume it\n", u.Verb)
	}
}

// writeUpgradingNodes writes what an upgrade does with each node.
func writeUpgradingNodes(w io.Writer, nodes []status.UpgradingNode) {
	for _, n := range nodes {
		fmt.Fprintf(w, "  %s: %s since %s", n.Name, n.State, n.Since.Format(time.RFC3339))
		if n.Why != "" {
			fmt.Fprintf(w, ": %s", n.Why)
		}
		fmt.Fprintln(w)
	}
}

// writeRunningCommand writes which command runs now and at which step it is, and what it does with other nodes.
func writeRunningCommand(w io.Writer, r status.Running, nodes []status.UpgradingNode) {
	fmt.Fprintf(w, "Running now: %s, process %d, since %s", r.Verb, r.PID, r.StartedAt.Format(time.RFC3339))
	switch {
	case r.Step != "" && r.Steps > 0:
		fmt.Fprintf(w, ", at step %d of %d: %s", r.StepsStarted, max(r.StepsStarted, r.Steps), r.Step)
	case r.Step != "":
		fmt.Fprintf(w, ", at step %s", r.Step)
	default:
		fmt.Fprint(w, ", nothing changed yet")
	}
	fmt.Fprintln(w)
	writeUpgradingNodes(w, nodes)
	fmt.Fprintf(w, "\nNext: plinth status   (when it is done)\n")
}

// writeAddOns writes the add-ons and the address of the admin console.
func writeAddOns(w io.Writer, s status.Status) {
	if len(s.AddOns) > 0 {
		fmt.Fprintln(w)
		t := newTable(w, "ADD-ON", "READY", "VERSION")
		for _, a := range s.AddOns {
			writeRow(t, a.Name, formatReady(a.Ready, a.Reason), a.Version)
		}
		_ = t.Flush()
	}
	if c := s.Console; c != nil {
		fmt.Fprintf(w, "\nAdmin console  %s  ready: %s\n", joinNonEmpty(c.URL, c.Version), formatReady(c.Ready, c.Reason))
	}
}

// formatReady returns "yes", or "no" with the reason.
func formatReady(yes bool, reason string) string {
	switch {
	case yes:
		return "yes"
	case reason != "":
		return "no: " + reason
	}
	return "no"
}
