package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/source"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

// ExistingOptions are the options of an install in a cluster that Plinth did not create.
type ExistingOptions struct {
	config.LoadOptions                // what to install
	Source             source.Request // source of the bundle and key that verifies it; its Bundle is not used
	Kubeconfig         string         // file; its current context selects the cluster
	Registry           RegistryFlags
	Plan               bool // only return the plan
}

// existing is one install in a cluster that Plinth did not create.
type existing struct {
	opts     ExistingOptions
	config   config.Config
	opened   source.Bundle  // the bundle as the vendor delivered it
	bundle   *airgap.Bundle // the same; complete once apply has fetched what it lacks
	access   kube.Kubeconfig
	client   *kube.Client
	registry remoteRegistry
	password string // first password of the console, from the run that set it
}

// RunExisting installs the console and the application of a bundle in a cluster that Plinth did not create. It needs no
// root, and changes nothing on this host but a folder for temporary files, which it removes. Nothing in the cluster and in
// the registry changes until the bundle, the configuration and both of them have been verified.
func RunExisting(ctx context.Context, env *action.Env, opts ExistingOptions) (res Result, err error) {
	e := existing{opts: opts}
	if e.access, err = kube.ReadKubeconfig(opts.Kubeconfig, os.Getenv("HOME")); err != nil {
		return res, e.kubeconfigProblem(err)
	}
	if e.registry, err = openRegistry(env, opts.Registry); err != nil {
		return res, err
	}
	opts.Source.IgnoreReceipt = true
	e.opts.OwnRegistry = true
	if e.opened, e.config, err = source.Load(ctx, env, opts.Source, &e.opts.LoadOptions); err != nil {
		return res, err
	}
	defer func() { _ = e.opened.Close() }()
	e.bundle = e.opened.Bundle
	if e.client, err = kube.New(e.access.Content); err != nil {
		return res, e.kubeconfigProblem(err)
	}
	e.client = e.client.WithKubectl("kubectl --kubeconfig " + problem.QuoteWord(opts.Kubeconfig))
	err = env.WithRequestedLog("install", func(env *action.Env) error {
		res.Log = env.LogFile
		return e.run(ctx, env, &res)
	})
	return res, err
}

// kubeconfigProblem returns the problem of a kubeconfig that cannot be used.
func (e *existing) kubeconfigProblem(err error) error {
	return problem.New(problem.ExitUsage, "use the kubeconfig "+e.opts.Kubeconfig, err,
		"name the kubeconfig of the cluster with --kubeconfig; nothing was changed")
}

// run checks everything, and installs what is missing.
func (e *existing) run(ctx context.Context, env *action.Env, res *Result) error {
	if err := e.checkGate(ctx, env); err != nil {
		return err
	}
	if err := e.checkCluster(ctx, env); err != nil {
		return err
	}
	if e.registry.images = consoleImages(e.bundle, e.opts.Registry.Address); len(e.registry.images) == 0 {
		return problem.New(problem.ExitBundle, "use this bundle", errors.New("it does not contain the images of the console"),
			"build the bundle again from an Installer with kotsadm")
	}
	if err := e.registry.check(ctx); err != nil {
		return err
	}
	runner := env.StepRunner("install", nil)
	runner.ResumeHint = "run the same command again: it resumes where it stopped"
	planned, err := runner.Plan(ctx, e.steps(env, ""))
	if err != nil {
		return err
	}
	res.Kubeconfig, res.ConsoleCommand = e.opts.Kubeconfig, e.kots(env, "").PortForward()
	if e.opts.Plan {
		res.Plan = planned
		return nil
	}
	count := plan.CountNeeded(planned)
	if count == 0 {
		return nil
	}
	question := fmt.Sprintf("Install %s in the cluster of context %s, %s (%d of %d steps to do)?",
		e.config.Installer.Metadata.Name, e.access.Context, e.access.Server, count, len(planned))
	if err := env.Confirm(ctx, question); err != nil {
		return err
	}
	return e.apply(ctx, env, runner, res)
}

