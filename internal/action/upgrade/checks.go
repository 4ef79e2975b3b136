package upgrade

import (
	"context"
	"slices"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/helm"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	checks "github.com/plinthdev/plinth/internal/upgrade"
)

// checkBundle refuses a bundle that cannot replace the installed one: all reasons at once.
func (o *operation) checkBundle(env *action.Env) error {
	changes, refusals := checks.CompareInstallers(o.installed, o.config.Installer)
	o.changes = nil
	for _, c := range changes {
		o.changes = append(o.changes, c.String())
	}
	steps := checks.CheckVersions(checks.VersionsOf(o.installed), checks.VersionsOf(o.config.Installer))
	refusals = append(refusals, steps.Refusals...)
	was := checks.Bundle{Digest: o.from, Release: o.receipt.Vendor.Release}
	if older := checks.CheckOrder(was, checks.Bundle{Digest: o.to, Release: o.bundle.Release()}); older != nil && !o.resumed {
		refusals = append(refusals, *older)
	}
	// An Application that was given besides that of the bundle holds, too.
	gate, notes := checks.CheckGate(o.config.Installer, slices.Concat(o.config.LintReport.Applications, o.config.Conflicting), nil)
	if o.follows != nil { // the coordinator has applied it
		gate, notes = nil, nil
	}
	if !o.opts.SkipKotsCheck {
		refusals = append(refusals, gate...)
	}
	if err := checks.RefusalError(refusals); err != nil {
		return err
	}
	for _, r := range gate {
		warning := "the KOTS version gate was skipped on request, though " + r.Reason
		o.warnings = append(o.warnings, warning)
		env.Note("warning: " + warning)
	}
	for _, n := range append(steps.Notes, notes...) {
		env.Note("note: " + n)
	}
	return nil
}

// checkAPIs refuses an upgrade while the cluster uses APIs that the new Kubernetes no longer has.
func (o *operation) checkAPIs(ctx context.Context, client *kube.Client) error {
	removed := checks.RemovedBetween(checks.AllRemovedAPIs(), o.installed.Spec.K0s.Version, o.config.Installer.Spec.K0s.Version)
	if len(removed) == 0 {
		return nil
	}
	uses, err := kube.FindAPIUses(ctx, client, removed)
	if err != nil {
		return err
	}
	released, err := helm.FindAPIUses(ctx, client, removed)
	if err != nil {
		return err
	}
	return checks.RefusalError(checks.CheckAPIs(removed, append(uses, released...)))
}

// checkDeployed refuses a KOTS that is older than the deployed applications accept. If the console's database does not
// answer, an upgrade may be what repairs it: that is only noted.
func (o *operation) checkDeployed(ctx context.Context, env *action.Env) error {
	if o.receipt.Console.Namespace == "" || o.opts.SkipKotsCheck {
		return nil
	}
	k, err := env.KOTS(o.receipt.Console.Namespace)
	if err != nil {
		return err
	}
	apps, err := k.DeployedApps(ctx)
	if err != nil {
		env.Note("warning: the minKotsVersion of the deployed applications was not checked: " + problem.ExplainConnection(err))
		return nil
	}
	var deployed []*spec.Application
	for _, app := range apps {
		parsed, _ := spec.ParseApplications("the Application of "+app.Slug, []byte(app.Manifest)) // what KOTS has accepted is not judged again
		deployed = append(deployed, parsed...)
	}
	refusals, notes := checks.CheckGate(o.config.Installer, nil, deployed)
	for _, n := range notes {
		env.Note("note: " + n)
	}
	return checks.RefusalError(refusals)
}

// checkRecord refuses an upgrade while the cluster has the record of another one.
func (o *operation) checkRecord(ctx context.Context, client *kube.Client) error {
	r, err := client.UpgradeRecord(ctx)
	if err != nil || !r.Active() || r.To == o.to {
		return err
	}
	return problem.Newf(problem.ExitLocked, "upgrade", "finish it on that node with the bundle "+r.To+", or roll it back there: sudo plinth upgrade --rollback; nothing was changed", "%s is not finished", r)
}
