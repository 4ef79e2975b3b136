package addons

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// fullInstaller returns an Installer with every add-on of this build.
func fullInstaller() *spec.Installer {
	in := &spec.Installer{}
	in.Spec.Network.PodCIDR, in.Spec.Network.ServiceCIDR = "10.244.0.0/16", "10.96.0.0/12"
	in.Spec.LocalPathStorage = &spec.AddOn{Version: "0.0.30"}
	in.Spec.Kotsadm = &spec.Kotsadm{Version: "1.131.2", Namespace: "kotsadm", UIBindPort: 8800}
	in.Spec.Registry = &spec.AddOn{Version: "3.1.2"}
	in.Spec.Velero = &spec.Velero{Version: "1.18.3"}
	in.Spec.Prometheus = &spec.Prometheus{Version: "3.16.0", Retention: "15d", RetentionSize: "10GB"}
	in.Spec.LoadBalancer = &spec.LoadBalancer{Version: "0.16.2", Addresses: []string{"192.168.1.240/28"}}
	in.Spec.Ingress = &spec.Ingress{Version: "3.7.13", Expose: spec.ExposeLoadBalancer, HTTPPort: 80, HTTPSPort: 443}
	return in
}

func TestResolve_ReturnsAddOnsInInstallOrder(t *testing.T) {
	got, err := Resolve(fullInstaller(), "/var/lib/plinth")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, a := range got {
		names = append(names, a.Name+" "+a.Version+" "+a.Namespace+"/"+a.Release)
	}
	want := []string{"local-path-storage 0.0.30 local-path-storage/local-path-storage", "load-balancer 0.16.2 load-balancer/load-balancer",
		"ingress 3.7.13 ingress/ingress", "registry 3.1.2 registry/registry", "kotsadm 1.131.2 kotsadm/console-proxy", "velero 1.18.3 velero/velero", "prometheus 3.16.0 prometheus/prometheus"}
	if strings.Join(names, "; ") != strings.Join(want, "; ") {
		t.Errorf("got %q, want %q", names, want)
	}
	if got[4].Deploy != DeployKOTS || got[4].ImageRefs()[0] != "docker.io/kotsadm/kotsadm-migrations:v1.131.2" || len(got[4].ImageRefs()) != 4 {
		t.Errorf("kotsadm is %+v", got[4])
	}
}

func TestResolve_ReturnsOnlyRequestedAddOns(t *testing.T) {
	in := fullInstaller()
	in.Spec = spec.Spec{Network: in.Spec.Network, Kotsadm: in.Spec.Kotsadm}
	got, err := Resolve(in, "/var/lib/plinth")
	if err != nil || len(got) != 1 || got[0].Name != "kotsadm" {
		t.Errorf("got %d add-ons, %v", len(got), err)
	}
}

func TestResolve_ReportsAllUnsupportedVersionsWithTheSupportedOnes(t *testing.T) {
	in := fullInstaller()
	in.Spec.Kotsadm.Version = "1.75.0"
	in.Spec.Registry.Version = "2.8.3"
	in.Spec.LocalPathStorage.Version = "0.0.30-rc.1"
	in.Spec.Velero = &spec.Velero{Version: "1.17.0"}
	_, err := Resolve(in, "/var/lib/plinth")
	if problem.ExitCode(err) != problem.ExitConfig {
		t.Fatalf("exit code %d of %v", problem.ExitCode(err), err)
	}
	for _, want := range []string{
		"spec.kotsadm.version: 1.75.0 is not supported (supported: 1.109.0 and later)",
		"spec.registry.version: 2.8.3 is not supported (supported: 3.1.2)",
		"spec.localPathStorage.version: 0.0.30-rc.1 is a pre-release, which plinth does not install (supported: 0.0.30)",
		"spec.velero.version: 1.17.0 is not supported (supported: 1.18.3)",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
}

func TestResolve_DerivesValuesFromTheInstaller(t *testing.T) {
	in := fullInstaller()
	in.Spec.Network.ServiceCIDR = "172.20.0.0/16"
	in.Spec.Kotsadm.Namespace, in.Spec.Kotsadm.UIBindPort = "console", 30880
	in.Spec.K0s.Config = map[string]any{"spec": map[string]any{"network": map[string]any{"clusterDomain": "corp.local"}}}
	got, err := Resolve(in, "/srv/plinth")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []map[string]any{
		{"path": "/srv/plinth/volumes"},
		{},
		{"expose": "loadBalancer", "httpsPort": 443},
		{"clusterIP": "172.20.0.11"},
		{"nodePort": 30880, "resolver": "172.20.0.10", "upstream": "kotsadm.console.svc.corp.local:3000"},
		{"kubeletDir": "/var/lib/k0s/kubelet", "consoleNamespace": "console"},
		{"retention": "15d", "consoleNamespace": "console"},
	} {
		if got[i].ClusterDomain != "corp.local" {
			t.Errorf("%s: the domain is %s", got[i].Name, got[i].ClusterDomain)
		}
		for key, value := range want {
			if got[i].Values[key] != value {
				t.Errorf("%s: %s is %v, want %v", got[i].Name, key, got[i].Values[key], value)
			}
		}
	}
}

func TestResolve_RejectsTooSmallServiceCIDR(t *testing.T) {
	in := fullInstaller()
	in.Spec.Network.ServiceCIDR = "10.96.0.0/29"
	if _, err := Resolve(in, "/var/lib/plinth"); err == nil || !strings.Contains(err.Error(), "has no address number") {
		t.Errorf("got %v", err)
	}
}

func TestPackChart_GivesTheSameBytesEachTime(t *testing.T) {
	files := fstest.MapFS{
		"Chart.yaml":           {Data: []byte("apiVersion: v2\nname: toy\nversion: 1.2.3\n")},
		"templates/b.yaml":     {Data: []byte("b"), Mode: 0o600},
		"templates/_tools.tpl": {Data: []byte("t")},
	}
	first, err := packChart(files)
	if err != nil {
		t.Fatal(err)
	}
	second, err := packChart(files)
	if err != nil || !bytes.Equal(first.Archive, second.Archive) {
		t.Errorf("packing the same chart again gives different bytes (%v)", err)
	}
	if first.Name != "toy" || first.Version != "1.2.3" || !bytes.Contains(first.Config, []byte(`"name":"toy"`)) {
		t.Errorf("chart is %+v", first)
	}
	if got, want := listArchive(t, first.Archive), "toy/Chart.yaml 0644;toy/templates/_tools.tpl 0644;toy/templates/b.yaml 0644;"; got != want {
		t.Errorf("archive holds %q, want %q", got, want)
	}
}

// listArchive returns the names and modes of the files in a .tgz.
func listArchive(t *testing.T, archive []byte) string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for tr := tar.NewReader(zip); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.IsZero() && h.ModTime.Unix() != 0 {
			t.Errorf("%s has time %s", h.Name, h.ModTime)
		}
		fmt.Fprintf(&out, "%s %04o;", h.Name, h.FileInfo().Mode())
	}
}

