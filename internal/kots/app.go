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

// App is an application to be installed without a browser.
type App struct {
	Slug         string // that of the license
	License      string // path of the license
	ConfigValues string // path of a ConfigValues manifest; empty for none
	Bundle       string // path of the .airgap file; empty for an online install
	SkipCompat   bool   // KOTS's own version check is skipped, as the gate was
}

// Installed is what the console says of an application.
type Installed struct {
	Slug         string `json:"slug"`
	State        string `json:"state"` // ready, degraded, updating, unavailable, missing
	VersionLabel string `json:"versionLabel"`
}

// Apps lists the console's applications.
func (k *KOTS) Apps(ctx context.Context) ([]Installed, error) {
	out, err := k.run(ctx, nil, nil, "get", "apps", "-o", "json")
	if err != nil {
		return nil, err
	}
	return parseApps(out)
}

// parseApps reads the CLI's JSON, which stands between its marks for terminals.
func parseApps(out []byte) ([]Installed, error) {
	text := unmarked(string(out))
	from, to := strings.IndexByte(text, '['), strings.LastIndexByte(text, ']')
	if from < 0 || to < from {
		return nil, errors.New("the kots CLI does not list the applications as JSON")
	}
	apps := []Installed{}
	if err := json.Unmarshal([]byte(text[from:to+1]), &apps); err != nil {
		return nil, fmt.Errorf("read the kots CLI's list of applications: %w", err)
	}
	return apps, nil
}

// InstallApp installs an application through the console, and waits until its
// objects are up. An application of that slug that is there is only waited for.
// It wants the registry announced (registry.Announce) when Bundle is set, even
// for an application without images. A failure is a Problem with exit code 7
// that says what the console's log says.
func (k *KOTS) InstallApp(ctx context.Context, a App, w kube.Wait) error {
	apps, err := k.Apps(ctx)
	if err != nil {
		return problem.New(problem.ExitStep, "ask the console for its applications", err, "see whether it is up: plinth status")
	}
	if !slices.ContainsFunc(apps, func(i Installed) bool { return i.Slug == a.Slug && i.VersionLabel != "" }) {
		if err := k.installApp(ctx, a, w); err != nil {
			return err
		}
	}
	return k.WaitApp(ctx, a.Slug, w)
}

func (k *KOTS) installApp(ctx context.Context, a App, w kube.Wait) error {
	args := []string{
		"install", a.Slug, "--exclude-admin-console", "--with-minio=false", "--no-port-forward",
		"--license-file", a.License, "--wait-duration", timeout(w.Timeout),
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
	since := time.Now()
	run, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The CLI tries five times, for more than a minute, what the console has
	// refused for good: its log is heard and ends the run.
	go k.listen(run, since, cancel)
	_, err := k.run(run, nil, w.Report, args...)
	if err == nil || ctx.Err() != nil {
		return err
	}
	var refused *refusal
	if errors.As(err, &refused) {
		return refused.problem()
	}
	if r := k.refusal(ctx, since); r != nil {
		return r.problem()
	}
	return explain(err.Error()).problem()
}

// listen ends the run with the cause as soon as the console's log gives one.
func (k *KOTS) listen(ctx context.Context, since time.Time, cancel context.CancelCauseFunc) {
	o := wait.Options{What: "the console's refusal", Timeout: 24 * time.Hour, Interval: 2 * time.Second}
	_ = wait.Until(ctx, o, func(ctx context.Context) (bool, string, error) {
		r := k.refusal(ctx, since)
		if r != nil {
			cancel(r)
		}
		return r != nil, "", nil
	})
}

// refusal looks for a cause that ends an installation in the console's log.
func (k *KOTS) refusal(ctx context.Context, since time.Time) *refusal {
	pods, err := k.Kube.Pods(ctx, k.Namespace, "app=kotsadm")
	if err != nil {
		return nil
	}
	for _, pod := range pods {
		lines, err := k.Kube.PodLog(ctx, k.Namespace, pod, kube.LogOptions{Container: "kotsadm", After: since})
		if err != nil {
			continue
		}
		for _, line := range lines {
			if r := hear(line); r != nil {
				return r
			}
		}
	}
	return nil
}

// WaitApp waits until the console calls the application ready.
func (k *KOTS) WaitApp(ctx context.Context, slug string, w kube.Wait) error {
	o := wait.Options{What: "application " + slug + " to be ready", Timeout: w.Timeout, Interval: time.Second, Next: "sudo plinth kubectl get pods,events -A"}
	if w.Report != nil {
		o.OnReason = func(reason string) { w.Report(reason, 0, 0) }
	}
	o.Culprit = func(ctx context.Context) string { return k.Kube.Culprit(ctx, k.Namespace, "") }
	err := wait.Until(ctx, o, func(ctx context.Context) (bool, string, error) {
		apps, err := k.Apps(ctx)
		if err != nil {
			return false, "the console does not answer: " + err.Error(), nil
		}
		i := slices.IndexFunc(apps, func(i Installed) bool { return i.Slug == slug })
		if i < 0 {
			return false, "the console does not know it", nil
		}
		return apps[i].State == "ready", "the console calls it " + apps[i].State, nil
	})
	if err == nil || ctx.Err() != nil {
		return err
	}
	return problem.New(problem.ExitStep, "bring application "+slug+" up", err,
		"open the console: it shows what is missing (configuration, preflights, images); "+problem.Hint(err))
}
