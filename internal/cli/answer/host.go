package answer

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/app/install"
	"github.com/plinthdev/plinth/internal/app/preflight"
	"github.com/plinthdev/plinth/internal/app/status"
)

// WriteInstallResult writes what an install found, planned or did. again is the
// command line without --plan; failed reports that the install returned an error.
func Installed(w io.Writer, r install.Result, again string, failed bool) {
	switch {
	case r.Preflights != nil && r.Preflights.Failed > 0:
		fmt.Fprint(w, r.Preflights.Text())
	case failed:
	case r.Plan != nil:
		preflights(w, r.Preflights)
		plan(w, r.Plan, again)
	case !r.Changed:
		preflights(w, r.Preflights)
		installed(w, r)
	default: // the warnings were printed before the first change
		installed(w, r)
	}
}

// WritePreflightReport writes the report on a host and the install command for it.
func Preflight(w io.Writer, r hostpreflight.Report, req preflight.Request) {
	fmt.Fprint(w, r.Text())
	if r.Failed > 0 {
		return // the error has a hint
	}
	if r.Role == hostpreflight.Worker {
		next(w, "echo TOKEN | sudo plinth join -")
		return
	}
	line := "plinth install"
	switch {
	case req.Bundle != "":
		line += " --bundle " + Quote(req.Bundle)
	case req.Source == "":
		line += " --bundle FILE"
	}
	if req.Source != "" {
		line += " --source " + Quote(req.Source)
	}
	if len(req.Ignore) > 0 {
		line += " --ignore-host-preflight " + Quote(strings.Join(req.Ignore, ","))
	}
	next(w, line)
}

// writePreflightWarnings writes the warnings and a summary of r.
func preflights(w io.Writer, r *hostpreflight.Report) {
	if r == nil {
		return
	}
	for _, warning := range r.Warnings() {
		fmt.Fprintln(w, warning)
	}
	fmt.Fprintf(w, "Host preflights: %s\n\n", r.Summary())
}

// writeInstalled writes how to reach the admin console.
func installed(w io.Writer, r install.Result) {
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
	next(w, "plinth status")
}

// WriteStatus writes what is installed on this host and its state.
func Status(w io.Writer, s status.Status) {
	switch {
	case s.Installed:
		fmt.Fprintf(w, "%s\n", words(s.Name, s.Role, "k0s "+s.Versions["k0s"]+" ("+s.Service+")", s.Bundle))
	case s.Running != nil:
	case s.Unfinished != nil:
		fmt.Fprintf(w, "The %s on this host is not finished.\n", s.Unfinished.Verb)
	default:
		fmt.Fprintln(w, "Nothing is installed on this host.")
	}
	cluster(w, s.View)
	if s.Agent != "" {
		fmt.Fprintf(w, "Agent        %s\n", s.Agent)
	}
	addOns(w, s)
	if len(s.Certificates) > 0 {
		first := s.Certificates[0]
		fmt.Fprintf(w, "\nCertificates: the first of %d expires %s: %s\n", len(s.Certificates), first.Expires.Format(time.DateOnly), first.Path)
	}
	for _, warning := range s.Warnings {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
	switch u := s.Unfinished; {
	case s.Running != nil:
		running(w, *s.Running)
	case u != nil:
		fmt.Fprintf(w, "\nUnfinished: %s, started %s, stopped at step %s", u.Verb, u.Began.Format(time.RFC3339), u.Step)
		if u.Failed != "" {
			fmt.Fprintf(w, ": %s", u.Failed)
		}
		fmt.Fprintf(w, "\n\nNext: run the same `plinth %s` again to resume it\n", u.Verb)
	case s.Installed:
		next(w, "plinth console url")
	default:
		next(w, "plinth install --bundle FILE")
	}
}

// writeRunningCommand writes which command runs now and at which step it is.
func running(w io.Writer, r status.Running) {
	fmt.Fprintf(w, "Running now: %s, process %d, since %s", r.Verb, r.PID, r.Began.Format(time.RFC3339))
	switch {
	case r.Step != "" && r.Steps > 0:
		fmt.Fprintf(w, ", at step %d of %d: %s", r.Begun, max(r.Begun, r.Steps), r.Step)
	case r.Step != "":
		fmt.Fprintf(w, ", at step %s", r.Step)
	default:
		fmt.Fprint(w, ", nothing changed yet")
	}
	fmt.Fprintf(w, "\n\nNext: plinth status   (when it is done)\n")
}

// writeAddOns writes the add-ons and the address of the admin console.
func addOns(w io.Writer, s status.Status) {
	if len(s.AddOns) > 0 {
		fmt.Fprintln(w)
		t := table(w, "ADD-ON", "READY", "VERSION")
		for _, a := range s.AddOns {
			row(t, a.Name, ready(a.Ready, a.Reason), a.Version)
		}
		_ = t.Flush()
	}
	if c := s.Console; c != nil {
		fmt.Fprintf(w, "\nAdmin console  %s  ready: %s\n", words(c.URL, c.Version), ready(c.Ready, c.Reason))
	}
}

// formatReady returns "yes", or "no" with the reason.
func ready(yes bool, reason string) string {
	switch {
	case yes:
		return "yes"
	case reason != "":
		return "no: " + reason
	}
	return "no"
}
