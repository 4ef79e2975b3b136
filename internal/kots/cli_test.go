package kots

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"encoding/base64"

	"golang.org/x/crypto/bcrypt"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/problem"
)

const api = "/api/v1/namespaces/kotsadm/"

// newBench returns a Client on a fake host and a fake API server.
func newBench(t *testing.T) (*Client, *hosttest.Fake, *kubetest.Server) {
	t.Helper()
	server, client := kubetest.New(t)
	fake := hosttest.New(t)
	return &Client{
		Machine: fake.Host(), Kube: client, CLI: "kots", Kubeconfig: "/conf", Home: "/var/lib/plinth/kots",
		Namespace: "kotsadm", Airgap: true,
	}, fake, server
}

// longWait is long enough for a condition that becomes true, also on a busy machine.
func longWait() kube.Wait { return kube.Wait{Timeout: 20 * time.Second} }

// shortWait is for a condition that never becomes true.
func shortWait() kube.Wait { return kube.Wait{Timeout: 2 * time.Second} }

// putConsole stores the objects that the CLI creates, as far as Plinth reads
// them.
func putConsole(s *kubetest.Server, version string) {
	for _, name := range []string{"kotsadm-rqlite", "kotsadm"} {
		obj := map[string]any{
			"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": map[string]any{"name": name},
			"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
				"nodeSelector": map[string]any{controllerLabel: controllerRole},
				"containers":   []any{map[string]any{"name": name, "image": "registry.example.com:5000/kotsadm/" + name + ":v" + version}},
			}}},
		}
		kubetest.MarkReady(obj)
		s.Put("/apis/apps/v1/namespaces/kotsadm/statefulsets/"+name, obj)
	}
	s.Put(api+"services/kotsadm", map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "kotsadm"}})
}

func TestInstallConsole_PassesPasswordInEnvironment(t *testing.T) {
	k, fake, s := newBench(t)
	var ran host.Cmd
	fake.Expect("kots install my-app --with-minio=false --no-port-forward --wait-duration 20s --airgap --namespace kotsadm").Do(func(c host.Cmd) {
		ran = c
		if text, _ := s.Object(api + "configmaps/kotsadm-application-metadata")["data"].(map[string]any); text["application.yaml"] != "title" {
			t.Errorf("the metadata before the CLI runs is %v", text)
		}
		putConsole(s, "1.131.2")
	})
	c := ConsoleSpec{Slug: "my-app", Version: "1.131.2", Application: []byte("title")}
	if err := k.InstallConsole(t.Context(), c, longWait()); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, kv := range ran.Env {
		key, value, _ := strings.Cut(kv, "=")
		env[key] = value
	}
	password := env["KOTS_SHARED_PASSWORD"]
	if len(password) != 19 || strings.Contains(strings.Join(ran.Argv, " "), password) {
		t.Errorf("the password's length is %d, argv is %q", len(password), ran.Argv)
	}
	for key, want := range map[string]string{"KUBECONFIG": "/conf", "HOME": k.Home, "TMPDIR": k.Home + "/tmp", "HTTPS_PROXY": "", "NO_PROXY": ""} {
		if got, set := env[key]; !set || got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if _, err := fake.Host().Lstat(path.Join(k.Home, "tmp")); err == nil {
		t.Error("the temporary folder is still there")
	}
	s.Writes()
	if err := k.InstallConsole(t.Context(), c, longWait()); err != nil || len(s.Writes()) > 0 {
		t.Errorf("the second run changed something, or failed: %v", err)
	}
	if state, err := k.ConsoleState(t.Context()); err != nil || state != (ConsoleState{Version: "1.131.2", Ready: true}) {
		t.Errorf("state is %+v, %v", state, err)
	}
}

func TestCLIEnvironment_ReplacesVariablesOfTheUser(t *testing.T) {
	env := (&Client{Home: "/private", Environ: []string{"HOME=/home/me", "XDG_DATA_HOME=/home/me", "AWS_PROFILE=a"}}).cliEnvironment("/tmp")
	for user, ours := range map[string]string{"HOME=/home/me": "HOME=/private", "XDG_DATA_HOME=/home/me": "XDG_DATA_HOME=/tmp"} { // the last one counts
		if slices.Index(env, ours) < slices.Index(env, user) {
			t.Errorf("%q", env)
		}
	}
	if !slices.Contains(env, "AWS_PROFILE=a") {
		t.Errorf("%q", env)
	}
}

func TestInstallConsole_PassesProxyInEnvironment(t *testing.T) {
	k, fake, s := newBench(t)
	k.Airgap, k.Proxy = false, Proxy{HTTPS: "http://user:pass@proxy:3128", No: ".svc"}
	fake.Expect("kots install my-app --with-minio=false --no-port-forward --wait-duration 20s --copy-proxy-env --namespace kotsadm").Do(func(c host.Cmd) {
		if !slices.Contains(c.Env, "HTTPS_PROXY=http://user:pass@proxy:3128") || strings.Contains(strings.Join(c.Argv, " "), "pass") {
			t.Errorf("env %q, argv %q", c.Env, c.Argv)
		}
		putConsole(s, "1.131.2")
	})
	if err := k.InstallConsole(t.Context(), ConsoleSpec{Slug: "my-app", Version: "1.131.2"}, longWait()); err != nil {
		t.Fatal(err)
	}
}

func TestInstallConsole_OnlyWaitsForExistingObjects(t *testing.T) {
	k, _, s := newBench(t) // no command is expected
	putConsole(s, "1.131.2")
	rqlite := "/apis/apps/v1/namespaces/kotsadm/statefulsets/kotsadm-rqlite"
	down := s.Object(rqlite)
	down["status"] = map[string]any{"observedGeneration": 1}
	s.Put(rqlite, down)
	err := k.InstallConsole(t.Context(), ConsoleSpec{Slug: "my-app", Version: "1.131.2"}, shortWait())
	if problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), "StatefulSet kotsadm/kotsadm-rqlite: 0 of 1 pods updated") {
		t.Errorf("got %v", err)
	}
}

