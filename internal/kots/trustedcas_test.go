package kots

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/host"
)

const consoleSet = "/apis/apps/v1/namespaces/kotsadm/statefulsets/kotsadm"

// trustOf returns what the pods of a console have for more authorities: mounts and variables by name.
func trustOf(t *testing.T, set map[string]any) []string {
	t.Helper()
	c := consoleContainer(&unstructured.Unstructured{Object: set})
	volumes, _, _ := unstructured.NestedSlice(set, "spec", "template", "spec", "volumes")
	var names []string
	for _, list := range []any{c["env"], c["volumeMounts"], volumes} {
		all, _ := list.([]any)
		for _, o := range all {
			names = append(names, o.(map[string]any)["name"].(string))
		}
	}
	return names
}

func TestInstallConsole_TrustsAuthorities(t *testing.T) {
	own := []any{map[string]any{"name": "OWN", "value": "1"}}
	volume := []any{map[string]any{"name": "data"}}
	put := func(t *testing.T, set map[string]any) {
		t.Helper()
		containers := []any{map[string]any{"name": "kotsadm", "image": "registry.example.com:5000/kotsadm/kotsadm:v1.131.2", "env": own, "volumeMounts": volume}}
		if err := unstructured.SetNestedSlice(set, containers, "spec", "template", "spec", "containers"); err != nil {
			t.Fatal(err)
		}
		if err := unstructured.SetNestedSlice(set, volume, "spec", "template", "spec", "volumes"); err != nil {
			t.Fatal(err)
		}
	}
	k, fake, s := newBench(t)
	install := func(pem string) {
		t.Helper()
		c := ConsoleSpec{Slug: "my-app", Version: "1.131.2", TrustedCAs: pem}
		if err := k.InstallConsole(t.Context(), c, longWait()); err != nil {
			t.Fatal(err)
		}
		if why, err := k.TrustNeeded(t.Context(), pem); why != "" || err != nil {
			t.Errorf("afterwards: %q, %v", why, err)
		}
	}
	trusting := []string{"OWN", "SSL_CERT_DIR", "SSL_CERT_CONFIGMAP", "data", "kotsadm-private-cas", "data", "kotsadm-private-cas"}

	fake.Expect("kots install my-app --with-minio=false --no-port-forward --wait-duration 20s --private-ca-configmap kotsadm-private-cas --additional-annotations plinth.dev/trusted-cas=" + trustDigest("one") + " --airgap --namespace kotsadm").Do(func(host.Cmd) {
		if data := s.Object(api + "configmaps/kotsadm-private-cas")["data"]; !reflect.DeepEqual(data, map[string]any{"ca.crt": "one"}) {
			t.Errorf("before the CLI runs the ConfigMap has %v", data)
		}
		putConsole(s, "1.131.2")
		set := s.Object(consoleSet)
		put(t, set) // as the CLI before --private-ca-configmap does
		s.Put(consoleSet, set)
	})
	install("one")
	if got := trustOf(t, s.Object(consoleSet)); !slices.Equal(got, trusting) {
		t.Errorf("a new console has %v", got)
	}

	s.Writes()
	install("one")
	if more := s.Writes(); len(more) > 0 {
		t.Errorf("the same authorities again: %v", more)
	}

	s.Put(api+"pods/kotsadm-0", map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "kotsadm-0"}})
	if why, _ := k.TrustNeeded(t.Context(), "two"); !strings.Contains(why, "additionalTrustedCAs") {
		t.Errorf("other authorities: %q", why)
	}
	install("two")
	if s.Object(api+"pods/kotsadm-0") != nil || len(trustOf(t, s.Object(consoleSet))) != len(trusting) {
		t.Error("the pod with the old authorities was kept, or they were added once more")
	}

	set := s.Object(consoleSet)
	put(t, set) // as the CLI does when it upgrades a console
	s.Put(consoleSet, set)
	if why, _ := k.TrustNeeded(t.Context(), "two"); why == "" {
		t.Error("an upgrade of the console drops the authorities, and nothing says so")
	}
	install("two")

	install("")
	if got := trustOf(t, s.Object(consoleSet)); !slices.Equal(got, []string{"OWN", "data", "data"}) || s.Object(api+"configmaps/kotsadm-private-cas") != nil {
		t.Errorf("without any it has %v", got)
	}
}

// A console that somebody else installed keeps the authorities that they gave it.
func TestInstallConsole_KeepsAuthoritiesOfOthers(t *testing.T) {
	k, _, s := newBench(t)
	putConsole(s, "1.131.2")
	set := s.Object(consoleSet)
	containers := []any{map[string]any{"name": "kotsadm", "image": "registry.example.com:5000/kotsadm/kotsadm:v1.131.2",
		"env": []any{map[string]any{"name": "SSL_CERT_CONFIGMAP", "value": trustedCAs}}}}
	if err := unstructured.SetNestedSlice(set, containers, "spec", "template", "spec", "containers"); err != nil {
		t.Fatal(err)
	}
	s.Put(consoleSet, set)
	s.Put(api+"configmaps/"+trustedCAs, map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": trustedCAs}})
	s.Writes()
	if why, err := k.TrustNeeded(t.Context(), ""); why != "" || err != nil {
		t.Errorf("%q, %v", why, err)
	}
	if err := k.InstallConsole(t.Context(), ConsoleSpec{Slug: "my-app", Version: "1.131.2"}, longWait()); err != nil {
		t.Fatal(err)
	}
	if more := s.Writes(); len(more) > 0 {
		t.Errorf("it wrote %v", more)
	}
}
