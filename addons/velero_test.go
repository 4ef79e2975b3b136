package addons_test

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/spec"
)

// testCA is the certificate of an authority.
const testCA = `-----BEGIN CERTIFICATE-----
MIIBgjCCASegAwIBAgIUCJUtGvqV/J2Yu2aMyCZGTk74rSkwCgYIKoZIzj0EAwIw
FTETMBEGA1UEAwwKRXhhbXBsZSBDQTAgFw0yNjExMzAxOTEyNTlaGA8yMTI2MTEw
NjE5MTI1OVowFTETMBEGA1UEAwwKRXhhbXBsZSBDQTBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABHpE2PB5LW1mmsNYXiK4pVFyVwN39yD6sgYO2VPzLHSSbWWYkOWx
YunxciHhf/3yBBstbhsAstFtD2cYhHk3NLijUzBRMB0GA1UdDgQWBBRXwUhdt/GP
YWdqRVKs6gwni/tILDAfBgNVHSMEGDAWgBRXwUhdt/GPYWdqRVKs6gwni/tILDAP
BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0kAMEYCIQC8A6Q+LYxvMmF4Rnqh
vvs3mGFfCgTI/p2XKOcGxsr/5AIhALmK6XOAlV4W+jTPtlu9kAu0j6cl6puvB7Ha
iXZCslII
-----END CERTIFICATE-----
`

// renderVelero returns the objects of the add-on velero of an Installer that change has changed.
func renderVelero(t *testing.T, change func(*spec.Spec)) (text string, objects []*unstructured.Unstructured) {
	t.Helper()
	in := &spec.Installer{}
	in.Spec.Network.PodCIDR, in.Spec.Network.ServiceCIDR = "10.244.0.0/16", "10.96.0.0/12"
	in.Spec.Velero = &spec.Velero{Version: "1.18.3"}
	change(&in.Spec)
	all, err := addons.Resolve(in, "/var/lib/plinth")
	if err != nil {
		t.Fatal(err)
	}
	manifests := renderChart(t, all[len(all)-1])
	if objects, err = kube.Decode(manifests); err != nil {
		t.Fatal(err)
	}
	return string(manifests), objects
}

// find returns the object of a kind with a name.
func find(t *testing.T, objects []*unstructured.Unstructured, kind, name string) map[string]any {
	t.Helper()
	i := slices.IndexFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == kind && o.GetName() == name })
	if i < 0 {
		t.Fatalf("no %s %s", kind, name)
	}
	return objects[i].Object
}

// The console looks for these names and labels, and restarts Velero by the labels of Deployment and DaemonSet (KOTS
// 1.131.2, pkg/snapshot/velero.go): a label that the pods lack would make it find no pod.
func TestVelero_IsFoundByTheConsole(t *testing.T) {
	_, objects := renderVelero(t, func(*spec.Spec) {})
	for name, c := range map[string]struct {
		kind string
		pods map[string]string
	}{
		"velero":     {"Deployment", map[string]string{"component": "velero", "deploy": "velero"}},
		"node-agent": {"DaemonSet", map[string]string{"component": "velero", "name": "node-agent", "role": "node-agent"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := find(t, objects, c.kind, name)
			pods, _, _ := unstructured.NestedStringMap(o, "spec", "template", "metadata", "labels")
			for key, want := range c.pods {
				if pods[key] != want {
					t.Errorf("pods have the labels %v, want %s=%s", pods, key, want)
				}
			}
			own, _, _ := unstructured.NestedStringMap(o, "metadata", "labels")
			if own["component"] != "velero" {
				t.Errorf("labels %v", own)
			}
			for key, value := range own {
				if pods[key] != value {
					t.Errorf("the pods lack the label %s=%s", key, value)
				}
			}
			containers, _, _ := unstructured.NestedSlice(o, "spec", "template", "spec", "containers")
			if len(containers) != 1 {
				t.Errorf("%d containers: the console and Velero change and copy the first", len(containers))
			}
		})
	}
	inits, _, _ := unstructured.NestedSlice(find(t, objects, "Deployment", "velero"), "spec", "template", "spec", "initContainers")
	if len(inits) != 1 || inits[0].(map[string]any)["name"] != "velero-plugin-for-aws" {
		t.Errorf("init containers %v", inits)
	}
	store, _, _ := unstructured.NestedStringMap(find(t, objects, "Deployment", "object-store"), "spec", "template", "metadata", "labels")
	if store["component"] != "" || store["app.kubernetes.io/name"] == "velero" {
		t.Errorf("the console takes the object store for Velero: %v", store)
	}
}

func TestVelero_FollowsTheInstaller(t *testing.T) {
	proxied := spec.Proxy{HTTPSProxy: "http://user:secret@proxy.example.com:3128", NoProxy: []string{"s3.example.com"}}
	for name, c := range map[string]struct {
		change       func(*spec.Spec)
		want, absent []string
	}{
		"default": {func(*spec.Spec) {}, []string{"clusterIP: 10.96.0.12", "path: /var/lib/k0s/kubelet/pods", "umask 077 && mkdir -p /data/objects/snapshots", "chmod o= /data/objects /data/metadata"},
			[]string{"disable-copy-file-range", "envFrom", "PROXY", "SSL_CERT_DIR", "trusted-cas", "checksum/"}},
		"a folder":        {func(s *spec.Spec) { s.Velero.ObjectStore.Folder = "/srv/snapshots" }, []string{"- --disable-copy-file-range"}, []string{"/srv/snapshots"}},
		"no object store": {func(s *spec.Spec) { s.Velero.ObjectStore.Mode = "none" }, []string{"name: node-agent"}, []string{"object-store", "versitygw"}},
		"authorities": {func(s *spec.Spec) { s.AdditionalTrustedCAs = []string{testCA} },
			[]string{"name: SSL_CERT_DIR", "mountPath: /trusted-cas", "checksum/trusted-cas: ", `plinth.crt: "-----BEGIN CERTIFICATE-----`}, nil},
		"a proxy": {func(s *spec.Spec) { s.Proxy = proxied },
			[]string{`HTTPS_PROXY: "http://user:secret@proxy.example.com:3128"`, `NO_PROXY: "localhost,127.0.0.1,10.244.0.0/16,10.96.0.0/12,.svc,.cluster.local,s3.example.com"`, "secretRef: {name: proxy}"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			text, objects := renderVelero(t, c.change)
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("no %q", want)
				}
			}
			for _, absent := range c.absent {
				if strings.Contains(text, absent) {
					t.Errorf("has %q", absent)
				}
			}
			if strings.Count(text, "secret@") > 1 {
				t.Error("the credentials of the proxy are outside of the secret")
			}
			for _, o := range objects {
				if o.GetKind() == "BackupStorageLocation" || o.GetKind() == "PersistentVolumeClaim" {
					t.Errorf("%s belongs to the release: an upgrade would reset or remove it", o.GetKind())
				}
			}
		})
	}
}
