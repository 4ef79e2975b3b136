package plan

import (
	"context"
	"errors"
	"time"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/helm"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/wait"
)

// Console describes the KOTS console that the steps install.
type Console struct {
	Namespace        string // of the objects of the console
	Desired          kots.ConsoleSpec
	Hostname         string    // DNS name in the URL of the console; "" for the address of a node
	CertificateHosts []string  // names and addresses in its certificate
	URL              string    // of the console, as the user opens it
	App              *kots.App // application to install in the console; nil for none
	AppID            string    // identifies the license, bundle and settings of App; a different id causes a new install of App
}

// addOnSteps returns the steps of an install that run inside the cluster.
func (c Cluster) addOnSteps() []step.Step {
	var steps, announce []step.Step
	for _, a := range c.AddOns {
		release := c.installChart(stepID(a), "Install "+a.Title, releaseOf(a), a.Wait())
		switch {
		case a.External && a.Optional:
			steps = append(steps, c.tolerateFailure(release, a))
		case a.Deploy == addons.DeployKOTS:
			release.ID, release.Title = a.Release, "Put the console behind TLS"
			steps = append(steps, c.installConsole(), c.ensureConsoleCertificate(c.Console.Hostname), release, c.waitConsole(consoleTimeout))
			// A new console that knows of the registry would look for its own images there.
			steps, announce = append(steps, announce...), nil
		case a.Name == registryName:
			steps, announce = append(steps, c.trustRegistry(a), release), []step.Step{c.configureKOTSRegistry(a)}
		case a.Name == veleroName && snapshotStore(a) != nil:
			steps = append(steps, c.prepareStore(a), release, c.configureLocation(a))
		case a.Name == prometheusName && c.Console.Namespace != "":
			steps = append(steps, release, c.configureGraphs(a))
		default:
			steps = append(steps, release)
		}
	}
	steps = append(steps, announce...)
	if c.Console.App != nil {
		steps = append(steps, c.installApp())
	}
	return steps
}

// secureNamespaces returns the step that creates the namespaces of the add-ons and limits what their pods may do.
func (c Cluster) secureNamespaces() step.Step {
	var touches []string
	for _, a := range c.AddOns {
		if !a.External {
			touches = append(touches, "namespace "+a.Namespace)
		}
	}
	return step.Step{ID: "namespaces", Title: "Create the namespaces of the add-ons", Affects: touches,
		Check: func(ctx context.Context) (step.State, error) {
			client, err := c.kubeClient(ctx)
			if err != nil {
				return step.Unknown("k0s-start"), nil
			}
			for _, a := range c.ownAddOns() {
				why, err := client.NamespaceNeeded(ctx, a.Namespace, a.PodSecurity.Labels())
				if err != nil {
					return step.Needed("namespace " + a.Namespace + ": " + err.Error()), ctx.Err()
				}
				if why != "" {
					return step.Needed(why), nil
				}
			}
			return step.Done(), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error {
			client, err := c.kubeClient(ctx)
			if err != nil {
				return err
			}
			for _, a := range c.ownAddOns() {
				if err := client.EnsureNamespaceLabels(ctx, a.Namespace, a.PodSecurity.Labels()); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// installChart returns the step that installs the Helm release r and waits until its workloads are ready, each time
// as long as timeout.
func (c Cluster) installChart(id, title string, r helm.Release, timeout time.Duration) step.Step {
	return step.Step{ID: id, Title: title, Affects: []string{"release " + r.Namespace + "/" + r.Name},
		Check: func(ctx context.Context) (step.State, error) {
			client, err := c.kubeClient(ctx)
			if err != nil {
				return step.Unknown("k0s-start"), nil
			}
			want, err := r.Digest()
			if err != nil {
				return step.State{}, err
			}
			have, err := helm.GetInstalled(ctx, client, r.Namespace, r.Name)
			switch {
			case errors.Is(err, kube.ErrNotFound):
				return step.Needed("release " + r.Name + " is not installed"), nil
			case err != nil:
				return step.Needed("release " + r.Name + ": " + err.Error()), ctx.Err()
			case have.Status != "deployed":
				return step.Needed("release " + r.Name + " is " + have.Status), nil
			case have.Digest != want:
				return step.Needed("release " + r.Name + " has another chart or other values"), nil
			}
			missing, err := helm.MissingObjects(ctx, client, r)
			switch {
			case err != nil:
				return step.Needed("release " + r.Name + ": " + err.Error()), ctx.Err()
			case len(missing) > 0:
				return step.Needed(missing[0].String() + " of release " + r.Name + " is missing"), nil
			}
			return step.Done(), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			client, err := c.kubeClient(ctx)
			if err != nil {
				return err
			}
			return helm.InstallOrUpgrade(ctx, client, r, kube.Wait{Timeout: timeout, Report: report, Diagnose: c.K0s.Diagnose})
		},
	}
}

// kubeClient returns a client with the permissions of an administrator on a controller, and of the node on a
// worker. It returns an error without a request if k0s is not running, so that checks of a bare host are fast.
func (c Cluster) kubeClient(ctx context.Context) (*kube.Client, error) {
	if why, err := c.K0s.DownReason(ctx); err != nil || why != "" {
		return nil, errors.Join(err, errors.New(why))
	}
	conf, err := c.Host.ReadFile(c.K0s.KubeconfigPath())
	if err != nil {
		return nil, err
	}
	client, err := kube.New(conf)
	switch {
	case err != nil:
		return nil, err
	case c.OnlyNode:
		return client.OnlyNode(c.NodeName), nil
	case len(c.SkipNodes) > 0:
		return client.IgnoringNodes(c.SkipNodes...), nil
	}
	return client, nil
}

// waitAPIServer waits until the API server answers and returns a client for it.
func (c Cluster) waitAPIServer(ctx context.Context, report step.Report) (client *kube.Client, err error) {
	err = wait.Until(ctx, wait.Options{What: "the Kubernetes API server to answer", Timeout: 4 * time.Minute, Diagnose: c.K0s.Diagnose, NextCommand: "sudo journalctl -u " + c.K0s.Unit(),
		OnReason: func(reason string) { report(reason, 0, 0) }},
		func(ctx context.Context) (bool, string, error) {
			if client, err = c.kubeClient(ctx); err != nil {
				return false, "k0s has not written its kubeconfig yet", nil
			}
			if _, err := client.Version(); err != nil {
				return false, err.Error(), nil
			}
			return true, "", nil
		})
	return client, err
}

// registryName is the name of the add-on for which the nodes and KOTS need configuration.
const registryName = "registry"