// validDefinition is the smallest valid addon.yaml.
const validDefinition = `name: toy
key: toy
title: Toy
deploy: chart
namespace: toy
podSecurity: {enforce: restricted, warn: restricted}
versions:
  - version: 1.0.0
    images: {main: docker.io/library/toy:1.0.0}
values: "a: {{ json .Images.main }}"
`

func TestParseDefinition_RejectsInvalidFields(t *testing.T) {
	tests := []struct{ name, yaml, want string }{
		{"valid", validDefinition, ""},
		{"digest", strings.Replace(validDefinition, "toy:1.0.0}", "toy@sha256:"+strings.Repeat("a", 64)+"}", 1), ""},
		{"unknown key", validDefinition + "imagse: {}\n", "field imagse not found"},
		{"no versions", strings.Replace(validDefinition, "versions:", "versions: []\nx:", 1), "field x not found"},
		{"unknown deploy method", strings.Replace(validDefinition, "deploy: chart", "deploy: magic", 1), `"magic" is neither`},
		{"duplicate version", validDefinition[:strings.Index(validDefinition, "values:")] + "  - version: 1.0.0\n", "1.0.0 is not higher than 1.0.0"},
		{"ranges", strings.Replace(validDefinition, "version: 1.0.0", "from: 1.0.0", 1), ""},
		{"a version and a range in one", strings.Replace(validDefinition, "version: 1.0.0", "version: 1.0.0\n    from: 1.0.0", 1), "exactly one of version and from"},
		{"not a version", strings.Replace(validDefinition, "version: 1.0.0", "from: latest", 1), "exactly one of version and from"},
		{"no tag", strings.Replace(validDefinition, "toy:1.0.0}", "toy}", 1), "not a full image reference"},
		{"no registry", strings.Replace(validDefinition, "docker.io/library/", "", 1), "not a full image reference"},
		{"two documents", validDefinition + "---\n" + validDefinition, "more than one document"},
		{"empty", "", "EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseDefinition([]byte(tt.yaml))
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want …%s…", err, tt.want)
			}
		})
	}
}

func TestLoadDefinitions_RejectsInvalidDependencies(t *testing.T) {
	folder := func(after string) fstest.MapFS {
		return fstest.MapFS{
			"toy/addon.yaml":       {Data: []byte(validDefinition + "after: [" + after + "]\n")},
			"toy/chart/Chart.yaml": {Data: []byte("name: toy\nversion: 1.0.0\n")},
		}
	}
	tests := []struct{ name, after, want string }{
		{"no dependency", "", ""},
		{"dependency on itself", "toy", "toy → toy: cyclic dependency"},
		{"unknown dependency", "gone", `no add-on is named "gone"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := loadDefinitions(folder(tt.after)); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want …%s…", err, tt.want)
			}
		})
	}
}

func FuzzParseDefinition(f *testing.F) {
	f.Add([]byte(validDefinition))
	f.Add([]byte("name: [\n"))
	f.Add([]byte(strings.Replace(validDefinition, "json .Images.main", "nthIP \"10.0.0.0/8\" 99999999999", 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDefinition(b)
		if err != nil {
			return
		}
		if d.Name == "" || len(d.Versions) == 0 || d.Release == "" {
			t.Errorf("accepted %+v", d)
		}
	})
}
