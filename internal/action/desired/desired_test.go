package desired

import (
	"cmp"
	"fmt"
	"github.com/plinthdev/plinth/internal/testkit"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/images"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

const dataDir = "/var/lib/plinth"

func open(t *testing.T, req build.Request) *airgap.Bundle {
	t.Helper()
	b, err := airgap.Open(t.Context(), airgaptest.WriteBundle(t, req))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func installer(t *testing.T) *spec.Installer {
	t.Helper()
	raw, err := os.ReadFile("../../../installer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	in, findings := spec.ParseInstaller("installer.yaml", raw)
	if in == nil {
		t.Fatalf("%+v", findings)
	}
	return in
}

func clock() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func emptyJournal(t *testing.T) *journal.Journal {
	t.Helper()
	j, err := journal.Open(hosttest.New(t).Host(), dataDir, clock)
	testkit.Must(t, err)
	return j
}

func refs(list []images.Image) string {
	var all []string
	for _, i := range list {
		all = append(all, i.Ref)
	}
	return strings.Join(all, " ")
}

func TestSplitImages_OrdersBootImagesByNeedAndTheRestBySize(t *testing.T) {
	b := open(t, airgaptest.NewRequest(t))
	const pause, coredns, kotsadm = "registry.k8s.io/pause:3.10", "quay.io/k0sproject/coredns:1.12.2", "docker.io/kotsadm/kotsadm:v1.131.2"
	for name, c := range map[string]struct {
		want       []string
		boot, rest string
	}{
		"two boot images": {[]string{coredns, pause}, coredns + " " + pause, kotsadm},
		"no boot images":  {nil, "", coredns + " " + pause + " " + kotsadm},
	} {
		t.Run(name, func(t *testing.T) {
			boot, rest, err := splitImages(b, c.want)
			if err != nil || refs(boot) != c.boot || refs(rest) != c.rest {
				t.Errorf("%v: boot %s; rest %s; %v", c.want, refs(boot), refs(rest), err)
			}
			if !slices.IsSortedFunc(rest, func(x, y images.Image) int { return cmp.Compare(y.Size(), x.Size()) }) {
				t.Errorf("%v: the largest of the rest does not come first", c.want)
			}
			for _, i := range append(boot, rest...) {
				if n := len(i.Blobs); n < 2 || i.Manifest.Digest == "" {
					t.Errorf("%s: %d blobs, manifest %v", i.Ref, n, i.Manifest)
				}
			}
		})
	}
}

func TestSplitImages_RefusesBundleWithoutBootImage(t *testing.T) {
	_, _, err := splitImages(open(t, airgaptest.NewRequest(t)), []string{"registry.k8s.io/pause:3.10", "quay.io/k0sproject/kube-proxy:v1.33.8"})
	if problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(err.Error(), "it does not contain the image quay.io/k0sproject/kube-proxy:v1.33.8") || problem.Hint(err) == "" {
		t.Errorf("error is %v", err)
	}
	m := config.Config{Installer: installer(t)}
	site := Target{Host: hosttest.New(t).Host(), Journal: emptyJournal(t), Now: clock, DataDir: dataDir, Node: "n1", Address: netip.MustParseAddr("10.0.0.5")}
	if _, err := InstallSteps(t.Context(), site, open(t, airgaptest.NewRequest(t)), m, false); problem.ExitCode(err) != problem.ExitBundle {
		t.Errorf("install: %v", err)
	}
}

// A k0s of another version than the linked one runs the images of its bundle.
func TestBuildCluster_TakesTheImagesOfTheBundle(t *testing.T) {
	known, err := k0s.KnownImages("v1.36.3+k0s.2")
	testkit.Must(t, err)
	req := airgaptest.NewRequest(t)
	req.Images = known
	var content []airgaptest.Image
	for _, ref := range known {
		content = append(content, airgaptest.Image{Ref: ref, Files: []string{ref}})
	}
	req.Layout = airgaptest.WriteLayout(t, content, airgaptest.HostFiles())
	target := Target{Host: hosttest.New(t).Host(), Journal: emptyJournal(t), Now: clock, DataDir: dataDir, Node: "n1", Address: netip.MustParseAddr("10.0.0.5")}
	c, err := buildCluster(t.Context(), target, open(t, req), installer(t))
	testkit.Must(t, err)
	if got := refs(c.Images.Boot); got != strings.Join(known, " ") || len(c.Images.Rest) > 0 {
		t.Errorf("the node boots with %s, want %v", got, known)
	}
	rendered, err := k0s.RenderConfig(c.K0s.Settings)
	testkit.Must(t, err)
	for _, tag := range []string{"1.14.6-k0s.0", "v1.36.3-1", "3.10.2-0"} {
		if !strings.Contains(string(rendered), "version: "+tag) {
			t.Errorf("the configuration lacks %s:\n%s", tag, rendered)
		}
	}
}

func TestHostArtifacts_MapsKnownFilesAndRefusesUnknownOnes(t *testing.T) {
	files, err := hostArtifacts(t.Context(), open(t, airgaptest.NewRequest(t)))
	testkit.Must(t, err)
	if k := files[k0s.BinaryPath]; len(files) != 2 || k.Path != k0s.BinaryPath || files[kots.BinaryPath].Path != kots.BinaryPath || k.Mode != 0o755 {
		t.Errorf("files are %+v", files)
	}
	req := airgaptest.NewRequest(t)
	req.Layout = airgaptest.WriteLayout(t, airgaptest.Images(), []airgaptest.HostFile{{Name: "later", Version: "1.0.0", Content: "x"}})
	req.HostFiles = []build.HostFile{{Name: "later", Version: "1.0.0"}}
	if _, err := hostArtifacts(t.Context(), open(t, req)); problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(err.Error(), "later") {
		t.Errorf("unknown file: %v", err)
	}
}

func TestConsoleURL_PrefersTheHostName(t *testing.T) {
	for name, c := range map[string]struct {
		console       journal.Console
		address, want string
	}{
		"IPv4 address": {journal.Console{Port: 8800}, "10.0.0.5", "https://10.0.0.5:8800"},
		"host name":    {journal.Console{Port: 30000, Hostname: "console.example.com"}, "10.0.0.5", "https://console.example.com:30000"},
		"IPv6 address": {journal.Console{Port: 8800}, "2001:db8::5", "https://[2001:db8::5]:8800"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ConsoleURL(c.console, c.address); got != c.want {
				t.Errorf("%+v: %s", c, got)
			}
		})
	}
}

func TestDesiredConsole_UsesTheNodeAddressAndCertifiesAllNames(t *testing.T) {
	in := installer(t)
	site := Target{Node: "n1", Address: netip.MustParseAddr("10.0.0.5")}
	m := config.Config{Installer: in, App: &kots.App{Slug: "my-app"}, AppID: "id"}
	c := desiredConsole(site, m, true)
	if c.URL != "https://10.0.0.5:8800" || !slices.Equal(c.CertificateHosts, []string{"10.0.0.5", "n1", "localhost", "127.0.0.1"}) {
		t.Errorf("%s for %v", c.URL, c.CertificateHosts)
	}
	if c.App == nil || !c.App.SkipCompat || m.App.SkipCompat || c.AppID != "id" {
		t.Errorf("app is %+v", c.App)
	}
	in.Spec.Kotsadm.Hostname = "console.example.com"
	if c := desiredConsole(site, m, false); c.URL != "https://10.0.0.5:8800" || c.CertificateHosts[0] != "console.example.com" || c.App.SkipCompat {
		t.Errorf("with a name: %+v", c)
	}
	in.Spec.Kotsadm = nil
	if c := desiredConsole(site, m, false); c.Namespace != "" || c.App != nil {
		t.Errorf("without a console: %+v", c)
	}
}

func TestProxySettings_ExemptTheClusterItself(t *testing.T) {
	in := installer(t)
	address := netip.MustParseAddr("10.0.0.5")
	if p := proxySettings(in, address); p.HTTP != "" || p.HTTPS != "" || p.NoProxy != nil {
		t.Errorf("without a proxy: %+v", p)
	}
	in.Spec.Proxy = spec.Proxy{HTTPSProxy: "http://proxy:3128", NoProxy: []string{".example.com"}}
	p := proxySettings(in, address)
	for _, want := range []string{"localhost", "127.0.0.1", "10.0.0.5", "10.244.0.0/16", "10.96.0.0/12", ".svc", ".cluster.local", ".example.com"} {
		t.Run(want, func(t *testing.T) {
			if !slices.Contains(p.NoProxy, want) {
				t.Errorf("%s goes through the proxy: %v", want, p.NoProxy)
			}
		})
	}
}

func TestInstallRequirements_NeedCgroupV2FromKubernetes135(t *testing.T) {
	b := open(t, airgaptest.NewRequest(t))
	for version, want := range map[string]bool{"v1.33.8+k0s.1": false, "v1.34.10+k0s.0": false, "v1.35.1+k0s.0": true, "v1.36.3+k0s.2": true} {
		t.Run(version, func(t *testing.T) {
			in := installer(t)
			in.Spec.K0s.Version = version
			install, join := InstallRequirements(b, in, emptyJournal(t), dataDir), JoinRequirements(b, in, emptyJournal(t), dataDir, hostpreflight.Worker)
			if install.NeedsCgroupV2 != want || join.NeedsCgroupV2 != want {
				t.Errorf("install %v, join %v, want %v", install.NeedsCgroupV2, join.NeedsCgroupV2, want)
			}
		})
	}
}

func TestProxySettings_ExemptTheDomainOfTheOverlay(t *testing.T) {
	in := installer(t)
	in.Spec.Proxy = spec.Proxy{HTTPSProxy: "http://proxy:3128"}
	in.Spec.K0s.Config = map[string]any{"spec": map[string]any{"network": map[string]any{"clusterDomain": "corp.local"}}}
	p := proxySettings(in, netip.MustParseAddr("10.0.0.5"))
	if !slices.Contains(p.NoProxy, ".corp.local") || slices.Contains(p.NoProxy, ".cluster.local") {
		t.Error(p.NoProxy)
	}
}

func TestSharedConfig_HasWhatTheOverlaySetsForAllHosts(t *testing.T) {
	for name, c := range map[string]struct {
		k0s             spec.K0s
		domain, profile string
	}{
		"no overlay":         {spec.K0s{}, "cluster.local", ""},
		"null":               {spec.K0s{Config: map[string]any{"spec": nil}}, "cluster.local", ""},
		"domain":             {spec.K0s{Config: map[string]any{"spec": map[string]any{"network": map[string]any{"clusterDomain": "corp.local"}}}}, "corp.local", ""},
		"the profile of k0s": {spec.K0s{WorkerProfile: spec.DefaultWorkerProfile}, "cluster.local", ""},
		"another profile":    {spec.K0s{WorkerProfile: "dense"}, "cluster.local", "dense"},
	} {
		t.Run(name, func(t *testing.T) {
			in := installer(t)
			in.Spec.K0s = c.k0s
			got := map[string]string{}
			for _, f := range SharedConfig(in, "", dataDir, "v1") {
				got[f.Name] = f.Value
			}
			if got["cluster domain"] != c.domain || got["spec.k0s.workerProfile"] != c.profile {
				t.Error(got)
			}
		})
	}
}

func TestInstallRequirements_ComeFromTheBundle(t *testing.T) {
	b := open(t, airgaptest.NewRequest(t))
	m := config.Config{Installer: installer(t)}
	w := InstallRequirements(b, m.Installer, emptyJournal(t), dataDir)
	if w.Verb != "install" || w.Role != hostpreflight.Controller || w.Arch != "amd64" || w.KubernetesMinor != 33 || w.ConsolePort != 8800 {
		t.Errorf("requirements are %+v", w)
	}
	if w.Containerd != (hostpreflight.Containerd{Version: 2, DropIn: "/etc/k0s/containerd.d/plinth.toml"}) {
		t.Errorf("containerd of k0s %s: %+v", m.Installer.Spec.K0s.Version, w.Containerd)
	}
	if w.PodCIDR.String() != "10.244.0.0/16" || w.ServiceCIDR.String() != "10.96.0.0/12" {
		t.Errorf("networks %s, %s", w.PodCIDR, w.ServiceCIDR)
	}
	size := b.ContentSize()
	if size.Stored == 0 || size.Unpacked == 0 || size.Host == 0 {
		t.Fatalf("the bundle is empty: %+v", size)
	}
	for _, want := range []hostpreflight.WritePath{
		{Path: "/var/lib/k0s", Bytes: 5e8, Exec: true, Pods: true},
		{Path: "/var/lib/k0s/containerd", Bytes: uint64(size.Stored + size.Unpacked), Exec: true, Pods: true},
		{Path: "/usr/local/bin", Bytes: uint64(size.Host) + 150e6, Exec: true},
		{Path: dataDir, Bytes: 5 << 30},
	} {
		t.Run(want.Path, func(t *testing.T) {
			if !slices.ContainsFunc(w.WritePaths, func(d hostpreflight.WritePath) bool {
				want.Purpose = d.Purpose
				return d == want
			}) {
				t.Errorf("no disk %+v among %+v", want, w.WritePaths)
			}
		})
	}
	m.Installer.Spec.K0s.Version = "v1.36.3+k0s.2"
	if w := InstallRequirements(b, m.Installer, emptyJournal(t), dataDir); w.Containerd.Version != 3 {
		t.Errorf("containerd of k0s 1.36: %+v", w.Containerd)
	}
	m.Installer.Spec.Kotsadm = nil
	if w := InstallRequirements(b, m.Installer, emptyJournal(t), dataDir); w.ConsolePort != 0 {
		t.Errorf("console port %d without a console", w.ConsolePort)
	}
}

func TestInstallRequirements_HaveThePortsOfAddOns(t *testing.T) {
	b := open(t, airgaptest.NewRequest(t))
	balancer := &spec.LoadBalancer{Version: "0.16.2"}
	for name, c := range map[string]struct {
		balancer *spec.LoadBalancer
		ingress  *spec.Ingress
		want     map[string]int
	}{
		"none":            {want: map[string]int{}},
		"a load balancer": {balancer, &spec.Ingress{Expose: spec.ExposeLoadBalancer, HTTPPort: 80, HTTPSPort: 443}, map[string]int{"load-balancer-health": 17472}},
		"host ports":      {nil, &spec.Ingress{Expose: spec.ExposeHostPorts, HTTPPort: 8080, HTTPSPort: 8443}, map[string]int{"ingress-http": 8080, "ingress-https": 8443}},
	} {
		t.Run(name, func(t *testing.T) {
			in := installer(t)
			in.Spec.LoadBalancer, in.Spec.Ingress = c.balancer, c.ingress
			if w := InstallRequirements(b, in, emptyJournal(t), dataDir); !maps.Equal(w.Ports, c.want) {
				t.Errorf("ports %v, want %v", w.Ports, c.want)
			}
		})
	}
}

func TestInstallRequirements_HaveWhatAddOnsNeed(t *testing.T) {
	b, in := open(t, airgaptest.NewRequest(t)), installer(t)
	in.Spec.LoadBalancer = &spec.LoadBalancer{Addresses: []string{"10.0.0.240/31", "10.0.0.250-10.0.0.251"}}
	in.Spec.Prometheus = &spec.Prometheus{RetentionSize: "10GB"}
	w := InstallRequirements(b, in, emptyJournal(t), dataDir)
	if got := fmt.Sprint(w.LoadBalancer); got != "[10.0.0.240-10.0.0.241 10.0.0.250-10.0.0.251]" {
		t.Error(got)
	}
	for storage, want := range map[*spec.AddOn]uint64{in.Spec.LocalPathStorage: 15 << 30, nil: 5 << 30} {
		in.Spec.LocalPathStorage = storage
		for _, d := range InstallRequirements(b, in, emptyJournal(t), dataDir).WritePaths {
			if d.Path == dataDir && d.Bytes != want {
				t.Errorf("storage %v: %d bytes, want %d", storage, d.Bytes, want)
			}
		}
	}
}

func TestUpgradeRequirements_CountOnlyWhatTheHostLacks(t *testing.T) {
	b, in := open(t, airgaptest.NewRequest(t)), installer(t)
	size, f := b.ContentSize(), hosttest.New(t)
	for name, staged := range map[string]bool{"of one node": false, "of several nodes": true} {
		t.Run(name, func(t *testing.T) {
			w, err := UpgradeRequirements(t.Context(), Target{Host: f.Host(), Journal: emptyJournal(t), DataDir: dataDir}, b, in, staged)
			testkit.Must(t, err)
			bytes := map[string]uint64{}
			for _, p := range w.WritePaths {
				bytes[p.Path] = p.Bytes
			}
			all := uint64(size.Stored+size.Unpacked) - manifestBytes(b) // without containerd, all images may be missing
			if w.Verb != hostpreflight.Upgrade || bytes[k0s.DataDir+"/containerd"] != all || bytes[dataDir] != uint64(size.Host)+150e6+5e8 || (bytes[action.FetchDir] > 0) != staged {
				t.Errorf("%+v", w.WritePaths)
			}
		})
	}
	var first []ocispec.Descriptor
	first = append(first, b.Images()[0].Layers[0], b.Images()[0].Layers[0])
	if none, one := missingImageBytes(b, nil), missingImageBytes(b, first); none != 0 || one < uint64(first[0].Size) || one > uint64(size.Stored+size.Unpacked) {
		t.Errorf("%d without a missing blob, %d with one", none, one)
	}
}

// manifestBytes returns the size of the manifests of all images, which are not blobs of theirs.
func manifestBytes(b *airgap.Bundle) (sum uint64) {
	for _, i := range b.Images() {
		sum += uint64(i.Manifest.Size)
	}
	return sum
}

func TestFindOwned_ListsWhatEarlierRunsInstalled(t *testing.T) {
	j := emptyJournal(t)
	if o := findOwned(j, dataDir); o.Installed || len(o.Units) != 0 || !slices.Equal(o.Paths, []string{dataDir}) {
		t.Errorf("a bare host: %+v", o)
	}
	testkit.Must(t, j.BeginRun("install", journal.Args{}))
	testkit.Must(t, j.BeginStep("kernel", []string{"/etc/modules-load.d/plinth.conf", "sysctl:net.ipv4.ip_forward"}))
	o := findOwned(j, dataDir)
	if o.Installed || !slices.Equal(o.Units, []string{k0s.ControllerUnit, k0s.WorkerUnit}) || !slices.Equal(o.Paths, []string{dataDir, "/etc/modules-load.d/plinth.conf"}) {
		t.Errorf("after a kill before k0s: %+v", o)
	}
	testkit.Must(t, j.EndStep("kernel", nil))
	testkit.Must(t, j.BeginStep("k0s-start", []string{k0s.DataDir, k0s.ControllerUnit}))
	if o := findOwned(j, dataDir); !o.Installed || !slices.Contains(o.Paths, k0s.DataDir) {
		t.Errorf("after a kill in the start of k0s: %+v", o)
	}
}
