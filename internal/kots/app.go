package kots

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/wait"
)

// App is an application to install without a browser.
type App struct {
	Slug         string // slug of the application in the license
	License      string // path of the license file
	ConfigValues string // path of a ConfigValues manifest; empty for none
	Bundle       string // path of the .airgap file; empty for an online install
	SkipCompat   bool   // skip the version check of KOTS, because the gate was skipped too
}

// InstalledApp is an application in the console.
type InstalledApp struct {
	Slug         string `json:"slug"`
	State        string `json:"state"` // ready, degraded, updating, unavailable, missing
	VersionLabel string `json:"versionLabel"`
}

// Apps returns the console's applications.
func (k *Client) Apps(ctx context.Context) ([]InstalledApp, error) {
	out, err := k.runCLI(ctx, nil, nil, "get", "apps", "-o", "json")
	if err != nil {
		return nil, err
	}
	return parseApps(out)
}

// parseApps returns the applications in the CLI's JSON output, which is
// surrounded by terminal escape sequences.
func parseApps(out []byte) ([]InstalledApp, error) {
	text := stripEscapes(string(out))
	from, to := strings.IndexByte(text, '['), strings.LastIndexByte(text, ']')
	if from < 0 || to < from {
		return nil, errors.New("the kots CLI did not list the applications as JSON")
	}
	apps := []InstalledApp{}
	if err := json.Unmarshal([]byte(text[from:to+1]), &apps); err != nil {
		return nil, fmt.Errorf("read the list of applications of the kots CLI: %w", err)
	}
	return apps, nil
}

// InstallApp installs an application through the console and waits until its
// objects are ready. If the console already has an application with that slug,
// it only waits. If Bundle is set, Client.Registry must be set or the registry configured in
// KOTS before (registry.ConfigureKOTS), even for an application without images. An
// error is a Problem with exit code 7 that quotes the cause in the console's
// log.
func (k *Client) InstallApp(ctx context.Context, a App, w kube.Wait) error {
	apps, err := k.Apps(ctx)
	if err != nil {
		return problem.New(problem.ExitStep, "list the console's applications", err, "check whether the console is up: "+k.Kube.Kubectl()+" get pods -n "+k.Namespace)
	}
	if !slices.ContainsFunc(apps, func(i InstalledApp) bool { return i.Slug == a.Slug && i.VersionLabel != "" }) {
		if err := k.installApp(ctx, a, w); err != nil {
			return err
		}
	}
	return k.WaitApp(ctx, a.Slug, w)
}

func (k *Client) installApp(ctx context.Context, a App, w kube.Wait) error {
	args := []string{
		"install", a.Slug, "--exclude-admin-console", "--with-minio=false", "--no-port-forward",
		"--license-file", a.License, "--wait-duration", formatTimeout(w.Timeout),
	}
	if a.ConfigValues != "" {
		args = append(args, "--config-values", a.ConfigValues)
	}
	if a.Bundle != "" {
		args = append(args, "--airgap-bundle", a.Bundle)
	}
	if a.SkipCompat {
		args = append(args, "--skip-compatibility-check")
	}
	registry, env := k.registryArgs()
	args = append(args, registry...)
	since := time.Now()
	run, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The CLI retries five times, for more than a minute, even if the console
	// has rejected the installation for good: its log ends the run early.
	go k.watchConsoleLog(run, since, cancel)
	_, err := k.runCLI(run, env, w.Report, args...)
	if err == nil || ctx.Err() != nil {
		return err
	}
	var refused *installError
	if errors.As(err, &refused) {
		return refused.toProblem()
	}
	if r := k.findFatalError(ctx, since); r != nil {
		return r.toProblem()
	}
	return k.translate(err.Error()).toProblem()
}

// ImagePush is the images of an application's bundle, and the registry that gets them.
type ImagePush struct {
	Bundle   string // path of the .airgap file
	Slug     string // of the application
	Registry string // host and port
	User     string
	Password string // secret
}

// PushImages pushes the images of an application into the registry of the cluster, with the names that an install of the
// application gives them: REGISTRY/SLUG/… (KOTS 1.131.2, cmd/kots/cli/install.go). What the registry has is not sent again.
// The CLI accepts any certificate of the registry, as it does in an install. It gets the credentials in its environment,
// which other users cannot read (viper, with the prefix KOTS: cmd/kots/cli/root.go).
func (k *Client) PushImages(ctx context.Context, p ImagePush, report func(string, int64, int64)) error {
	env := []string{"KOTS_REGISTRY_USERNAME=" + p.User, "KOTS_REGISTRY_PASSWORD=" + p.Password}
	_, err := k.runCLI(ctx, env, report, "admin-console", "push-images", p.Bundle, p.Registry+"/"+p.Slug)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return problem.New(problem.ExitStep, "push the images of "+p.Bundle+" into the registry", err,
		"check the file, and the registry: "+k.Kube.Kubectl()+" get pods -A; then run the same command again")
}

// watchConsoleLog cancels the run with the cause as soon as the console's log
// contains a fatal error.
func (k *Client) watchConsoleLog(ctx context.Context, since time.Time, cancel context.CancelCauseFunc) {
	o := wait.Options{What: "the console's refusal", Timeout: 24 * time.Hour, Interval: 2 * time.Second}
	_ = wait.Until(ctx, o, func(ctx context.Context) (bool, string, error) {
		r := k.findFatalError(ctx, since)
		if r != nil {
			cancel(r)
		}
		return r != nil, "", nil
	})
}

// findFatalError returns the first error in the console's log since then that
// ends an installation, or nil.
func (k *Client) findFatalError(ctx context.Context, since time.Time) *installError {
	pods, err := k.Kube.Pods(ctx, k.Namespace, "app=kotsadm")
	if err != nil {
		return nil
	}
	for _, pod := range pods {
		lines, err := k.Kube.PodLog(ctx, k.Namespace, pod, kube.LogOptions{Container: "kotsadm", Since: since})
		if err != nil {
			continue
		}
		for _, line := range lines {
			if r := k.matchFatal(line); r != nil {
				return r
			}
		}
	}
	return nil
}

// WaitApp waits until the application's state in the console is ready.
func (k *Client) WaitApp(ctx context.Context, slug string, w kube.Wait) error {
	o := wait.Options{What: "application " + slug + " to be ready", Timeout: w.Timeout, Interval: time.Second, NextCommand: k.Kube.Kubectl() + " get pods,events -A"}
	if w.Report != nil {
		o.OnReason = func(reason string) { w.Report(reason, 0, 0) }
	}
	o.Diagnose = func(ctx context.Context) string { return k.Kube.Diagnose(ctx, k.Namespace, "") }
	err := wait.Until(ctx, o, func(ctx context.Context) (bool, string, error) {
		apps, err := k.Apps(ctx)
		if err != nil {
			return false, "the console does not respond: " + err.Error(), nil
		}
		i := slices.IndexFunc(apps, func(i InstalledApp) bool { return i.Slug == slug })
		if i < 0 {
			return false, "the console does not list it", nil
		}
		return apps[i].State == "ready", "its state in the console is " + apps[i].State, nil
	})
	if err == nil || ctx.Err() != nil {
		return err
	}
	return problem.New(problem.ExitStep, "start application "+slug, err,
		"see in the console what is missing (configuration, preflights, images): "+k.openConsole()+"; "+problem.Hint(err))
}
