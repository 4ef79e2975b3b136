package plan

import (
	"context"

	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/step"
)

// ImageUploader puts the images of the console into a registry outside of the cluster.
type ImageUploader interface {
	// Missing returns the references of those that the registry does not have.
	Missing(ctx context.Context) ([]string, error)
	Upload(ctx context.Context, progress func(done, total int64)) error
}

// FirstPassword receives the first password of a console.
type FirstPassword func(password string)

// InstallInExisting returns the steps that install the console of c, and its application, in a cluster that Plinth did
// not create, by c.External. They change nothing on this host.
func InstallInExisting(c Cluster, up ImageUploader, show FirstPassword) []step.Step {
	steps := []step.Step{c.uploadImages(up), c.markFirstPassword(), c.installConsole()}
	if c.Console.App != nil {
		steps = append(steps, c.installApp())
	}
	return append(steps, c.showFirstPassword(show))
}

func (c Cluster) uploadImages(up ImageUploader) step.Step {
	return step.Step{ID: "push-images", Title: "Push the images of the console", Affects: []string{"registry " + c.External.Registry.Address},
		Check: func(ctx context.Context) (step.State, error) {
			missing, err := up.Missing(ctx)
			switch {
			case err != nil:
				return step.Needed(err.Error()), ctx.Err()
			case len(missing) == 0:
				return step.Done(), nil
			}
			return step.Needed(missing[0] + " is not in the registry" + moreSuffix(len(missing)-1)), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			return up.Upload(ctx, func(done, total int64) { report("", done, total) })
		},
	}
}

// passwordPending and passwordShown are the states of the first password of a console in its ConfigMap.
const (
	passwordPending = "pending"
	passwordShown   = "shown"
)

// passwordMark returns the mark of whether the first password of a console was shown. A run that fails after it has installed the
// console thereby leaves it to the next run.
func passwordMark() mark { return mark{"plinth-console-password", "state"} }

// passwordState returns the state in the mark, "" without one, and reports whether the console is installed.
func passwordState(ctx context.Context, k *kots.Client) (state string, installed bool, err error) {
	if state, _, err = passwordMark().read(ctx, k.Kube, k.Namespace); err != nil {
		return "", false, err
	}
	console, err := k.ConsoleState(ctx)
	return state, console.Version != "", err
}

// markFirstPassword returns the step that records, before the console is created, that its first password is to be
// shown. A console that exists without the mark has a password of its own.
func (c Cluster) markFirstPassword() step.Step {
	return c.consoleStep(step.Step{ID: "namespace", Title: "Prepare the namespace of the console", Affects: []string{"namespace " + c.Console.Namespace}},
		func(ctx context.Context, k *kots.Client) (string, error) {
			state, installed, err := passwordState(ctx, k)
			if err != nil || installed || state == passwordPending {
				return "", err
			}
			return "the console is not installed", nil
		},
		func(ctx context.Context, k *kots.Client, _ step.Report) error {
			if err := k.Kube.EnsureNamespace(ctx, k.Namespace); err != nil {
				return err
			}
			return passwordMark().write(ctx, k.Kube, k.Namespace, passwordPending)
		})
}

func (c Cluster) showFirstPassword(show FirstPassword) step.Step {
	affects := []string{"secret " + c.Console.Namespace + "/kotsadm-password"}
	return c.consoleStep(step.Step{ID: "console-password", Title: "Set the first password of the console", Affects: affects},
		func(ctx context.Context, k *kots.Client) (string, error) {
			state, installed, err := passwordState(ctx, k)
			if err != nil || installed && state != passwordPending {
				return "", err
			}
			return "the first password of the console has not been shown", nil
		},
		func(ctx context.Context, k *kots.Client, _ step.Report) error {
			password, err := k.ResetPassword(ctx)
			if err != nil {
				return err
			}
			if err := passwordMark().write(ctx, k.Kube, k.Namespace, passwordShown); err != nil {
				return err
			}
			show(password)
			return nil
		})
}
