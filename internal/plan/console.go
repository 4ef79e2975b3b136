package plan

import (
	"bytes"
	"context"
	"time"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/registry"
	"github.com/plinthdev/plinth/internal/step"
)

// NewKOTS returns the client of the console in namespace. It works without internet access,
// because the bundle contains everything that it needs.
func NewKOTS(m kots.Machine, client *kube.Client, namespace, dataDir string) *kots.Client {
	return &kots.Client{Machine: m, Kube: client, CLI: kots.BinaryPath, Kubeconfig: k0s.AdminConf, Home: dataDir + "/kots", Namespace: namespace, Airgap: true}
}

// consoleDriver returns the client of this cluster's console.
func (c Cluster) consoleDriver(ctx context.Context) (*kots.Client, error) {
	if c.External != nil {
		return c.External, nil
	}
	client, err := c.kubeClient(ctx)
	if err != nil {
		return nil, err
	}
	return NewKOTS(c.Host, client, c.Console.Namespace, c.DataDir), nil
}

// consoleStep returns s with a Check and an Apply that call check and apply with the client of the
// console. check returns why the step is needed, or "".
func (c Cluster) consoleStep(s step.Step, check func(context.Context, *kots.Client) (string, error), apply func(context.Context, *kots.Client, step.Report) error) step.Step {
	s.Check = func(ctx context.Context) (step.State, error) {
		k, err := c.consoleDriver(ctx)
		if err != nil {
			return step.Unknown("k0s-start"), nil
		}
		why, err := check(ctx, k)
		if err != nil {
			return step.Needed(err.Error()), ctx.Err()
		}
		return stepState(why, nil)
	}
	s.Apply = func(ctx context.Context, report step.Report) error {
		k, err := c.consoleDriver(ctx)
		if err != nil {
			return err
		}
		return apply(ctx, k, report)
	}
	return s
}

// consoleProxy returns the proxy in front of the console of k.
func consoleProxy(k *kots.Client) kots.ConsoleProxy {
	return kots.ConsoleProxy{Kube: k.Kube, Namespace: k.Namespace}
}

func (c Cluster) installConsole() step.Step {
	return c.consoleStep(step.Step{ID: "console", Title: "Install the KOTS admin console", Affects: []string{"namespace " + c.Console.Namespace}},
		func(ctx context.Context, k *kots.Client) (string, error) {
			s, err := k.ConsoleState(ctx)
			if want := c.Console.Desired.Version; err == nil && s.Version != "" && s.Version != want {
				return "the console has version " + s.Version + ", and " + want + " is requested", nil
			}
			if err != nil || s.Reason != "" {
				return s.Reason, err
			}
			return k.TrustNeeded(ctx, c.Console.Desired.TrustedCAs)
		},
		func(ctx context.Context, k *kots.Client, report step.Report) error {
			return k.InstallConsole(ctx, c.Console.Desired, kube.Wait{Timeout: 5 * time.Minute, Report: report})
		})
}

// enableConsoleHA returns the step that replicates the console's data, so that it survives the loss of a controller.
func (c Cluster) enableConsoleHA() step.Step {
	return c.consoleStep(step.Step{ID: "kotsadm-ha", Title: "Copy the console's data to three nodes", Affects: []string{"namespace " + c.Console.Namespace}},
		func(ctx context.Context, k *kots.Client) (string, error) { return k.HANeeded(ctx) },
		func(ctx context.Context, k *kots.Client, report step.Report) error {
			return k.EnableHA(ctx, kube.Wait{Timeout: 5 * time.Minute, Report: report})
		})
}

// ensureConsoleCertificate returns the step that creates the certificate of the console, unless it has one that is for
// host, the name in its URL. host is "" for the address of any node.
func (c Cluster) ensureConsoleCertificate(host string) step.Step {
	return c.consoleStep(step.Step{ID: "console-certificate", Title: "Give the console a certificate", Affects: []string{"namespace " + c.Console.Namespace}},
		func(ctx context.Context, k *kots.Client) (string, error) {
			return consoleProxy(k).CertificateNeeded(ctx, host, c.Now())
		},
		func(ctx context.Context, k *kots.Client, _ step.Report) error {
			return consoleProxy(k).EnsureCertificate(ctx, c.Console.CertificateHosts, c.Now())
		})
}

// consoleTimeout is how long the console may take to answer once its pods run.
const consoleTimeout = 2 * time.Minute

