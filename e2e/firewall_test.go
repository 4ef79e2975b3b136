//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
)

// dropByDefault is a host's own table of nftables, as /etc/nftables.conf loads it. It does not flush the rules of others.
const dropByDefault = `#!/usr/sbin/nft -f
table inet host
delete table inet host
table inet host {
	chain input {
		type filter hook input priority 0; policy drop;
		ct state established,related accept
		iif lo accept
		icmp type echo-request accept
	}
	chain forward {
		type filter hook forward priority 0; policy drop;
	}
}
`

// closedPort is a port that no rule opens.
const closedPort = "7777"

// hostFirewall is a firewall of a host.
type hostFirewall struct {
	packages []string // of Debian
	setUp    string   // script that turns it on
	reload   string
	command  string   // in what the preflights print
	plan     []string // in the plan of a controller
}

var (
	firewalld = hostFirewall{packages: []string{"firewalld"}, setUp: "systemctl enable --now firewalld", reload: "firewall-cmd --reload",
		command: "firewall-cmd --permanent --new-zone=plinth",
		plan:    []string{"firewalld: 6443/tcp from everywhere", "firewalld: 179, 2380, 9444, 10250/tcp from 10.77."}}
	ufw = hostFirewall{packages: []string{"ufw"}, setUp: "ufw allow 22/tcp && ufw --force enable && systemctl enable --now ufw", reload: "ufw reload",
		command: "ufw allow from",
		plan:    []string{"ufw: 6443/tcp from everywhere", "ufw: 179, 2380, 9444, 10250/tcp from 10.77."}}
	nftables = hostFirewall{setUp: "cat >/etc/nftables.conf <<'END'\n" + dropByDefault + "END\nsystemctl enable --now nftables", reload: "systemctl reload nftables",
		command: "nft insert rule inet host input jump plinth-input",
		plan:    []string{"inet host input: accept tcp dport", "inet host forward: accept ip daddr", "/etc/plinth-firewall.sh"}}
)

// TestFirewall_StaysOn forms a cluster of hosts with firewalld, ufw and a table of nftables that drops by default. Pods,
// services and the console work, also after the firewalls were reloaded and the hosts were booted; other ports stay
// closed; and a reset leaves the firewalls as they were.
func TestFirewall_StaysOn(t *testing.T) {
	checkFirewallsStayOn(t, "worker", firewalld, ufw, nftables)
}

// TestFirewall_StaysOnOfControllers does the same with three controllers, whose etcd talks through each firewall.
func TestFirewall_StaysOnOfControllers(t *testing.T) {
	if testing.Short() {
		t.Skip("with -short only with workers")
	}
	checkFirewallsStayOn(t, "controller", ufw, nftables, firewalld)
}

// checkFirewallsStayOn is the test for hosts with firewalls, of which the others join the first one with role.
func checkFirewallsStayOn(t *testing.T, role string, firewalls ...hostFirewall) {
	runParallel(t)
	ctx := timeoutContext(t, 40)
	a, b, c := startHostWithPlinth(t, "a"), startHostWithPlinth(t, "b"), startHostWithPlinth(t, "c")
	hosts := []*lab.Host{a, b, c}
	for i, f := range firewalls {
		if f.packages != nil {
			installPackages(t, ctx, hosts[i], f.packages...)
		}
		hosts[i].MustRun(ctx, "sh", "-c", f.setUp)
	}
	var fresh []lab.Baseline
	for _, h := range hosts {
		checkClosed(t, ctx, hosts, h)
		fresh = append(fresh, h.Baseline(ctx))
	}

	t.Run("the preflights print commands, and change nothing", func(t *testing.T) {
		for i, f := range firewalls {
			h := hosts[i].ForTest(t)
			out, _, _ := h.Run(ctx, binary, "preflight", "--quick", "--bundle", bundle)
			if want := f.command; !strings.Contains(out, want) || !strings.Contains(out, "--configure-firewall") {
				t.Errorf("%s: no %q in\n%s", h.Name, want, out)
			}
			checkUnchanged(t, fresh[i], h.Baseline(ctx))
		}
	})
	t.Run("the plan lists the rules", func(t *testing.T) {
		out := a.ForTest(t).MustRun(ctx, binary, "install", "--bundle", bundle, "--configure-firewall", "--plan")
		for _, want := range firewalls[0].plan {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
	})

	runPlinth(t, ctx, a, 0, "install", "--bundle", bundle, "--yes", "--configure-firewall")
	for _, h := range []*lab.Host{b, c} {
		joinHost(t, ctx, h, 0, createToken(t, ctx, a, "--role", role).Result.Token, "--configure-firewall")
	}
	t.Run("the cluster works", func(t *testing.T) { checkClusterBehindFirewalls(t, ctx, hosts) })
	t.Run("running it again changes nothing", func(t *testing.T) {
		if r := runPlinth(t, ctx, a.ForTest(t), 0, "install", "--bundle", bundle, "--yes"); r.Result.Changed {
			t.Errorf("%+v", r.Result)
		}
	})
	t.Run("reloads of the firewalls", func(t *testing.T) {
		for i, f := range firewalls {
			hosts[i].ForTest(t).MustRun(ctx, "sh", "-c", f.reload)
		}
		checkClusterBehindFirewalls(t, ctx, hosts)
	})
	t.Run("boots", func(t *testing.T) {
		for _, h := range hosts {
			h := h.ForTest(t)
			h.Stop()
			h.Boot()
			waitUntil(t, ctx, a, time.Now(), "k0s kubectl wait --for=condition=Ready node/"+h.Name+" --timeout=5s")
		}
		checkClusterBehindFirewalls(t, ctx, hosts)
	})
	t.Run("a reset leaves the firewalls as they were", func(t *testing.T) {
		for i := len(hosts) - 1; i >= 0; i-- {
			h := hosts[i].ForTest(t)
			if i == 0 {
				h.MustRun(ctx, "rm", "-rf", "/root/.kube") // a cache of the user's kubectl
				runPlinth(t, ctx, h, 0, "reset", "cluster", "--yes", "--cluster", "my-app", "--delete-data")
			} else {
				runPlinth(t, ctx, h, 0, "reset", "node", "--yes", "--delete-data", "--force") // a controller may have data of the console
			}
			checkUnchanged(t, fresh[i], h.Baseline(ctx))
		}
	})
}

// installPackages installs packages of Debian on a host, which has no network: the machine fetches what the host lacks.
func installPackages(t *testing.T, ctx context.Context, h *lab.Host, names ...string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "partial"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.Fetch("/var/lib/dpkg/status", filepath.Join(dir, "status"))
	args := []string{"--yes", "--no-install-recommends", "--download-only", "-o", "Dir::State::status=" + filepath.Join(dir, "status"),
		"-o", "Dir::Cache::archives=" + dir, "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root", "install"}
	if err := runLocal("apt-get", append(args, names...)...); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no packages of %s: %v", strings.Join(names, ", "), err)
	}
	h.MustRun(ctx, "mkdir", "-p", "/root/packages")
	for _, f := range files {
		h.Copy(f, "/root/packages/"+filepath.Base(f))
	}
	h.MustRun(ctx, "sh", "-c", "DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends /root/packages/*.deb && rm -r /root/packages")
}

