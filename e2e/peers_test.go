//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
)

// netns simulates a host with its own network, name and machine id. Checks between
// hosts use nothing else.
type netns struct {
	t             *testing.T
	name, address string
	id            string // file with its machine id
}

// mustRunLocal runs a command on this machine and returns its output.
func mustRunLocal(t *testing.T, ctx context.Context, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// createPeerHosts creates two simulated hosts on one network link.
func createPeerHosts(t *testing.T, ctx context.Context) (a, b netns) {
	t.Helper()
	tag := fmt.Sprintf("pl%d", os.Getpid()%10000)
	for i, h := range []*netns{&a, &b} {
		*h = netns{t: t, name: tag + string(rune('a'+i)), address: fmt.Sprintf("10.99.0.%d", i+1), id: filepath.Join(t.TempDir(), "machine-id")}
		mustRunLocal(t, ctx, "ip", "netns", "add", h.name)
		t.Cleanup(func() { mustRunLocal(t, context.Background(), "ip", "netns", "del", h.name) })
		if err := os.WriteFile(h.id, fmt.Appendf(nil, "%032d\n", i+1), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	mustRunLocal(t, ctx, "ip", "link", "add", "e0", "netns", a.name, "type", "veth", "peer", "name", "e0", "netns", b.name)
	for _, h := range []netns{a, b} {
		mustRunLocal(t, ctx, "ip", "-n", h.name, "addr", "add", h.address+"/24", "dev", "e0")
		mustRunLocal(t, ctx, "ip", "-n", h.name, "link", "set", "lo", "up")
		mustRunLocal(t, ctx, "ip", "-n", h.name, "link", "set", "e0", "up")
		mustRunLocal(t, ctx, "ip", "-n", h.name, "route", "add", "default", "via", "10.99.0.254")
	}
	return a, b
}

// plinthCommand returns a command that runs Plinth on the host.
func (h netns) plinthCommand(ctx context.Context, args ...string) *exec.Cmd {
	script := fmt.Sprintf("hostname %s && mount --bind %s /etc/machine-id && exec \"$@\"", h.name, h.id)
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", h.name, "unshare", "-u", "-m", "sh", "-c", script, "sh", requireEnv(h.t, "PLINTH_E2E_BINARY")}, args...)...)
}

// changeFilter adds a rule to the host's packet filter, or removes it with -D.
func (h netns) changeFilter(ctx context.Context, action string, rule ...string) {
	h.t.Helper()
	mustRunLocal(h.t, ctx, append([]string{"ip", "netns", "exec", h.name, "iptables", action, "INPUT"}, rule...)...)
}

// TestPreflight_FindsProblemsBetweenPeers checks two hosts of a future cluster, with
// problems of the network between them.
func TestPreflight_FindsProblemsBetweenPeers(t *testing.T) {
	ctx := timeoutContext(t, 3)
	a, b := createPeerHosts(t, ctx)
	listen := b.plinthCommand(ctx, "--progress", "none", "preflight", "--listen")
	said, err := listen.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := listen.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = listen.Process.Signal(os.Interrupt)
		if err := listen.Wait(); err != nil {
			t.Errorf("preflight --listen ended with %v", err)
		}
	})
	buf := make([]byte, 4096)
	code := ""
	for text := ""; code == ""; {
		n, err := said.Read(buf)
		if text += string(buf[:n]); err != nil {
			t.Fatalf("no code was printed: %v: %s", err, text)
		}
		if m := regexp.MustCompile(`echo (\S+) \| sudo \S*plinth preflight --peers 10\.99\.0\.2 `).FindStringSubmatch(text); m != nil {
			code = m[1]
		}
	}
	drop := func(h netns, rule ...string) func() func() {
		return func() func() {
			h.changeFilter(ctx, "-A", rule...)
			return func() { h.changeFilter(ctx, "-D", rule...) }
		}
	}
	for name, c := range map[string]struct {
		spoil func() func()
		code  string
		id    string // the check that fails; "" for none
		says  string
	}{
		"nothing":                  {},
		"the wrong code":           {code: "wrong", id: "peer-answer", says: "10.99.0.2: the host that answers does not know the code"},
		"10250/udp blocked there":  {spoil: drop(b, "-p", "udp", "--dport", "10250", "-j", "DROP"), id: "peer-ports", says: "this host does not reach 10.99.0.2 at 10250/udp (no answer: a packet filter drops it)"},
		"10250/tcp blocked here":   {spoil: drop(a, "-p", "tcp", "--dport", "10250", "-j", "DROP"), id: "peer-ports", says: "10.99.0.2 does not reach this host at 10250/tcp (no answer: a packet filter drops it)"},
		"6443/tcp rejected there":  {spoil: drop(b, "-p", "tcp", "--dport", "6443", "-j", "REJECT"), id: "peer-ports", says: "this host does not reach 10.99.0.2 at 6443/tcp (refused: a packet filter rejects it)"},
		"full packets lost there":  {spoil: drop(b, "-p", "udp", "-m", "length", "--length", "1451:65535", "-j", "DROP"), id: "peer-packet", says: "packets of 1500 bytes do not pass from this host to 10.99.0.2; 1450 do"},
		"the other host is silent": {spoil: drop(b, "-p", "tcp", "--dport", "9444", "-j", "DROP"), id: "peer-answer", says: "10.99.0.2: 9444/tcp: no answer: a packet filter drops it"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.spoil != nil {
				defer c.spoil()()
			}
			begun := time.Now()
			ask := a.plinthCommand(ctx, "-o", "json", "preflight", "--quick", "--peers", b.address, "--peer-code-file", "-")
			ask.Stdin = strings.NewReader(code)
			if c.code != "" {
				ask.Stdin = strings.NewReader(c.code)
			}
			out, _ := ask.Output() // other checks may fail on this machine
			if took := time.Since(begun); took > 30*time.Second {
				t.Errorf("it took %s", took)
			}
			var r struct {
				Result struct {
					Results []struct{ ID, State, Found string }
				}
			}
			if err := json.Unmarshal(out, &r); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			heard := 0
			for _, e := range r.Result.Results {
				if !strings.HasPrefix(e.ID, "peer-") {
					continue
				}
				heard++
				if e.ID == c.id && (e.State != "fail" || !strings.Contains(e.Found, c.says)) || e.ID != c.id && e.State == "fail" {
					t.Errorf("%s: %s: %s", e.ID, e.State, e.Found)
				}
			}
			if heard != 7 {
				t.Errorf("%d checks between hosts", heard)
			}
		})
	}
}