// waitConsole returns the step that waits until the console answers with its certificate.
func (c Cluster) waitConsole(timeout time.Duration) step.Step {
	ask := func(ctx context.Context, k *kots.Client) ([]byte, error) {
		cert, _, err := consoleProxy(k).Certificate(ctx)
		return cert, err
	}
	return c.consoleStep(step.Step{ID: "console-answers", Title: "Wait for the console to answer"},
		func(ctx context.Context, k *kots.Client) (string, error) {
			cert, err := ask(ctx, k)
			if err != nil {
				return "", err
			}
			h, err := kots.GetConsoleHealth(ctx, c.Console.URL, cert)
			switch {
			case err != nil:
				return err.Error(), nil
			case h.Version != c.Console.Desired.Version:
				return "the console has version " + h.Version, nil
			}
			return "", nil
		},
		func(ctx context.Context, k *kots.Client, report step.Report) error {
			cert, err := ask(ctx, k)
			if err != nil {
				return err
			}
			return kots.WaitConsoleHealthy(ctx, c.Console.URL, cert, c.Console.Desired.Version, kube.Wait{Timeout: timeout, Report: report, Diagnose: func(ctx context.Context) string { return k.Kube.Diagnose(ctx, c.Console.Namespace, "") }})
		})
}

// clusterRegistry returns the registry of the add-on a, at the fixed address of its service.
func clusterRegistry(k *kots.Client, a addons.AddOn) registry.Registry {
	r := registryWithoutClient(a)
	r.Kube = k.Kube
	return r
}

// registryWithoutClient returns the registry of the add-on a without a client of the cluster.
func registryWithoutClient(a addons.AddOn) registry.Registry {
	ip, _ := a.Values["clusterIP"].(string)
	return registry.Registry{Namespace: a.Namespace, IP: ip, Domain: a.ClusterDomain, HostsDir: k0s.RegistryDir}
}

// RegistryAddress returns the host and port of the registry in add-ons, by which images are named; "" without one.
func RegistryAddress(parts []addons.AddOn) string {
	a, ok := Cluster{AddOns: parts}.findAddOn(registryName)
	if !ok {
		return ""
	}
	return registryWithoutClient(a).Address()
}

// trustRegistry returns the step that creates the registry's certificate and users, and configures
// containerd on this node to trust the registry.
func (c Cluster) trustRegistry(a addons.AddOn) step.Step {
	return c.consoleStep(step.Step{ID: "registry-trust", Title: "Have this node trust the registry", Affects: []string{registryWithoutClient(a).TrustDir(), "namespace " + a.Namespace}},
		func(ctx context.Context, k *kots.Client) (string, error) {
			if why, err := clusterRegistry(k, a).Serving().NeedsRenewal(ctx, c.Now()); err != nil || why != "" {
				return why, err
			}
			files, err := clusterRegistry(k, a).TrustFiles(ctx)
			if err != nil {
				return "", err
			}
			for path, want := range files {
				if have, err := c.Host.ReadFile(path); err != nil || string(have) != string(want) {
					return path + " is missing or differs", nil
				}
			}
			return "", nil
		},
		func(ctx context.Context, k *kots.Client, _ step.Report) error {
			r := clusterRegistry(k, a)
			if c.Restored != nil {
				r.Password = c.Restored.RegistryPassword
			}
			if err := r.Prepare(ctx, c.Now()); err != nil {
				return err
			}
			files, err := r.TrustFiles(ctx)
			if err != nil {
				return err
			}
			for path, content := range files {
				if err := c.Host.Write(path, bytes.NewReader(content), 0o644); err != nil {
					return err
				}
			}
			return nil
		})
}

func (c Cluster) configureKOTSRegistry(a addons.AddOn) step.Step {
	return c.consoleStep(step.Step{ID: "registry-announce", Title: "Tell KOTS of the registry", Affects: []string{"secret default/registry-creds"}},
		func(ctx context.Context, k *kots.Client) (string, error) {
			told, err := clusterRegistry(k, a).KOTSConfigured(ctx)
			if told || err != nil {
				return "", err
			}
			return "KOTS is not configured to use the registry", nil
		},
		func(ctx context.Context, k *kots.Client, _ step.Report) error {
			return clusterRegistry(k, a).ConfigureKOTS(ctx)
		})
}

// ApplicationID is the id of the step that installs the application in the console, which runs by then.
const ApplicationID = "application"

// installApp returns the step that installs the application. A ConfigMap records the installed
// application, because listing the applications of the console would run the kots CLI, which a
// Check must not do.
func (c Cluster) installApp() step.Step {
	installed := mark{kots.InstalledAppRef("").Name, "installed"}
	return c.consoleStep(step.Step{ID: ApplicationID, Title: "Install the application", Affects: []string{"namespace " + c.Console.Namespace}},
		func(ctx context.Context, k *kots.Client) (string, error) {
			if id, ok, err := installed.read(ctx, k.Kube, k.Namespace); err != nil || ok && id == c.Console.AppID {
				return "", err
			}
			return "this application, with this license and configuration, is not installed", nil
		},
		func(ctx context.Context, k *kots.Client, report step.Report) error {
			if err := k.InstallApp(ctx, *c.Console.App, kube.Wait{Timeout: 10 * time.Minute, Report: report}); err != nil {
				return err
			}
			return installed.write(ctx, k.Kube, k.Namespace, c.Console.AppID)
		})
}