// apply fetches and verifies the bundle, and applies the steps. The kots CLI runs in a folder that is removed.
func (e *existing) apply(ctx context.Context, env *action.Env, runner step.Runner, res *Result) (err error) {
	dir, err := host.NewTempDir()
	if err != nil {
		return problem.New(problem.ExitUsage, "create a folder for temporary files", problem.PathCause(err),
			"name another folder for them with the variable TMPDIR; nothing was changed")
	}
	defer func() { err = errors.Join(err, env.Host.RemoveAll(dir)) }()
	in := *env
	in.Downloads = dir + "/bundle"
	if e.bundle, err = e.opened.FetchVerified(ctx, &in, "install", e.missingBlobs); err != nil {
		return err
	}
	cli, err := desired.KotsArtifact(ctx, e.bundle, dir+"/kubectl-kots")
	if err != nil {
		return err
	}
	err = errors.Join(cli.Apply(env.Host), env.Host.Write(dir+"/kubeconfig", bytes.NewReader(e.access.Content), 0o600))
	if err != nil {
		return problem.New(problem.ExitUsage, "write the kots CLI to "+dir, err,
			"name a folder with more space with the variable TMPDIR; nothing in the cluster was changed")
	}
	e.registry.source = airgap.Unverified{Bundle: e.bundle} // which was just verified
	res.Changed = true
	_, err = runner.Run(ctx, e.steps(env, dir))
	res.Password = e.password
	return err
}

// steps returns the steps of the install. dir has the kots CLI and the kubeconfig; "" before they are there, for a plan.
func (e *existing) steps(env *action.Env, dir string) []step.Step {
	console := desired.ConsoleInCluster(e.config, e.opts.SkipKotsCheck)
	c := plan.Cluster{Host: env.Host, Now: env.Now, Console: console, External: e.kots(env, dir)}
	return plan.InstallInExisting(c, e.registry, func(password string) {
		env.Secrets.Hide(password)
		e.password = password
	})
}

// kots returns the client of the console; dir is that of steps.
func (e *existing) kots(env *action.Env, dir string) *kots.Client {
	return &kots.Client{Machine: env.Host, Kube: e.client, CLI: dir + "/kubectl-kots", Kubeconfig: dir + "/kubeconfig", Home: dir + "/kots",
		Namespace: e.config.Installer.Spec.Kotsadm.Namespace, Airgap: true, AnyNode: true, Proxy: proxyOfEnvironment(), Registry: &e.registry.login,
		Environ: credentialVariables(os.Environ())}
}

// credentialVariables returns the variables of the user that a program in the kubeconfig may need, such as the CLI of a
// cloud: all but those that change what the kots CLI or the loader of programs does.
func credentialVariables(environ []string) []string {
	return slices.DeleteFunc(environ, func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return name == "PATH" || name == "KUBECONFIG" || strings.HasPrefix(name, "KOTS") || strings.HasPrefix(name, "LD_") || strings.HasPrefix(name, "LC_")
	})
}

// proxyOfEnvironment returns the proxy in the environment of the user, whose own connections need it.
func proxyOfEnvironment() kots.Proxy {
	get := func(name string) string {
		if value := os.Getenv(name); value != "" {
			return value
		}
		return os.Getenv(strings.ToLower(name))
	}
	return kots.Proxy{HTTP: get("HTTP_PROXY"), HTTPS: get("HTTPS_PROXY"), No: get("NO_PROXY")}
}

// missingBlobs returns what a thin bundle omits of the kots CLI and the images of the console.
func (e *existing) missingBlobs(_ context.Context, b *airgap.Bundle) (missing []ocispec.Descriptor, err error) {
	need := map[string]bool{}
	for _, f := range b.HostFiles() {
		need[f.Packed.Digest.String()] = desired.HostFilePaths()[f.Name] == kots.BinaryPath
	}
	for _, img := range e.registry.images {
		need[img.Manifest.Digest.String()] = true
		for _, blob := range img.Blobs {
			need[blob.Digest.String()] = true
		}
	}
	for _, d := range b.Missing() {
		if need[d.Digest.String()] {
			missing = append(missing, d)
		}
	}
	return missing, nil
}