// checkClosed verifies that a port that no rule opens is closed on h for the other hosts.
func checkClosed(t *testing.T, ctx context.Context, hosts []*lab.Host, h *lab.Host) {
	t.Helper()
	h.MustRun(ctx, "systemd-run", "--quiet", "--collect", "--unit=listener", "socat", "TCP-LISTEN:"+closedPort+",fork,reuseaddr", "EXEC:/bin/true")
	defer h.MustRun(ctx, "systemctl", "stop", "listener")
	connect := func(address, options string) []string {
		return []string{"socat", "-u", "OPEN:/dev/null", "TCP:" + address + ":" + closedPort + options}
	}
	h.MustRun(ctx, connect("127.0.0.1", ",retry=50,interval=0.1")...)
	for _, other := range hosts {
		if other.Name == h.Name {
			continue
		}
		if _, _, code := other.Run(ctx, connect(h.IP(), ",connect-timeout=2")...); code == 0 {
			t.Errorf("%s reaches %s at %s, which no rule opens", other.Name, h.Name, closedPort)
		}
	}
}

// checkClusterBehindFirewalls verifies that pods on each host reach services whose pods are on another one, that the API
// server reaches each kubelet, that users reach the console at each host, and that other ports are closed.
func checkClusterBehindFirewalls(t *testing.T, ctx context.Context, hosts []*lab.Host) {
	t.Helper()
	a := hosts[0].ForTest(t)
	image := a.MustRun(ctx, binary, "kubectl", "get", "statefulset", "-n", "kotsadm", "kotsadm", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	waitUntil(t, ctx, a, time.Now(), "k0s kubectl rollout status -n kotsadm statefulset/kotsadm --timeout=5s && k0s kubectl rollout status -n kube-system deployment/coredns --timeout=5s")
	for _, h := range hosts {
		if took, err := probeConsole(ctx, a, h.Name, image); err != nil {
			t.Errorf("the console did not answer a pod on %s: %v", h.Name, err)
		} else if took > 15*time.Second {
			t.Logf("a pod on %s reached the console after %s", h.Name, took.Round(time.Second))
		}
		if out := a.MustRun(ctx, binary, "kubectl", "get", "--raw", "/api/v1/nodes/"+h.Name+"/proxy/healthz"); strings.TrimSpace(out) != "ok" {
			t.Errorf("kubelet on %s: %s", h.Name, out)
		}
		if err := getConsole(ctx, "https://"+h.IP()+":8800/healthz"); err != nil {
			t.Errorf("a user does not reach the console at %s: %v", h.Name, err)
		}
		checkClosed(t, ctx, hosts, h.ForTest(t))
	}
}

// probeConsole requests the console's health by its name in a pod on a node, and returns how long it took until it answered:
// after a boot, a node is Ready before its pods reach the name server.
func probeConsole(ctx context.Context, a *lab.Host, node, image string) (took time.Duration, err error) {
	start := time.Now()
	for {
		a.MustRun(ctx, binary, "kubectl", "delete", "pod", "probe", "--ignore-not-found", "--now")
		out, errs, code := a.Run(ctx, binary, "kubectl", "run", "probe", "--image="+image, "--image-pull-policy=Never", "--restart=Never", "--attach", "--quiet", "--rm",
			`--overrides={"spec":{"nodeName":"`+node+`","tolerations":[{"operator":"Exists"}]}}`,
			"--command", "--", "kubectl", "--server=http://kotsadm.kotsadm.svc.cluster.local:3000", "get", "--raw", "/healthz")
		switch took = time.Since(start); {
		case code == 0 && strings.Contains(out, `"version"`):
			return took, nil
		case took > 2*time.Minute:
			return took, errors.New(out + errs)
		}
	}
}

// getConsole requests a URL of the console from this machine, which is a user's.
func getConsole(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusOK {
		return errors.Join(err, errors.New(res.Status))
	}
	return nil
}