// checkBlockedJoins tries joins through packet filters that block one direction of
// one port between the cluster's controller and the host. The filters are on the
// controller, so that the host stays unchanged.
func checkBlockedJoins(t *testing.T, ctx context.Context, a, b *lab.Host) {
	token := createToken(t, ctx, a, "--role", "worker").Result.Token
	for _, c := range []struct{ name, rule, says string }{
		{"10250/udp blocked there", "INPUT -s " + b.IP() + " -p udp --dport 10250 -j DROP", "this host does not reach " + a.IP() + " at 10250/udp (no answer: a packet filter drops it)"},
		{"179/tcp rejected there", "INPUT -s " + b.IP() + " -p tcp --dport 179 -j REJECT --reject-with tcp-reset", "this host does not reach " + a.IP() + " at 179/tcp (refused: a packet filter rejects it)"},
		{"10250/tcp blocked back", "OUTPUT -d " + b.IP() + " -p tcp --dport 10250 -j DROP", a.IP() + " does not reach this host at 10250/tcp (no answer: a packet filter drops it)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a.MustRun(ctx, "sh", "-c", "iptables -I "+c.rule)
			defer a.MustRun(ctx, "sh", "-c", "iptables -D "+c.rule)
			begun := time.Now()
			got, _ := joinHost(t, ctx, b.ForTest(t), 5, token)
			if took := time.Since(begun); took > 20*time.Second {
				t.Errorf("the refusal took %s", took)
			}
			for _, e := range got.Result.Preflights.Results {
				if wrong := e.State == "fail"; wrong != (e.ID == "peer-ports") || wrong && e.Found != c.says {
					t.Errorf("%s: %s: %s", e.ID, e.State, e.Found)
				}
			}
		})
	}
}