func TestInstallConsole_UpgradesOtherVersion(t *testing.T) {
	for name, c := range map[string]struct {
		version, outbound string // of the console after the CLI ran
		want              string // in the error; "" for none
	}{
		"upgraded":            {"1.131.2", "true", ""},
		"may call the vendor": {"1.131.2", "", "DISABLE_OUTBOUND_CONNECTIONS is not set"},
		"not upgraded":        {"1.130.0", "true", "the CLI has installed version 1.130.0 instead of 1.131.2"},
	} {
		t.Run(name, func(t *testing.T) {
			k, fake, s := newBench(t)
			putConsole(s, "1.130.0")
			fake.Expect("kots admin-console upgrade --wait-duration 20s --namespace kotsadm").Do(func(cmd host.Cmd) {
				if !slices.Contains(cmd.Env, "DISABLE_KOTSADM_OUTBOUND_CONNECTIONS=true") {
					t.Errorf("the CLI would let an air-gapped console call its vendor: %v", cmd.Env)
				}
				putConsole(s, c.version)
				set := s.Object("/apis/apps/v1/namespaces/kotsadm/statefulsets/kotsadm")
				containers, _, _ := unstructured.NestedSlice(set, "spec", "template", "spec", "containers")
				containers[0].(map[string]any)["env"] = []any{map[string]any{"name": "DISABLE_OUTBOUND_CONNECTIONS", "value": c.outbound}}
				_ = unstructured.SetNestedSlice(set, containers, "spec", "template", "spec", "containers") // the types are right
				s.Put("/apis/apps/v1/namespaces/kotsadm/statefulsets/kotsadm", set)
			})
			err := k.InstallConsole(t.Context(), ConsoleSpec{Slug: "my-app", Version: "1.131.2"}, longWait())
			if (err == nil) != (c.want == "") || err != nil && (problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestInstallConsole_ReportsErrorLineOfCLI(t *testing.T) {
	k, fake, _ := newBench(t)
	fake.Expect("kots install").Return("", &host.CommandError{Argv: []string{"kots"}, Code: 1, Tail: "      --token string  a flag"}).Do(func(c host.Cmd) {
		io.WriteString(c.Output, "\x1b[?25l  • Deploying ✓\nError: failed to wait for rqlite\nUsage:\n      --token string  a flag\n") //nolint:errcheck // never fails
	})
	err := k.InstallConsole(t.Context(), ConsoleSpec{Slug: "my-app", Version: "1.131.2"}, longWait())
	if err == nil || err.Error() != "cannot install the admin console: failed to wait for rqlite" {
		t.Errorf("got %v", err)
	}
}

func TestCLIOutput_ReportsEachNewLineWithoutMarks(t *testing.T) {
	var reported []string
	p := &cliOutput{report: func(m string, _, _ int64) { reported = append(reported, m) }}
	for _, piece := range []string{"\x1b[?25l  • Creating name", "space  \r  • Creating namespace ✓\r\n", "\n\x1b[0m ⠋ Waiting\r ⠙ Waiting\r", "Error: This version of X requires\nInstall KOTS version 1.75.0 and try again.\n"} {
		if n, err := p.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
	}
	want := []string{"Creating namespace", "Waiting", "Error: This version of X requires", "Install KOTS version 1.75.0 and try again."}
	if !slices.Equal(reported, want) {
		t.Errorf("reported %q, want %q", reported, want)
	}
	if got := p.errorText(); got != "This version of X requires Install KOTS version 1.75.0 and try again." {
		t.Errorf("the error text is %q", got)
	}
}

// TestCLIOutput_NamesPreflightChecks has the output of KOTS 1.131.2.
func TestCLIOutput_NamesPreflightChecks(t *testing.T) {
	const start = "  • Waiting for preflight checks to complete \u2713  \n"
	for name, c := range map[string]struct{ output, want string }{
		"a failure": {
			"  • There are preflight check failures for the application. The app was not deployed.\n\n" +
				"STATE    TITLE                      MESSAGE\nFAIL     A node for the database    No node has the label a/b.\n\n",
			"preflight checks: fail: A node for the database: No node has the label a/b.",
		},
		"several": {
			"  • There are preflight check failures and warnings for the application. The app was not deployed.\n\nSTATE    TITLE      MESSAGE\n" +
				"PASS     Nodes      There are enough\nof them.\nWARN     Memory     8 GB are\nbetter.\nFAIL     Disk       Too small\n\n",
			"preflight checks: warn: Memory: 8 GB are better.; fail: Disk: Too small",
		},
		"an error": {
			"  • There are preflight check errors for the application. The app was not deployed.\n\n\t- cannot list nodes\n\n",
			"preflight checks: cannot list nodes",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := &cliOutput{}
			if _, err := p.Write([]byte(start + c.output)); err != nil {
				t.Fatal(err)
			}
			if got := p.errorText(); got != c.want {
				t.Errorf("%q", got)
			}
			if cause := anyClient().translate(p.errorText()).cause; !strings.Contains(cause, "own preflight checks fail or warn") {
				t.Errorf("%q", cause)
			}
		})
	}
}

func TestResetPassword_ReplacesPasswordAndEndsSessions(t *testing.T) {
	k, _, s := newBench(t)
	s.Put(api+"secrets/kotsadm-password", map[string]any{"apiVersion": "v1", "kind": "Secret",
		"metadata": map[string]any{"name": "kotsadm-password", "labels": map[string]any{"numAttempts": "11", "lastFailure": "x", "kept": "yes"}},
		"data":     map[string]any{"passwordBcrypt": "b2xk"}})
	s.Put(api+"secrets/kotsadm-sessions", map[string]any{"apiVersion": "v1", "kind": "Secret",
		"metadata": map[string]any{"name": "kotsadm-sessions"}, "data": map[string]any{"someone": "b2xk"}})
	if isSet, err := k.HasPassword(t.Context()); isSet || err != nil {
		t.Errorf("the password of the install counts as set (%v)", err)
	}
	first, err := k.ResetPassword(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if isSet, err := k.HasPassword(t.Context()); !isSet || err != nil {
		t.Errorf("the password does not count as set (%v)", err)
	}
	second, err := k.ResetPassword(t.Context())
	if err != nil || first == second {
		t.Fatalf("%v, or the same password twice", err)
	}
	secret := s.Object(api + "secrets/kotsadm-password")
	hash, _ := base64.StdEncoding.DecodeString(secret["data"].(map[string]any)["passwordBcrypt"].(string))
	if bcrypt.CompareHashAndPassword(hash, []byte(second)) != nil {
		t.Error("the stored hash is not that of the password")
	}
	if labels := secret["metadata"].(map[string]any)["labels"].(map[string]any); len(labels) != 1 || labels["kept"] != "yes" {
		t.Errorf("labels are %v", labels)
	}
	if data := s.Object(api + "secrets/kotsadm-sessions")["data"]; data != nil {
		t.Errorf("sessions are %v", data)
	}
}

func TestResetPassword_ReturnsNotFoundWithoutConsole(t *testing.T) {
	k, _, _ := newBench(t)
	if _, err := k.ResetPassword(t.Context()); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestNewPassword_UsesEveryLetterOfAlphabet(t *testing.T) {
	seen := map[rune]bool{}
	for range 400 {
		p, err := newPassword()
		if err != nil || len(p) != 19 || strings.Count(p, "-") != 3 {
			t.Fatalf("password of length %d, %v", len(p), err)
		}
		for _, r := range p {
			seen[r] = true
		}
	}
	if len(seen) != len(alphabet)+1 || len(alphabet) != 32 {
		t.Errorf("%d letters were used, the alphabet has %d", len(seen), len(alphabet))
	}
}

// putConsoleAnywhere stores the objects that the CLI creates, and a pod of each StatefulSet: they may
// run on any node.
func putConsoleAnywhere(s *kubetest.Server) {
	putConsole(s, "1.131.2")
	for _, name := range []string{"kotsadm-rqlite", "kotsadm"} {
		path := "/apis/apps/v1/namespaces/kotsadm/statefulsets/" + name
		set := s.Object(path)
		unstructured.RemoveNestedField(set, "spec", "template", "spec", "nodeSelector")
		if name == "kotsadm" {
			probe := map[string]any{"httpGet": map[string]any{"path": "/healthz"}, "initialDelaySeconds": int64(10), "periodSeconds": int64(10), "failureThreshold": int64(3)}
			_ = unstructured.SetNestedSlice(set, []any{map[string]any{"name": name, "readinessProbe": probe}}, "spec", "template", "spec", "containers")
			waits := map[string]any{"name": "wait-for-rqlite", "args": []any{"wget -qO- http://kotsadm-rqlite:4001/readyz 2>/dev/null | grep ok"}}
			_ = unstructured.SetNestedSlice(set, []any{waits, map[string]any{"name": "schemahero-plan"}}, "spec", "template", "spec", "initContainers")
		}
		s.Put(path, set)
		s.Put(api+"pods/"+name+"-0", map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name + "-0"}})
	}
}

func TestInstallConsole_BindsItsPodsToControllers(t *testing.T) {
	for name, createdBefore := range map[string]bool{"a new console": false, "one that runs anywhere": true} {
		t.Run(name, func(t *testing.T) {
			k, fake, s := newBench(t)
			if createdBefore {
				putConsoleAnywhere(s)
			} else {
				fake.Expect("kots install my-app").Do(func(host.Cmd) { putConsoleAnywhere(s) })
			}
			if err := k.InstallConsole(t.Context(), ConsoleSpec{Slug: "my-app", Version: "1.131.2"}, longWait()); err != nil {
				t.Fatal(err)
			}
			for _, set := range []string{"kotsadm-rqlite", "kotsadm"} {
				on, _, _ := unstructured.NestedStringMap(s.Object("/apis/apps/v1/namespaces/kotsadm/statefulsets/"+set), "spec", "template", "spec", "nodeSelector")
				if on[controllerLabel] != controllerRole {
					t.Errorf("%s may run on %v", set, on)
				}
				if s.Object(api+"pods/"+set+"-0") != nil {
					t.Errorf("the pod of %s that may run anywhere was kept", set)
				}
			}
			console := &unstructured.Unstructured{Object: s.Object("/apis/apps/v1/namespaces/kotsadm/statefulsets/kotsadm")}
			if got := fmt.Sprint(consoleContainer(console)["readinessProbe"]); got != "map[failureThreshold:15 httpGet:map[path:/healthz] initialDelaySeconds:2 periodSeconds:2]" {
				t.Errorf("the probe is %s", got)
			}
			first, _, _ := unstructured.NestedSlice(console.Object, "spec", "template", "spec", "initContainers")
			if got := fmt.Sprint(first); got != "[map[args:[{ wget -qO- http://kotsadm-rqlite:4001/readyz 2>/dev/null & w=$!; (sleep 5; kill $w) >/dev/null 2>&1 & wait $w; } | grep ok] name:wait-for-rqlite] map[name:schemahero-plan]]" {
				t.Errorf("the init containers are %s", got)
			}
		})
	}
}

// The controller of StatefulSets may create a pod from what it has seen before the patch.
func TestKeepOnControllers_ReplacesOldPodsThatAreNotReady(t *testing.T) {
	for name, c := range map[string]struct {
		role, ready string
		kept        bool
	}{
		"an old pod":            {"", "False", false},
		"an old one, Ready":     {"", "True", true},
		"one that is not ready": {controllerRole, "False", true},
	} {
		t.Run(name, func(t *testing.T) {
			k, _, s := newBench(t)
			putConsole(s, "1.131.2")
			s.Put(api+"pods/kotsadm-0", map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "kotsadm-0"},
				"spec":   map[string]any{"nodeSelector": map[string]any{controllerLabel: c.role}},
				"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": c.ready}}}})
			if err := k.keepOnControllers(t.Context()); err != nil || (s.Object(api+"pods/kotsadm-0") != nil) != c.kept {
				t.Errorf("%v; the pod is %v", err, s.Object(api+"pods/kotsadm-0"))
			}
		})
	}
}

