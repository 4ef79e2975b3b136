package kots

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/wait"
)

// ConsoleSpec describes the admin console to install.
type ConsoleSpec struct {
	Slug        string // slug of the application that the console will install
	Version     string // version of KOTS and its CLI, without a v
	Application []byte // Application manifest, for title and logo before a license is uploaded; may be nil
	TrustedCAs  string // certificates in PEM of authorities that the console trusts beside those of its image; "" for none
}

// ConsoleState is the state of the console in the cluster.
type ConsoleState struct {
	Version string // without a v; empty if the console is not installed
	Ready   bool   // datastore and console are ready, and have the images and the nodes that the Client requests
	Reason  string // why it is not ready

	otherRegistry bool // the image of the console is not in Client.Registry
}

// consoleObjects returns the console's objects that must be ready, in the order
// in which the CLI creates them. The service is the last object that the CLI
// creates.
func (k *Client) consoleObjects() (rqlite, console, service kube.Object) {
	set := func(name string) kube.Object {
		return kube.Object{APIVersion: "apps/v1", Kind: "StatefulSet", Namespace: k.Namespace, Name: name}
	}
	return set(DatastoreName), set("kotsadm"), kube.Object{APIVersion: "v1", Kind: "Service", Namespace: k.Namespace, Name: "kotsadm"}
}

// ConsoleState returns the state of the console's objects in the cluster.
func (k *Client) ConsoleState(ctx context.Context) (ConsoleState, error) {
	rqlite, set, service := k.consoleObjects()
	console, err := k.Kube.Get(ctx, set)
	if errors.Is(err, kube.ErrNotFound) {
		return ConsoleState{Reason: "the console is not installed"}, nil
	}
	if err != nil {
		return ConsoleState{}, err
	}
	s := ConsoleState{Version: imageVersion(console), Ready: true}
	if image := consoleImage(console); k.Registry != nil && image != k.Registry.Image(image) {
		return ConsoleState{Version: s.Version, Reason: "its image " + image + " is not in the registry " + k.Registry.Address, otherRegistry: true}, nil
	}
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
	for _, o := range []kube.Object{rqlite, set} {
		have, err := k.Kube.Get(ctx, o)
		if err != nil {
			return s, err
		}
		if s.Ready && !k.AnyNode && !isOnControllersOnly(have) {
			s.Ready, s.Reason = false, o.String()+" is not limited to controllers: root on a worker could become administrator; run plinth install again"
		}
	}
	return s, nil
}

// consoleImage returns the image of the console, or "".
func consoleImage(console *unstructured.Unstructured) string {
	image, _ := consoleContainer(console)["image"].(string)
	return image
}

// imageVersion returns the tag of the console's image, without its v, or "" if
// it has none.
func imageVersion(console *unstructured.Unstructured) string {
	image := consoleImage(console)
	if i := strings.LastIndex(image, ":"); i > strings.LastIndex(image, "/") {
		return strings.TrimPrefix(image[i+1:], "v")
	}
	return ""
}

// InstallConsole installs the console, or moves an installed one to the version of
// the CLI, and waits until it is ready. A console that is ready is not changed; one
// that a killed run left unfinished is completed. A new console must be installed
// before the registry is configured in KOTS
// (registry.ConfigureKOTS): otherwise KOTS would pull its own images from that
// registry.
//
// The console gets a random password that is not kept; ResetPassword sets the
// one to show. So no secret is stored on a disk for a run that is killed before
// it shows the password. An install sets the password as its last action.
func (k *Client) InstallConsole(ctx context.Context, c ConsoleSpec, w kube.Wait) error {
	state, err := k.ConsoleState(ctx)
	switch {
	case err != nil:
		return err
	case state.Version != "" && (state.Version != c.Version || state.otherRegistry):
		if err := k.upgradeConsole(ctx, c, w); err != nil {
			return k.consoleProblem(ctx, err)
		}
		return nil
	case state.Ready:
		if why, err := k.TrustNeeded(ctx, c.TrustedCAs); err != nil || why == "" {
			return err
		}
	}
	_, _, service := k.consoleObjects()
	created, err := k.Kube.Exists(ctx, service)
	if err != nil {
		return err
	}
	// If all objects exist, running the CLI again would only restart the pods.
	if !created {
		if err := k.createConsole(ctx, c, w); err != nil {
			return k.consoleProblem(ctx, err)
		}
	}
	if err := k.adjustPods(ctx, c); err != nil {
		return k.consoleProblem(ctx, err)
	}
	if err := k.waitConsole(ctx, w); err != nil {
		return k.consoleProblem(ctx, err)
	}
	return nil
}

