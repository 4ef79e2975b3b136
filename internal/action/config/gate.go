package config

import (
	"cmp"

	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// CheckInstalled returns a usage problem when the cluster in receipt r is that of another
// product. Another bundle of the same product is an upgrade.
func (c Config) CheckInstalled(r journal.Receipt) error {
	if r.Name == c.Installer.Metadata.Name {
		return nil
	}
	return problem.Newf(problem.ExitUsage, "install "+c.Installer.Metadata.Name,
		"use a bundle of "+r.Name+", or remove the cluster with `plinth reset cluster`; nothing on this host was changed", "this host already has %s", r.Name)
}

// CheckVersionGate reports whether this version of KOTS is allowed to run this
// application, and an Application that was named explicitly and contradicts it. It is
// called before anything on the host changes. notice is for the user; warning names what
// was skipped on request, for the receipt.
func (c Config) CheckVersionGate(first, skip bool) (notice, warning string, err error) {
	notice, warning, err = c.checkVersionGate(c.LintReport.Applications, "install", first, skip)
	if err != nil || len(c.Conflicting) == 0 {
		return notice, warning, err
	}
	other := c.Conflicting[0]
	_, skipped, err := c.checkVersionGate(c.Conflicting, "install with the Application in "+other.File, first, skip)
	if err == nil {
		err = problem.Newf(problem.ExitUsage, "install", "omit --application, or build a bundle with that Application; nothing on this host was changed",
			"the Application in %s is not the one in %s, which would be installed", other.File, c.Application.Name)
	}
	return notice, cmp.Or(warning, skipped), err
}

// checkVersionGate is CheckVersionGate for the Applications of one file; doing names the
// operation.
func (c Config) checkVersionGate(apps []*spec.Application, doing string, first, skip bool) (notice, warning string, err error) {
	verdict, title := spec.CheckGate(c.Installer, apps, first)
	words := verdict.Explain(title)
	switch {
	case c.Installer.Spec.Kotsadm == nil, verdict.Allowed() && verdict.Note == "":
		return "", "", nil
	case verdict.Allowed():
		return "note: " + words.Cause, "", nil
	case skip:
		warning = "the KOTS version gate was skipped on request, though " + words.Cause
		return "warning: " + warning, warning, nil
	}
	return "", "", spec.GateError(doing, verdict, title)
}