// In a cluster that Plinth did not create, the images come from the given registry and no node is special.
func TestInstallConsole_UsesAnOutsideRegistryOnAnyNode(t *testing.T) {
	k, fake, s := newBench(t)
	k.AnyNode, k.Registry = true, &Registry{Address: "registry.example.com:5000/kotsadm", Username: "ops", Password: "hidden"}
	fake.Expect("kots install my-app --with-minio=false --no-port-forward --wait-duration 20s --airgap --kotsadm-registry registry.example.com:5000/kotsadm --registry-username ops --namespace kotsadm").
		Do(func(c host.Cmd) {
			if !slices.Contains(c.Env, "KOTS_REGISTRY_PASSWORD=hidden") || strings.Contains(strings.Join(c.Argv, " "), "hidden") {
				t.Errorf("env %q, argv %q", c.Env, c.Argv)
			}
			putConsole(s, "1.131.2")
			for _, name := range []string{"kotsadm", "kotsadm-rqlite"} {
				set := s.Object("/apis/apps/v1/namespaces/kotsadm/statefulsets/" + name)
				unstructured.RemoveNestedField(set, "spec", "template", "spec", "nodeSelector")
				s.Put("/apis/apps/v1/namespaces/kotsadm/statefulsets/"+name, set)
			}
		})
	if err := k.InstallConsole(t.Context(), ConsoleSpec{Slug: "my-app", Version: "1.131.2"}, longWait()); err != nil {
		t.Fatal(err)
	}
	if writes := strings.Join(s.Writes(), " "); strings.Contains(writes, "statefulsets") {
		t.Errorf("it moved the pods: %s", writes)
	}
	if state, err := k.ConsoleState(t.Context()); err != nil || !state.Ready {
		t.Errorf("%+v, %v", state, err)
	}
	k.Registry.Address = "other.example.com"
	if state, err := k.ConsoleState(t.Context()); err != nil || state.Ready || !strings.Contains(state.Reason, "is not in the registry other.example.com") {
		t.Errorf("%+v, %v", state, err)
	}
}
