package config

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// CheckInstalled returns a usage problem when the Installer differs from the one that
// created the cluster in receipt r; installed is that one, nil if it cannot be read, and
// only serves to name the fields. Moving a cluster to another Installer is an upgrade,
// which has its own checks.
func (c Config) CheckInstalled(r journal.Receipt, installed *spec.Installer) error {
	in := c.Installer
	hint := "use the bundle that was installed (" + r.Bundle + "), or remove the cluster with `plinth reset cluster`; nothing on this host was changed"
	if r.Name != in.Metadata.Name {
		return problem.Newf(problem.ExitUsage, "install "+in.Metadata.Name, hint, "this host already has %s", r.Name)
	}
	if have, want := r.Versions["k0s"], in.Spec.K0s.Version; have != want {
		return problem.Newf(problem.ExitUsage, "install k0s "+want, hint, "this host runs k0s %s", have)
	}
	if k := in.Spec.Kotsadm; k != nil && r.Versions["kotsadm"] != "" && r.Versions["kotsadm"] != k.Version {
		return problem.Newf(problem.ExitUsage, "install KOTS "+k.Version, hint, "this host runs KOTS %s", r.Versions["kotsadm"])
	}
	digest, err := in.Digest()
	if err == nil && digest != r.Installer {
		err = problem.Newf(problem.ExitUsage, "install "+in.Metadata.Name, hint, "its Installer differs from the one with which this host was installed%s", describeDiff(installed, in, r.Installer))
	}
	return err
}

// describeDiff returns the fields that differ between the Installers was and is, after a colon;
// "" if was is not the one with the digest in the receipt.
func describeDiff(was, is *spec.Installer, digest string) string {
	if was == nil {
		return ""
	}
	if d, err := was.Digest(); err != nil || d != digest {
		return ""
	}
	const most = 5
	fields, err := spec.Diff(was, is)
	if err != nil || len(fields) == 0 {
		return ""
	}
	if n := len(fields) - most; n > 0 {
		fields = append(fields[:most], fmt.Sprintf("and %d more", n))
	}
	return ": " + strings.Join(fields, "; ")
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
