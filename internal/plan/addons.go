package plan

import (
	"context"
	"errors"
	"time"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/chart"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/wait"
)

// Console is the KOTS console that the steps bring up.
type Console struct {
	Namespace string // of its objects
	Want      kots.Console
	Hosts     []string  // names and addresses that its certificate must name
	URL       string    // where it answers
	App       *kots.App // the application to install through it; nil for none
	AppID     string    // names license, bundle and settings of App: another one is another install
}

// addOns is the part of an install that happens inside the cluster.
func (c Cluster) addOns() []step.Step {
	var steps []step.Step
	for _, a := range c.AddOns {
		release := c.chartStep(a.Name, "Install "+a.Title, chart.Release{Name: a.Release, Namespace: a.Namespace, Archive: a.Chart.Archive, Values: a.Values})
		switch {
		case a.Deploy == addons.DeployKOTS:
			release.ID, release.Title = a.Release, "Put the console behind TLS"
			steps = append(steps, c.installConsole(), c.consoleCertificate(), release, c.consoleAnswers())
		case a.Name == registryName:
			steps = append(steps, c.registryTrust(a), release, c.announceRegistry(a))
		default:
			steps = append(steps, release)
		}
	}
	if c.Console.App != nil {
		steps = append(steps, c.installApp())
	}
	return steps
}

// chartStep installs one Helm release and waits until it is up.
func (c Cluster) chartStep(id, title string, r chart.Release) step.Step {
	return step.Step{ID: id, Title: title, Touches: []string{"release " + r.Namespace + "/" + r.Name},
		Check: func(ctx context.Context) (step.State, error) {
			client, err := c.kube(ctx)
			if err != nil {
				return step.Unknown("k0s-start"), nil
			}
			want, err := r.Digest()
			if err != nil {
				return step.State{}, err
			}
			have, err := chart.Look(ctx, client, r.Namespace, r.Name)
			switch {
			case errors.Is(err, kube.ErrNotFound):
				return step.Needed("release " + r.Name + " is not installed"), nil
			case err != nil:
				return step.Needed("release " + r.Name + ": " + err.Error()), ctx.Err()
			case have.Status != "deployed":
				return step.Needed("release " + r.Name + " is " + have.Status), nil
			case have.Digest != want:
				return step.Needed("release " + r.Name + " differs from what is wanted"), nil
			}
			return step.Done(), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			client, err := c.kube(ctx)
			if err != nil {
				return err
			}
			return chart.Converge(ctx, client, r, kube.Wait{Timeout: 4 * time.Minute, Report: report, Culprit: c.K0s.Culprit})
		},
	}
}

// kube is a client of the cluster's administrator, on a worker of its node; an error when k0s is not
// up, so that checks of a bare host cost nothing.
func (c Cluster) kube(ctx context.Context) (*kube.Client, error) {
	if why, err := c.K0s.StartNeeded(ctx); err != nil || why != "" {
		return nil, errors.Join(err, errors.New(why))
	}
	conf, err := c.Host.ReadFile(c.K0s.Kubeconfig())
	if err != nil {
		return nil, err
	}
	return kube.New(conf)
}

// waitKube waits until the API server answers.
func (c Cluster) waitKube(ctx context.Context, report step.Report) (client *kube.Client, err error) {
	err = wait.Until(ctx, wait.Options{What: "the Kubernetes API server to answer", Timeout: 4 * time.Minute, Culprit: c.K0s.Culprit, Next: "sudo journalctl -u " + c.K0s.Unit(),
		OnReason: func(reason string) { report(reason, 0, 0) }},
		func(ctx context.Context) (bool, string, error) {
			if client, err = c.kube(ctx); err != nil {
				return false, "k0s has not written its kubeconfig yet", nil
			}
			if _, err := client.Version(); err != nil {
				return false, err.Error(), nil
			}
			return true, "", nil
		})
	return client, err
}

// registryName is the add-on that nodes and KOTS have to be told of.
const registryName = "registry"
