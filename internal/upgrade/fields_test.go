package upgrade_test

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/upgrade"
)

// installer returns the documented Installer after replacements of its text.
func installer(t *testing.T, replace ...string) *spec.Installer {
	t.Helper()
	raw, err := os.ReadFile("../../installer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			t.Fatalf("%q is not in installer.yaml", replace[i])
		}
		text = strings.Replace(text, replace[i], replace[i+1], 1)
	}
	in, findings := spec.ParseInstaller("installer.yaml", []byte(text))
	if in == nil {
		t.Fatal(findings)
	}
	return in
}

// paths returns the path of every field of an Installer, in the order of the types.
func paths(t reflect.Type, at string) (all []string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	for i := range t.NumField() {
		key, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		path := strings.TrimPrefix(at+"."+key, ".")
		switch f := t.Field(i).Type; {
		case f.Kind() == reflect.Pointer:
			all = append(all, path)
			all = append(all, paths(f, path)...)
		case f.Kind() == reflect.Struct:
			all = append(all, paths(f, path)...)
		default:
			all = append(all, path)
		}
	}
	return all
}

// A field of the Installer without a decision would be changed without a word.
func TestFields_HaveARowForEveryField(t *testing.T) {
	var rows []string
	for _, f := range upgrade.Fields().Fields {
		rows = append(rows, f.Path)
	}
	if want := paths(reflect.TypeFor[spec.Installer](), ""); !slices.Equal(rows, want) {
		t.Errorf("rows, in the order of the types:\n%s\nwant\n%s", strings.Join(rows, "\n"), strings.Join(want, "\n"))
	}
}

// Every field that an overlay can set has a decision, and every decision is about such a field.
func TestFields_CoverTheOverlay(t *testing.T) {
	rows := upgrade.Fields().K0sConfig
	covers := func(row, path string) bool { return path == row || strings.HasPrefix(path, row+".") }
	var settable []string
	for _, f := range spec.K0sFields() {
		path := strings.ReplaceAll(f.Path, "[]", "")
		if f.Treatment == spec.Owned {
			continue
		}
		settable = append(settable, path)
		if !slices.ContainsFunc(rows, func(r upgrade.Field) bool { return covers(r.Path, path) }) {
			t.Errorf("spec.k0s.config.%s has no row", path)
		}
	}
	for _, r := range rows {
		if !slices.ContainsFunc(settable, func(path string) bool { return covers(r.Path, path) || covers(path, r.Path) }) {
			t.Errorf("%s: no overlay can set it", r.Path)
		}
	}
}

func TestFields_AreConsistent(t *testing.T) {
	table := upgrade.Fields()
	for _, f := range append(slices.Clone(table.Fields), table.K0sConfig...) {
		switch {
		case !slices.Contains([]upgrade.Effect{upgrade.NoEffect, upgrade.Live, upgrade.Restart, upgrade.NewVersion, upgrade.Refused}, f.On):
			t.Errorf("%s: on is %q", f.Path, f.On)
		case (f.On == upgrade.Refused) != (f.Reason != "") || (f.Reason != "" || f.Removed != "") != (f.Fix != ""):
			t.Errorf("%s: reason and fix belong to refused fields, and to components that cannot be removed", f.Path)
		case !slices.Contains([]string{"", "true", "url"}, f.Secret):
			t.Errorf("%s: secret is %q", f.Path, f.Secret)
		}
	}
}