// createConsole runs the CLI, which creates the console's objects.
func (k *Client) createConsole(ctx context.Context, c ConsoleSpec, w kube.Wait) error {
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
	if err := k.putTrustedCAs(ctx, c.TrustedCAs); err != nil {
		return err
	}
	args := append([]string{"install", c.Slug, "--with-minio=false", "--no-port-forward", "--wait-duration", formatTimeout(w.Timeout)}, trustArgs(c.TrustedCAs)...)
	if k.Airgap {
		args = append(args, "--airgap")
	} else {
		args = append(args, "--copy-proxy-env")
	}
	registry, env := k.registryArgs()
	args = append(args, registry...)
	watch, stop := context.WithCancel(ctx)
	defer stop()
	if !k.AnyNode {
		go k.placeWhenCreated(watch)
	}
	if w.Report != nil {
		// The CLI reports only that it waits; the objects show the reason.
		go func() { _ = k.waitConsole(watch, w) }() // only its reports are used
	}
	_, err = k.runCLI(ctx, append(env, "KOTS_SHARED_PASSWORD="+password), nil, args...)
	return err
}

// outboundVariable is the variable of the console's container that keeps an air-gapped console
// from calling its vendor.
const outboundVariable = "DISABLE_OUTBOUND_CONNECTIONS"

// upgradeConsole runs the CLI, which moves the console and its database to the CLI's own version
// and keeps passwords and keys. The CLI does not know that the console is air-gapped; the variable
// in its environment, which KOTS uses for its own tests (KOTS 1.131.2,
// pkg/kotsadm/objects/kotsadm_objects.go), keeps the console's setting.
func (k *Client) upgradeConsole(ctx context.Context, c ConsoleSpec, w kube.Wait) error {
	registry, env := k.registryArgs()
	args := append([]string{"admin-console", "upgrade", "--wait-duration", formatTimeout(w.Timeout)}, registry...)
	if k.Airgap {
		env = append(env, "DISABLE_KOTSADM_OUTBOUND_CONNECTIONS=true")
	}
	watch, stop := context.WithCancel(ctx)
	defer stop()
	if w.Report != nil {
		go func() { _ = k.waitConsole(watch, w) }() // only its reports are used
	}
	if _, err := k.runCLI(ctx, env, nil, args...); err != nil {
		return err
	}
	if err := k.adjustPods(ctx, c); err != nil {
		return err
	}
	if err := k.waitConsole(ctx, w); err != nil {
		return err
	}
	return k.checkUpgraded(ctx, c)
}

// checkUpgraded returns an error unless the console has the version of c and, if it is air-gapped,
// makes no outbound connections.
func (k *Client) checkUpgraded(ctx context.Context, c ConsoleSpec) error {
	_, set, _ := k.consoleObjects()
	console, err := k.Kube.Get(ctx, set)
	if err != nil {
		return err
	}
	if have := imageVersion(console); have != c.Version {
		return fmt.Errorf("the CLI has installed version %s instead of %s", have, c.Version)
	}
	if k.Airgap && consoleVariable(console, outboundVariable) != "true" {
		return errors.New("the console would connect to the internet: " + outboundVariable + " is not set in " + set.String())
	}
	return nil
}

// consoleContainer returns the container of the console; nil if there is none.
func consoleContainer(console *unstructured.Unstructured) map[string]any {
	containers, _, _ := unstructured.NestedSlice(console.Object, "spec", "template", "spec", "containers")
	return findContainer(containers, "kotsadm")
}

// findContainer returns the container name of a list; nil without one.
func findContainer(list any, name string) map[string]any {
	containers, _ := list.([]any)
	for _, c := range containers {
		if m, _ := c.(map[string]any); m["name"] == name {
			return m
		}
	}
	return nil
}

// consoleVariable returns the value of a variable in the environment of the console; "" for none.
func consoleVariable(console *unstructured.Unstructured, name string) string {
	env, _, _ := unstructured.NestedSlice(consoleContainer(console), "env")
	for _, e := range env {
		if m, _ := e.(map[string]any); m["name"] == name {
			value, _ := m["value"].(string)
			return value
		}
	}
	return ""
}

func (k *Client) waitConsole(ctx context.Context, w kube.Wait) error {
	rqlite, console, service := k.consoleObjects()
	return k.Kube.WaitWorkloads(ctx, w, rqlite, console, service)
}

func (k *Client) consoleProblem(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	var late *wait.TimeoutError
	if cause := k.Kube.Diagnose(ctx, k.Namespace, ""); cause != "" && !errors.As(err, &late) {
		err = fmt.Errorf("%w; %s", err, cause)
	}
	return problem.New(problem.ExitStep, "install the admin console", err,
		"inspect its pods: "+k.Kube.Kubectl()+" get pods -n "+k.Namespace+"; then run the same command again")
}

// putMetadata stores the application's title and logo for the console before
// the CLI runs, which keeps an existing one. Without it an air-gapped console
// logs an error for each visit of its login page.
func (k *Client) putMetadata(ctx context.Context, c ConsoleSpec) error {
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
