package plan

import (
	"bytes"
	"context"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kots/front"
	"github.com/plinthdev/plinth/internal/kots/registry"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/step"
)

// KOTS is the driver of a console in namespace. Its calls never look for the
// internet: what they need came with the bundle.
func KOTS(m kots.Machine, client *kube.Client, namespace, dataDir string) *kots.KOTS {
	return &kots.KOTS{Machine: m, Kube: client, CLI: kots.Binary, Kubeconfig: k0s.AdminConf, Home: dataDir + "/kots", Namespace: namespace, Airgap: true}
}

// console is the driver of this cluster's console.
func (c Cluster) console(ctx context.Context) (*kots.KOTS, error) {
	client, err := c.kube(ctx)
	if err != nil {
		return nil, err
	}
	return KOTS(c.Host, client, c.Console.Namespace, c.DataDir), nil
}

// inConsole is a step whose Check and Apply need the console's driver.
func (c Cluster) inConsole(s step.Step, check func(context.Context, *kots.KOTS) (string, error), apply func(context.Context, *kots.KOTS, step.Report) error) step.Step {
	s.Check = func(ctx context.Context) (step.State, error) {
		k, err := c.console(ctx)
		if err != nil {
			return step.Unknown("k0s-start"), nil
		}
		why, err := check(ctx, k)
		if err != nil {
			return step.Needed(err.Error()), ctx.Err()
		}
		return look(why, nil)
	}
	s.Apply = func(ctx context.Context, report step.Report) error {
		k, err := c.console(ctx)
		if err != nil {
			return err
		}
		return apply(ctx, k, report)
	}
	return s
}

// door is the proxy before the console that k drives.
func door(k *kots.KOTS) front.Front { return front.Front{Kube: k.Kube, Namespace: k.Namespace} }

func (c Cluster) installConsole() step.Step {
	return c.inConsole(step.Step{ID: "console", Title: "Install the KOTS admin console", Touches: []string{"namespace " + c.Console.Namespace}},
		func(ctx context.Context, k *kots.KOTS) (string, error) {
			s, err := k.State(ctx)
			return s.Reason, err
		},
		func(ctx context.Context, k *kots.KOTS, report step.Report) error {
			return k.InstallConsole(ctx, c.Console.Want, kube.Wait{Timeout: 5 * time.Minute, Report: report})
		})
}

// consoleCopies has the console's data outlive one controller.
func (c Cluster) consoleCopies() step.Step {
	return c.inConsole(step.Step{ID: "console-copies", Title: "Copy the console's data to three nodes", Touches: []string{"namespace " + c.Console.Namespace}},
		func(ctx context.Context, k *kots.KOTS) (string, error) { return k.CopiesNeeded(ctx) },
		func(ctx context.Context, k *kots.KOTS, report step.Report) error {
			return k.Copy(ctx, kube.Wait{Timeout: 5 * time.Minute, Report: report})
		})
}

func (c Cluster) consoleCertificate() step.Step {
	return c.inConsole(step.Step{ID: "console-certificate", Title: "Give the console a certificate", Touches: []string{"namespace " + c.Console.Namespace}},
		func(ctx context.Context, k *kots.KOTS) (string, error) {
			_, _, err := door(k).Certificate(ctx)
			if errors.Is(err, kube.ErrNotFound) {
				return "it has none", nil
			}
			return "", err
		},
		func(ctx context.Context, k *kots.KOTS, _ step.Report) error {
			return door(k).EnsureCertificate(ctx, c.Console.Hosts, c.Now())
		})
}