func TestCompareInstallers(t *testing.T) {
	const proxy, domain = "\n  # proxy:", "    # config:"
	withConfig := func(config string) []string { return []string{domain, "    config: " + config + "\n    # config:"} }
	for name, c := range map[string]struct {
		was, is  []string // replacements in installer.yaml
		changes  []string
		refusals []string // their beginnings
	}{
		"nothing": {},
		"defaults that are written": {is: append(withConfig(`{spec: {network: {clusterDomain: cluster.local}, telemetry: null}}`), "    version: v1.33.8+k0s.1", "    version: v1.33.8+k0s.1\n    workerProfile: default"),
			changes: nil},
		"a version": {is: []string{"version: v1.33.8+k0s.1", "version: v1.34.10+k0s.0"}, changes: []string{"spec.k0s.version: v1.33.8+k0s.1 → v1.34.10+k0s.0 (the component is upgraded)"}},
		"the port of the console": {is: []string{"uiBindPort: 8800", "uiBindPort: 8801"},
			changes: []string{"spec.kotsadm.uiBindPort: 8800 → 8801 (k0s is not restarted); users reach the console at the new port only"}},
		"all that cannot be changed, at once": {
			is: append(withConfig(`{spec: {network: {clusterDomain: k.example}, storage: {etcd: {ca: {expiresAfter: 1h}}}}}`), "name: my-app", "name: other",
				"10.244.0.0/16", "10.200.0.0/16", "10.96.0.0/12", "10.112.0.0/12", "applicationSlug: my-app", "applicationSlug: other", "namespace: kotsadm", "namespace: other"),
			refusals: []string{
				"metadata.name: was my-app, is other: cannot be changed because it names the cluster",
				"spec.k0s.config.spec.network.clusterDomain: was cluster.local, is k.example: cannot be changed because the names of services",
				"spec.k0s.config.spec.storage.etcd.ca.expiresAfter: was (none), is 1h: cannot be changed because etcd's certificate authority exists already; keep the old value",
				"spec.network.podCIDR: was 10.244.0.0/16, is 10.200.0.0/16: cannot be changed because every node and pod already has addresses of it; keep the old value, or install a new cluster with the new one",
				"spec.network.serviceCIDR: was 10.96.0.0/12, is 10.112.0.0/12: cannot be changed because services, the cluster's DNS server and its registry",
				"spec.kotsadm.applicationSlug: was my-app, is other: cannot be changed",
				"spec.kotsadm.namespace: was kotsadm, is other: cannot be changed",
			}},
		"an add-on is added": {was: []string{"  registry:", "  # registry:", "    version: 3.1.2", ""}, changes: []string{"spec.registry: (none) → installed (k0s is not restarted)"}},
		"an add-on is removed": {is: []string{"  registry:", "  # registry:", "    version: 3.1.2", ""},
			changes: []string{"spec.registry: installed → (none) (k0s is not restarted); pods can no longer pull the images that the application has stored in it"}},
		"curated add-ons are removed": {
			was: []string{proxy, "\n  loadBalancer: {version: 0.16.2, addresses: [10.0.0.0/28]}\n  ingress: {version: 3.7.13}\n  prometheus: {version: 3.16.0}\n  # proxy:"},
			changes: []string{
				"spec.loadBalancer: installed → (none) (k0s is not restarted); services lose their addresses; MetalLB's CRDs and objects of them that others have created are kept",
				"spec.ingress: installed → (none) (k0s is not restarted); users reach no Ingress; Traefik's CRDs and their objects, such as IngressRoutes, are kept",
				"spec.prometheus: installed → (none) (k0s is not restarted); the console shows no graphs; the volume with the metrics is kept",
			}},
		"addresses of the load balancer": {
			was:     []string{proxy, "\n  loadBalancer: {version: 0.16.2, addresses: [10.0.0.0/28]}\n  # proxy:"},
			is:      []string{proxy, "\n  loadBalancer: {version: 0.16.2, addresses: [10.0.0.0/29]}\n  # proxy:"},
			changes: []string{"spec.loadBalancer.addresses: 10.0.0.0/28 → 10.0.0.0/29 (k0s is not restarted); a service whose address is not in the list any more gets another one"}},
		"metrics-server is turned off": {is: []string{proxy, "\n  metricsServer: {disabled: true}\n  # proxy:"},
			changes: []string{"spec.metricsServer.disabled: false → true (k0s is restarted on each node); without it, kubectl top and HorizontalPodAutoscalers by CPU or memory do not work"}},
		"a proxy, without its password": {was: []string{proxy, "\n  proxy: {httpProxy: 'http://user:hunter2@a.example:3128', noProxy: [.a.example]}\n  # proxy:"},
			is: []string{proxy, "\n  proxy: {httpProxy: 'http://user:hunter3@b.example:3128', httpsProxy: 'http://p.example:1', noProxy: [.a.example, 10.0.0.0/8]}\n  # proxy:"},
			changes: []string{
				"spec.proxy.httpProxy: http://(hidden)@a.example:3128 → http://(hidden)@b.example:3128 (k0s is restarted on each node)",
				"spec.proxy.httpsProxy: (none) → http://p.example:1 (k0s is restarted on each node)",
				"spec.proxy.noProxy: .a.example → .a.example, 10.0.0.0/8 (k0s is restarted on each node)",
			}},
		"only the password of the proxy": {was: []string{proxy, "\n  proxy: {httpProxy: 'http://user:hunter2@a.example:3128'}\n  # proxy:"},
			is:      []string{proxy, "\n  proxy: {httpProxy: 'http://user:hunter3@a.example:3128'}\n  # proxy:"},
			changes: []string{"spec.proxy.httpProxy: its hidden part differs (k0s is restarted on each node)"}},
		"fields of the overlay": {was: withConfig(`{spec: {api: {sans: [a.example]}, extensions: {helm: {repositories: [{name: a, url: 'http://a', password: hunter2}]}}}}`),
			is: withConfig(`{spec: {api: {sans: [a.example, b.example]}, controllerManager: {extraArgs: {v: "4"}}, telemetry: {enabled: true}}}`),
			changes: []string{
				`spec.k0s.config.spec.api.sans: ["a.example"] → ["a.example","b.example"] (k0s is restarted on each node); the API server gets a new certificate`,
				"spec.k0s.config.spec.controllerManager.extraArgs.v: (none) → (hidden) (k0s is restarted on each node)",
				"spec.k0s.config.spec.extensions.helm.repositories: (hidden) → (none) (k0s is restarted on each node); k0s installs and upgrades its charts itself; a rollback of the upgrade does not undo them",
				"spec.k0s.config.spec.telemetry.enabled: (none) → true (k0s is restarted on each node)",
			}},
		"a check": {is: []string{"\n  # hostPreflights:", "\n  hostPreflights: {collectors: [{cpu: {}}]}\n  # hostPreflights:"},
			changes: []string{"spec.hostPreflights.collectors: (none) → (hidden) (no effect on a running cluster)"}},
	} {
		t.Run(name, func(t *testing.T) {
			changes, refusals := upgrade.CompareInstallers(installer(t, c.was...), installer(t, c.is...))
			var texts []string
			for _, ch := range changes {
				texts = append(texts, ch.String())
			}
			if !slices.Equal(texts, c.changes) {
				t.Errorf("changes:\n%s\nwant\n%s", strings.Join(texts, "\n"), strings.Join(c.changes, "\n"))
			}
			if len(refusals) != len(c.refusals) {
				t.Fatalf("refusals: %q", refusals)
			}
			for i, r := range refusals {
				if r.Exit != problem.ExitConfig || !strings.HasPrefix(r.String(), c.refusals[i]) {
					t.Errorf("exit %d, %s\nwant %s", r.Exit, r, c.refusals[i])
				}
			}
			raw, err := json.Marshal([]any{changes, refusals})
			if err != nil || strings.Contains(string(raw), "hunter") {
				t.Errorf("%v: a secret is in %s", err, raw)
			}
		})
	}
}

func TestCompareInstallers_KeepsWhatHoldsData(t *testing.T) {
	was, is := installer(t), installer(t)
	is.Spec.Kotsadm, is.Spec.LocalPathStorage = nil, nil
	changes, refusals := upgrade.CompareInstallers(was, is)
	if len(changes) > 0 || len(refusals) != 2 ||
		!strings.HasPrefix(refusals[0].String(), "spec.kotsadm: was installed, is (none): cannot be removed because the console's database holds") ||
		!strings.HasPrefix(refusals[1].String(), "spec.localPathStorage: was installed, is (none): cannot be removed because volumes of the cluster") {
		t.Errorf("%q %q", changes, refusals)
	}
	if changes, refusals := upgrade.CompareInstallers(is, was); len(changes) != 2 || len(refusals) > 0 {
		t.Errorf("added: %q %q", changes, refusals)
	}
}
