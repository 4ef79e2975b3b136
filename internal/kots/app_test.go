package kots

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/problem"
)

const (
	getApps = "kots get apps -o json --namespace kotsadm"
	ready   = "\x1b[?25l[{\"slug\":\"my-app\",\"state\":\"ready\",\"versionLabel\":\"1.0.0\"}]\x1b[?25h"
)

func TestApplicationIsInstalledOnceAndWaitedFor(t *testing.T) {
	k, fake, _ := bench(t)
	fake.Expect(getApps).Return("[]", nil)
	fake.Expect("kots install my-app --exclude-admin-console --with-minio=false --no-port-forward --license-file /l --wait-duration 20s " +
		"--config-values /c --airgap-bundle /b --skip-compatibility-check --namespace kotsadm")
	fake.Expect(getApps).Return(strings.Replace(ready, "ready", "missing", 1), nil)
	fake.Expect(getApps).Return(ready, nil).Often()
	app := App{Slug: "my-app", License: "/l", ConfigValues: "/c", Bundle: "/b", SkipCompat: true}
	w := patient()
	for range 2 { // the second time it is there
		if err := k.InstallApp(t.Context(), app, w); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRefusalIsTakenFromTheConsolesLog(t *testing.T) {
	k, fake, s := bench(t)
	s.Put(api+"pods/kotsadm-0", map[string]any{"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": "kotsadm-0", "labels": map[string]any{"app": "kotsadm"}}})
	s.Logs = map[string]string{"kotsadm/kotsadm-0": "2020-01-01T00:00:00Z an older one: license is expired\n"}
	fake.Expect(getApps).Return("[]", nil)
	fake.Expect("kots install my-app").Return("", &host.CommandError{Code: 1}).Do(func(c host.Cmd) {
		s.AddLog("kotsadm/kotsadm-0", time.Now().Add(time.Second).UTC().Format(time.RFC3339Nano)+
			` {"level":"error","msg":"failed to install license kotsadm-default-license: failed to verify license signature: x"}`+"\n")
		io.WriteString(c.Output, "Error: giving up uploading app.tar.gz: unexpected response status: 500\n") //nolint:errcheck // never fails
	})
	err := k.InstallApp(t.Context(), App{Slug: "my-app", License: "/l", Bundle: "/b"}, patient())
	if problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), "the license's signature is not valid") {
		t.Errorf("got %v", err)
	}
	if problem.Hint(err) == "" {
		t.Error("no hint")
	}
}

func TestUnreadyApplicationIsNamedWithItsState(t *testing.T) {
	k, fake, _ := bench(t)
	fake.Expect(getApps).Return(strings.Replace(ready, "ready", "unavailable", 1), nil).Often()
	err := k.WaitApp(t.Context(), "my-app", short())
	if problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), "the console calls it unavailable") {
		t.Errorf("got %v", err)
	}
}

func TestKOTSsWordsArePutIntoPlainOnes(t *testing.T) {
	for said, want := range map[string]string{
		"Error: This version of Toy requires a different version of KOTS from what you currently have installed.": "wants another version of KOTS",
		"failed to ping registry: connection refused":                                                             "registry inside the cluster does not answer",
		"There are preflight check failures":                                                                      "own preflight checks fail",
		"license is expired for app my-app":                                                                       "license has expired",
		"something new":                                                                                           "something new",
	} {
		if got := explain(said); !strings.Contains(got.cause, want) || got.hint == "" {
			t.Errorf("%q is explained as %q", said, got.cause)
		}
	}
}

func TestOnlyFinalWordsEndARun(t *testing.T) {
	for line, final := range map[string]bool{
		`{"msg":"failed to verify license signature"}`:                              true,
		`{"msg":"License is expired"}`:                                              true,
		`{"msg":"preflight check completed"}`:                                       false,
		`{"msg":"GET /api/v1/app/my-app/preflight/result"}`:                         false,
		`{"msg":"This version requires a different version of KOTS from what ..."}`: false,
	} {
		if got := hear(line) != nil; got != final {
			t.Errorf("%s: %t", line, got)
		}
	}
}

func FuzzParseAppsNeverPanics(f *testing.F) {
	f.Add([]byte(ready))
	f.Add([]byte("][")) // the marks the wrong way round
	f.Add([]byte("[1]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if apps, err := parseApps(b); (apps == nil) == (err == nil) {
			t.Errorf("%v with %v", apps, err)
		}
	})
}
