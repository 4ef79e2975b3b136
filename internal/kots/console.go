package kots

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/kots/copies"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/wait"
)

// Console is what is wanted of the admin console.
type Console struct {
	Slug        string // of the application that it will install
	Version     string // of KOTS, without a v; that of the CLI too
	Application []byte // Application manifest, for title and logo before a license is there; may be nil
}

// State is what the cluster has of the console.
type State struct {
	Version string // without a v; empty when there is no console
	Ready   bool   // datastore and console are up
	Reason  string // why not
}

// parts are the console's objects that have to be up, in the order in which
// the CLI makes them; the last one is the last thing that it makes.
func (k *KOTS) parts() (rqlite, console, service kube.Object) {
	set := func(name string) kube.Object {
		return kube.Object{APIVersion: "apps/v1", Kind: "StatefulSet", Namespace: k.Namespace, Name: name}
	}
	return set(copies.Datastore), set("kotsadm"), kube.Object{APIVersion: "v1", Kind: "Service", Namespace: k.Namespace, Name: "kotsadm"}
}

// State looks at the console's objects.
func (k *KOTS) State(ctx context.Context) (State, error) {
	rqlite, set, service := k.parts()
	console, err := k.Kube.Get(ctx, set)
	if errors.Is(err, kube.ErrNotFound) {
		return State{Reason: "the console is not installed"}, nil
	}
	if err != nil {
		return State{}, err
	}
	s := State{Version: imageVersion(console), Ready: true}
	for _, o := range []kube.Object{rqlite, set, service} {
		reason, err := k.Kube.WorkloadReason(ctx, o)
		if err != nil {
			return s, err
		}
		if reason != "" {
			s.Ready, s.Reason = false, o.String()+": "+reason
			break
		}
	}
	return s, nil
}

// Exists reports whether a cluster has a console in that namespace, up or not.
func Exists(ctx context.Context, c *kube.Client, namespace string) (bool, error) {
	_, console, _ := (&KOTS{Namespace: namespace}).parts()
	return c.Exists(ctx, console)
}

// imageVersion is the tag of the console's own image, without its v.
func imageVersion(console *unstructured.Unstructured) string {
	containers, _, _ := unstructured.NestedSlice(console.Object, "spec", "template", "spec", "containers")
	for _, c := range containers {
		m, _ := c.(map[string]any)
		if m["name"] != "kotsadm" {
			continue
		}
		image, _ := m["image"].(string)
		if i := strings.LastIndex(image, ":"); i > strings.LastIndex(image, "/") {
			return strings.TrimPrefix(image[i+1:], "v")
		}
	}
	return ""
}

// InstallConsole makes the cluster have the console, and waits until it is up.
// One that is there and up is left alone; one that a killed run left half-way
// is finished. It must run before the registry is announced (registry.Announce):
// with the registry there, KOTS would take its own images from it.
//
// The console gets a password that nobody knows; ResetPassword makes the one to
// show. So no secret waits on a disk for a run that was killed before it could
// be shown, and the last thing that an install does is to make it.
func (k *KOTS) InstallConsole(ctx context.Context, c Console, w kube.Wait) error {
	state, err := k.State(ctx)
	switch {
	case err != nil:
		return err
	case state.Version != "" && state.Version != c.Version:
		return problem.Newf(problem.ExitStep, "install the admin console",
			"changing the version of a console that is there is an upgrade: plinth upgrade",
			"version %s is there, %s is wanted", state.Version, c.Version)
	case state.Ready:
		return nil
	}
	_, _, service := k.parts()
	laid, err := k.Kube.Exists(ctx, service)
	if err != nil {
		return err
	}
	// All objects are there: to run the CLI again would only restart the pods.
	if !laid {
		if err := k.layConsole(ctx, c, w); err != nil {
			return k.consoleProblem(ctx, err)
		}
	}
	if err := k.waitConsole(ctx, w); err != nil {
		return k.consoleProblem(ctx, err)
	}
	return nil
}

// layConsole has the CLI make the console's objects.
func (k *KOTS) layConsole(ctx context.Context, c Console, w kube.Wait) error {
	if err := k.Kube.EnsureNamespace(ctx, k.Namespace); err != nil {
		return err
	}
	if err := k.putMetadata(ctx, c); err != nil {
		return err
	}
	password, err := newPassword()
	if err != nil {
		return err
	}
	args := []string{"install", c.Slug, "--with-minio=false", "--no-port-forward", "--wait-duration", timeout(w.Timeout)}
	if k.Airgap {
		args = append(args, "--airgap")
	} else {
		args = append(args, "--copy-proxy-env")
	}
	watch, stop := context.WithCancel(ctx)
	defer stop()
	if w.Report != nil {
		// The CLI says only that it waits; the objects say what for.
		go func() { _ = k.waitConsole(watch, w) }() // asked for its reasons only
	}
	_, err = k.run(ctx, []string{"KOTS_SHARED_PASSWORD=" + password}, nil, args...)
	return err
}

func (k *KOTS) waitConsole(ctx context.Context, w kube.Wait) error {
	rqlite, console, service := k.parts()
	return k.Kube.WaitWorkloads(ctx, w, rqlite, console, service)
}

func (k *KOTS) consoleProblem(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	var late *wait.TimeoutError
	if culprit := k.Kube.Culprit(ctx, k.Namespace, ""); culprit != "" && !errors.As(err, &late) {
		err = fmt.Errorf("%w; %s", err, culprit)
	}
	return problem.New(problem.ExitStep, "install the admin console", err,
		"see what its pods say: plinth kubectl get pods -n "+k.Namespace+"; then run the same command again")
}

// putMetadata gives the console the application's title and logo beforehand;
// the CLI keeps what is there. Without it an air-gapped console logs an error
// for each visit of its login page.
func (k *KOTS) putMetadata(ctx context.Context, c Console) error {
	if len(c.Application) == 0 {
		return nil
	}
	ref := kube.Object{APIVersion: "v1", Kind: "ConfigMap", Namespace: k.Namespace, Name: "kotsadm-application-metadata"}
	there, err := k.Kube.Exists(ctx, ref)
	if err != nil || there {
		return err
	}
	return k.Kube.Apply(ctx, k.Namespace, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": ref.APIVersion, "kind": ref.Kind,
		"metadata": map[string]any{
			"name": ref.Name,
			"labels": map[string]any{
				"kots.io/kotsadm": "true", "kots.io/backup": "velero", "kotsadm": "application",
			},
		},
		"data": map[string]any{"application.yaml": string(c.Application), "upstreamUri": "replicated://" + c.Slug},
	}})
}
