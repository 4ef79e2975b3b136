package kots

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

const (
	getApps = "kots get apps -o json --namespace kotsadm"
	ready   = "\x1b[?25l[{\"slug\":\"my-app\",\"state\":\"ready\",\"versionLabel\":\"1.0.0\"}]\x1b[?25h"
)

func TestInstallApp_InstallsOnceAndWaits(t *testing.T) {
	k, fake, _ := newBench(t)
	fake.Expect(getApps).Return("[]", nil)
	fake.Expect("kots install my-app --exclude-admin-console --with-minio=false --no-port-forward --license-file /l --wait-duration 20s " +
		"--config-values /c --airgap-bundle /b --skip-compatibility-check --namespace kotsadm")
	fake.Expect(getApps).Return(strings.Replace(ready, "ready", "missing", 1), nil)
	fake.Expect(getApps).Return(ready, nil).AnyTimes()
	app := App{Slug: "my-app", License: "/l", ConfigValues: "/c", Bundle: "/b", SkipCompat: true}
	w := longWait()
	for range 2 { // the second time it is installed already
		if err := k.InstallApp(t.Context(), app, w); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInstallApp_QuotesFatalErrorOfConsoleLog(t *testing.T) {
	k, fake, s := newBench(t)
	s.Put(api+"pods/kotsadm-0", map[string]any{"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": "kotsadm-0", "labels": map[string]any{"app": "kotsadm"}}})
	s.Logs = map[string]string{"kotsadm/kotsadm-0": "2020-01-01T00:00:00Z an older one: license is expired\n"}
	fake.Expect(getApps).Return("[]", nil)
	fake.Expect("kots install my-app").Return("", &host.CommandError{Code: 1}).Do(func(c host.Cmd) {
		s.AddLog("kotsadm/kotsadm-0", time.Now().Add(time.Second).UTC().Format(time.RFC3339Nano)+
			` {"level":"error","msg":"failed to install license kotsadm-default-license: failed to verify license signature: x"}`+"\n")
		io.WriteString(c.Output, "Error: giving up uploading app.tar.gz: unexpected response status: 500\n") //nolint:errcheck // never fails
	})
	err := k.InstallApp(t.Context(), App{Slug: "my-app", License: "/l", Bundle: "/b"}, longWait())
	if problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), "the license's signature is not valid") {
		t.Errorf("got %v", err)
	}
	if problem.Hint(err) == "" {
		t.Error("no hint")
	}
}

func TestPushImages_NamesThemAsAnInstallDoesAndHidesThePassword(t *testing.T) {
	k, fake, _ := newBench(t)
	push := ImagePush{Bundle: "/a.airgap", Slug: "my-app", Registry: "10.96.0.11:5000", User: "kurl", Password: "hidden"}
	const command = "kots admin-console push-images /a.airgap 10.96.0.11:5000/my-app --namespace kotsadm"
	fake.Expect(command).Do(func(c host.Cmd) {
		for _, want := range []string{"KOTS_REGISTRY_USERNAME=kurl", "KOTS_REGISTRY_PASSWORD=hidden"} {
			if !slices.Contains(c.Env, want) {
				t.Errorf("%s is missing in %q", want, c.Env)
			}
		}
	})
	testkit.Must(t, k.PushImages(t.Context(), push, nil))
	fake.Expect(command).Return("", &host.CommandError{Code: 1}).Do(func(c host.Cmd) {
		io.WriteString(c.Output, "Error: failed to push images: unexpected EOF\n") //nolint:errcheck // never fails
	})
	err := k.PushImages(t.Context(), push, nil)
	if problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), "push the images of /a.airgap into the registry: failed to push images: unexpected EOF") || problem.Hint(err) == "" {
		t.Errorf("%v → %s", err, problem.Hint(err))
	}
}

func TestWaitApp_NamesStateOfUnreadyApp(t *testing.T) {
	k, fake, _ := newBench(t)
	fake.Expect(getApps).Return(strings.Replace(ready, "ready", "unavailable", 1), nil).AnyTimes()
	err := k.WaitApp(t.Context(), "my-app", shortWait())
	if problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), "its state in the console is unavailable") {
		t.Errorf("got %v", err)
	}
}

// anyClient returns a client that only names commands.
func anyClient() *Client { return &Client{Kube: &kube.Client{}, Namespace: "kotsadm"} }

func TestTranslate_HintsNameCommandsOfTheCluster(t *testing.T) {
	existing := &Client{Kube: (&kube.Client{}).WithKubectl("kubectl --kubeconfig f"), Namespace: "app", AnyNode: true}
	for name, c := range map[string]struct {
		client     *Client
		said, want string
	}{
		"console of Plinth's cluster":    {anyClient(), "license already exists for app", "deploy it there: sudo plinth console url shows its URL, and sudo plinth console reset-password sets a password; then run the same command again"},
		"console of an existing cluster": {existing, "preflight", "make them pass, and run them again in the console: kubectl --kubeconfig f port-forward -n app service/kotsadm 8800:3000 makes it available at http://localhost:8800, and kubectl kots reset-password -n app --kubeconfig f sets a password; then run the same command again"},
		"registry of Plinth's cluster":   {anyClient(), "failed to ping registry", "inspect its pod: sudo plinth kubectl get pods -n registry"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.client.translate(c.said); got.hint != c.want {
				t.Errorf("%q", got.hint)
			}
		})
	}
}

func TestTranslate_KnownErrors(t *testing.T) {
	for said, want := range map[string]string{
		"Error: This version of Toy requires a different version of KOTS from what you currently have installed.": "requires another version of KOTS",
		"failed to ping registry: connection refused":                                                             "registry inside the cluster does not respond",
		"preflight checks: fail: Nodes: too few":                                                                  "own preflight checks fail or warn, so it was not deployed (preflight",
		"license is expired for app my-app":                                                                       "license has expired",
		"something new":                                                                                           "something new",
	} {
		t.Run(want, func(t *testing.T) {
			if got := anyClient().translate(said); !strings.Contains(got.cause, want) || got.hint == "" {
				t.Errorf("%q is translated to %q", said, got.cause)
			}
		})
	}
}

func TestMatchFatal_IgnoresOtherLines(t *testing.T) {
	for name, tt := range map[string]struct {
		line  string
		fatal bool
	}{
		"license signature":  {`{"msg":"failed to verify license signature"}`, true},
		"expired license":    {`{"msg":"License is expired"}`, true},
		"preflights ran":     {`{"msg":"preflight check completed"}`, false},
		"preflight request":  {`{"msg":"GET /api/v1/app/my-app/preflight/result"}`, false},
		"other KOTS version": {`{"msg":"This version requires a different version of KOTS from what ..."}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := anyClient().matchFatal(tt.line) != nil; got != tt.fatal {
				t.Errorf("fatal is %t, want %t", got, tt.fatal)
			}
		})
	}
}

func FuzzParseApps(f *testing.F) {
	f.Add([]byte(ready))
	f.Add([]byte("][")) // brackets in the wrong order
	f.Add([]byte("[1]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if apps, err := parseApps(b); (apps == nil) == (err == nil) {
			t.Errorf("%v with %v", apps, err)
		}
	})
}
