package node

import (
	"encoding/json"
	"github.com/plinthdev/plinth/internal/testkit"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/node/cleanup"
)

func TestSysctlKind_RestoresValuesNotChangedByOthers(t *testing.T) {
	cases := map[string]struct {
		key, before, now string
		want             string // value to restore, "" for none
	}{
		"set by the cluster":                             {"kernel.panic", "0", "10", "0"},
		"set by the cluster to the value before it":      {"kernel.panic", "10", "10", ""},
		"changed by others since":                        {"kernel.panic", "0", "30", ""},
		"computed by kube-proxy":                         {"net.netfilter.nf_conntrack_max", "65536", "131072", "65536"},
		"raised by Plinth":                               {"fs.inotify.max_user_instances", "128", "512", "128"},
		"of a module that was not loaded before":         {"net.netfilter.nf_conntrack_max", "", "131072", ""},
		"of a bridge whose module was not loaded before": {"net.bridge.bridge-nf-call-iptables", "", "1", "0"},
		"of a bridge whose module is unloaded again":     {"net.bridge.bridge-nf-call-iptables", "1", "", ""},
		"changed by the kernel with forwarding":          {"net.ipv4.conf.all.accept_redirects", "0", "1", "0"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := hosttest.New(t)
			if c.now != "" {
				testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/sys/" + strings.ReplaceAll(c.key, ".", "/"): c.now + "\n"})
			}
			cl := cleanup.DefaultScope()
			cl.Before = &cleanup.HostState{Sysctls: map[string]string{c.key: c.before}}
			k := sysctlKind(cleanup.Finder{Host: f.Host(), Scope: cl})
			found, err := k.Find(t.Context())
			if err != nil || (len(found) == 1) != (c.want != "") {
				t.Fatalf("found %q, %v", found, err)
			}
			if c.want == "" {
				return
			}
			f.Expect("sysctl -q -w " + c.key + "=" + c.want).Do(func(host.Cmd) {
				testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/sys/" + strings.ReplaceAll(c.key, ".", "/"): c.want + "\n"})
			})
			if r := k.Remove(t.Context()); r.Err != nil || !reflect.DeepEqual(r.Removed, found) {
				t.Errorf("%+v", r)
			}
		})
	}
	if got := changedSysctls(cleanup.Finder{Host: hosttest.New(t).Host(), Scope: cleanup.DefaultScope()}); got != nil {
		t.Errorf("without a recorded state: %v", got)
	}
}

// ufw does not accept redirects on a host that does not forward. The kernel does from when forwarding is restored.
func TestSysctlKind_RestoresWhatTheKernelChangesMeanwhile(t *testing.T) {
	f := hosttest.New(t)
	const forward, redirects = "net.ipv4.ip_forward", "net.ipv4.conf.all.accept_redirects"
	set := func(key, value string) {
		testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/sys/" + strings.ReplaceAll(key, ".", "/"): value + "\n"})
	}
	set(forward, "1")
	set(redirects, "0")
	scope := cleanup.DefaultScope()
	scope.Before = &cleanup.HostState{Sysctls: map[string]string{forward: "0", redirects: "0"}}
	f.Expect("sysctl -q -w " + forward + "=0").Do(func(host.Cmd) {
		set(forward, "0")
		set(redirects, "1")
	})
	f.Expect("sysctl -q -w " + redirects + "=0").Do(func(host.Cmd) { set(redirects, "0") })
	if r := sysctlKind(cleanup.Finder{Host: f.Host(), Scope: scope}).Remove(t.Context()); r.Err != nil {
		t.Errorf("%+v", r)
	}
}

func TestGatherHostState_IsCompleteAfterJournalRoundTrip(t *testing.T) {
	f := newBareHost(t)
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/usr/sbin/nft": "", "/proc/self/mountinfo": "24 1 254:1 / / rw - ext4 /dev/vda1 rw\n", "/etc/k0s/containerd.d/a.toml": "x",
		"/etc/passwd": "etcd:x:105:110::/var/lib/etcd:/usr/sbin/nologin\n"})
	f.Expect("/usr/sbin/nft -j list ruleset").Return(`{"nftables": [{"metainfo": {}}]}`, nil)
	b, err := GatherHostState(t.Context(), host.ReadOnly(f.Host()), cleanup.DefaultScope())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	var back cleanup.HostState
	if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(&back, b) {
		t.Errorf("%v\n%s", err, text)
	}
	if b.Sysctls["net.ipv4.ip_forward"] != "0" || b.Sysctls["net.bridge.bridge-nf-call-iptables"] != "" || len(b.Sysctls) != len(AffectedSysctls()) {
		t.Errorf("sysctls %v", b.Sysctls)
	}
	if !reflect.DeepEqual(b.Users, []string{"etcd"}) {
		t.Errorf("users %q", b.Users)
	}
	if b.Tables == nil || len(b.Tables) != 0 || string(b.Paths["/etc/k0s/containerd.d/a.toml"].Content) != "x" {
		t.Errorf("%+v", b)
	}
}

// The search on a host without a cluster must change nothing and find nothing. The order of the
// kinds is what each of them relies on.
func TestLeftovers_FindNothingOnHostWithoutCluster(t *testing.T) {
	f := newBareHost(t)
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/self/mountinfo": "24 1 254:1 / / rw - ext4 /dev/vda1 rw\n", "/etc/passwd": "root:x:0:0::/root:/bin/sh\n"})
	f.Expect("ip -j -d link show").Return(`[{"ifname":"lo"}]`, nil)
	f.Expect("ip -").AnyTimes()
	c := cleanup.DefaultScope(netip.MustParsePrefix("10.244.0.0/16"))
	c.Before = &cleanup.HostState{Tables: []string{}}
	var ids []string
	for _, r := range cleanup.Remove(t.Context(), Leftovers(host.ReadOnly(f.Host()), c), nil) {
		ids = append(ids, r.Kind.ID)
		if r.Err != nil || len(r.Removed)+len(r.Remaining) > 0 {
			t.Errorf("%s: removed %q, left %q, %v", r.Kind.ID, r.Removed, r.Remaining, r.Err)
		}
	}
	want := "units processes mounts cgroups links network-namespaces routes firewall-rules firewall-tables address-sets sysctls files users"
	if got := strings.Join(ids, " "); got != want {
		t.Errorf("order %q, want %q", got, want)
	}
}