func (c Cluster) consoleAnswers() step.Step {
	ask := func(ctx context.Context, k *kots.KOTS) ([]byte, error) {
		cert, _, err := door(k).Certificate(ctx)
		return cert, err
	}
	return c.inConsole(step.Step{ID: "console-answers", Title: "Wait for the console to answer"},
		func(ctx context.Context, k *kots.KOTS) (string, error) {
			cert, err := ask(ctx, k)
			if err != nil {
				return "", err
			}
			h, err := front.Ask(ctx, c.Console.URL, cert)
			switch {
			case err != nil:
				return err.Error(), nil
			case h.Version != c.Console.Want.Version:
				return "it says it is version " + h.Version, nil
			}
			return "", nil
		},
		func(ctx context.Context, k *kots.KOTS, report step.Report) error {
			cert, err := ask(ctx, k)
			if err != nil {
				return err
			}
			return front.WaitAnswer(ctx, c.Console.URL, cert, c.Console.Want.Version, kube.Wait{Timeout: 2 * time.Minute, Report: report, Culprit: func(ctx context.Context) string { return k.Kube.Culprit(ctx, c.Console.Namespace, "") }})
		})
}

// registryOf is the cluster's registry, at the fixed address of its service.
func registryOf(k *kots.KOTS, a addons.AddOn) registry.Registry {
	r := registryAt(a)
	r.Kube = k.Kube
	return r
}

// registryAt is the same without the cluster.
func registryAt(a addons.AddOn) registry.Registry {
	ip, _ := a.Values["clusterIP"].(string)
	return registry.Registry{Namespace: a.Namespace, IP: ip, HostsDir: k0s.RegistryDir}
}

// registryTrust makes the registry's certificate and users, and has this
// node's containerd trust it.
func (c Cluster) registryTrust(a addons.AddOn) step.Step {
	return c.inConsole(step.Step{ID: "registry-trust", Title: "Have this node trust the registry", Touches: []string{registryAt(a).Dir(), "namespace " + a.Namespace}},
		func(ctx context.Context, k *kots.KOTS) (string, error) {
			if why, err := registryOf(k, a).Due(ctx, c.Now()); err != nil || why != "" {
				return why, err
			}
			files, err := registryOf(k, a).Trust(ctx)
			if err != nil {
				return "", err
			}
			for path, want := range files {
				if have, err := c.Host.ReadFile(path); err != nil || string(have) != string(want) {
					return path + " is not as wanted", nil
				}
			}
			return "", nil
		},
		func(ctx context.Context, k *kots.KOTS, _ step.Report) error {
			r := registryOf(k, a)
			if err := r.Prepare(ctx, c.Now()); err != nil {
				return err
			}
			files, err := r.Trust(ctx)
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

func (c Cluster) announceRegistry(a addons.AddOn) step.Step {
	return c.inConsole(step.Step{ID: "registry-announce", Title: "Tell KOTS of the registry", Touches: []string{"secret default/registry-creds"}},
		func(ctx context.Context, k *kots.KOTS) (string, error) {
			told, err := registryOf(k, a).Announced(ctx)
			if told || err != nil {
				return "", err
			}
			return "KOTS does not know the registry", nil
		},
		func(ctx context.Context, k *kots.KOTS, _ step.Report) error { return registryOf(k, a).Announce(ctx) })
}

// installApp installs the application. That it was installed is noted in the
// cluster: the console's own list needs a run of the CLI, which a look may not
// do.
func (c Cluster) installApp() step.Step {
	note := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": "plinth-application"}, "data": map[string]any{"installed": c.Console.AppID}}}
	return c.inConsole(step.Step{ID: "application", Title: "Install the application", Touches: []string{"namespace " + c.Console.Namespace}},
		func(ctx context.Context, k *kots.KOTS) (string, error) {
			have, err := k.Kube.Get(ctx, kube.Ref(note, k.Namespace))
			if err != nil && !errors.Is(err, kube.ErrNotFound) {
				return "", err
			}
			if have != nil {
				if id, _, _ := unstructured.NestedString(have.Object, "data", "installed"); id == c.Console.AppID {
					return "", nil
				}
			}
			return "this application bundle and license are not installed", nil
		},
		func(ctx context.Context, k *kots.KOTS, report step.Report) error {
			if err := k.InstallApp(ctx, *c.Console.App, kube.Wait{Timeout: 10 * time.Minute, Report: report}); err != nil {
				return err
			}
			return k.Kube.Apply(ctx, k.Namespace, note)
		})
}
