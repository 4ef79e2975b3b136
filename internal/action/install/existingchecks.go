package install

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	checks "github.com/plinthdev/plinth/internal/upgrade"
)

// checkGate applies the version gate before any request to the cluster. Only if the gate refuses a first install,
// the cluster decides whether this is one.
func (e *existing) checkGate(ctx context.Context, env *action.Env) error {
	if e.config.Installer.Spec.Kotsadm == nil {
		return problem.New(problem.ExitConfig, "install in an existing cluster", errors.New("the Installer has no kotsadm, and nothing else is installed there"),
			"use a bundle with spec.kotsadm; nothing was changed")
	}
	_, _, err := e.config.CheckVersionGate(true, e.opts.SkipKotsCheck)
	if err != nil && problem.ExitCode(err) == problem.ExitGate {
		console, failed := e.kots(env, "").ConsoleState(ctx)
		if failed != nil || console.Version == "" {
			return err
		}
	}
	notice, _, err := e.config.CheckVersionGate(err == nil, e.opts.SkipKotsCheck)
	if err == nil && notice != "" {
		env.Note(notice)
	}
	return err
}

// checkCluster refuses a cluster in which the console cannot be installed: all reasons at once.
func (e *existing) checkCluster(ctx context.Context, env *action.Env) error {
	version, err := e.client.Version()
	var allowed bool
	if err == nil {
		allowed, err = e.client.CanDoEverything(ctx)
	}
	if err != nil {
		return e.accessProblem(err)
	}
	k := e.config.Installer.Spec.Kotsadm
	var reasons []string
	if why := spec.Versions().KubernetesRefusal(k.Version, version); why != "" {
		reasons = append(reasons, why+" (kubernetes-version)")
	}
	if !allowed {
		// What follows may not be readable.
		reasons = append(reasons, "the user of the kubeconfig may not do everything in all namespaces, which KOTS needs: it must be cluster-admin (cluster-access)")
		return e.clusterProblem(reasons)
	}
	switch records, err := e.client.NodeRecords(ctx); {
	case err != nil:
		return e.accessProblem(err)
	case len(records) > 0:
		return problem.New(problem.ExitUsage, "install in the cluster of context "+e.access.Context, errors.New("it was created by Plinth"),
			"run `plinth install` without --existing-cluster on its first host; nothing was changed")
	}
	console, err := e.kots(env, "").ConsoleState(ctx)
	if err != nil {
		return e.accessProblem(err)
	}
	if console.Version != "" {
		if err := e.checkConsole(ctx, env, console); err != nil {
			return err
		}
		return e.clusterProblem(reasons)
	}
	more, err := e.checkFirstInstall(ctx)
	if err != nil {
		return e.accessProblem(err)
	}
	return e.clusterProblem(append(reasons, more...))
}

// checkFirstInstall returns why the console cannot be installed in a cluster without one.
func (e *existing) checkFirstInstall(ctx context.Context) (reasons []string, err error) {
	namespace := e.config.Installer.Spec.Kotsadm.Namespace
	minio, err := e.client.Exists(ctx, kube.Object{APIVersion: "apps/v1", Kind: "Deployment", Namespace: namespace, Name: "kotsadm"})
	if err != nil {
		return nil, err
	}
	if minio {
		reasons = append(reasons, "its namespace "+namespace+" has a console with MinIO, which this command moves: "+
			"kubectl kots admin-console upgrade --with-minio=false (console-minio)")
	}
	all, defaults, err := e.client.StorageClasses(ctx)
	switch {
	case err != nil:
		return nil, err
	case len(all) == 0:
		reasons = append(reasons, "it has no StorageClass, and the console needs two volumes (default-storage-class)")
	case len(defaults) == 0:
		reasons = append(reasons, fmt.Sprintf("it has no default StorageClass: annotate one of %s with %s=true (default-storage-class)",
			strings.Join(all, ", "), kube.DefaultClassAnnotation))
	}
	return reasons, nil
}

// checkConsole refuses to replace a console by an older one, and a KOTS that a deployed application does not accept.
func (e *existing) checkConsole(ctx context.Context, env *action.Env, console kots.ConsoleState) error {
	const key = "kotsadm"
	k := e.config.Installer.Spec.Kotsadm
	replacing := "replace the console in namespace " + k.Namespace
	steps := checks.CheckVersions(checks.Versions{key: console.Version}, checks.Versions{key: k.Version})
	if len(steps.Refusals) > 0 {
		return problem.Newf(problem.ExitGate, replacing,
			"use a bundle with KOTS "+console.Version+" or later; nothing was changed",
			"it has KOTS %s, and the bundle has %s: %s", console.Version, k.Version, steps.Refusals[0].Reason)
	}
	if e.opts.SkipKotsCheck || console.Version == k.Version {
		return nil
	}
	apps, err := e.kots(env, "").DeployedApps(ctx)
	if err != nil {
		env.Note("warning: the minKotsVersion of the deployed applications was not checked: " + problem.ExplainConnection(err))
		return nil
	}
	var deployed []*spec.Application
	for _, app := range apps {
		// What KOTS has accepted is not judged again.
		parsed, _ := spec.ParseApplications("the Application of "+app.Slug, []byte(app.Manifest))
		deployed = append(deployed, parsed...)
	}
	refusals, notes := checks.CheckGate(e.config.Installer, nil, deployed)
	for _, n := range notes {
		env.Note("note: " + n)
	}
	return checks.RefusalErrorOf(replacing, refusals)
}

// accessProblem returns the problem of an API server that does not answer, or not as it should.
func (e *existing) accessProblem(err error) error {
	return problem.New(problem.ExitPreflight, "reach the Kubernetes API at "+e.access.Server, errors.New(problem.ExplainConnection(err)),
		"check the kubeconfig "+e.opts.Kubeconfig+", context "+e.access.Context+": "+e.client.Kubectl()+" version; nothing was changed")
}

// clusterProblem returns the problem of a cluster that is refused for reasons; nil without any.
func (e *existing) clusterProblem(reasons []string) error {
	if len(reasons) == 0 {
		return nil
	}
	cause := reasons[0]
	if len(reasons) > 1 {
		cause = fmt.Sprintf("there are %d reasons\n  %s", len(reasons), strings.Join(reasons, "\n  "))
	}
	return problem.New(problem.ExitPreflight, "install in the cluster of context "+e.access.Context, errors.New(cause),
		"fix the cluster, then run the same command again; nothing was changed")
}
