//go:build e2e

package e2e

import (
	"context"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/e2e/lab"
)

// Destinations of the packets that the test itself sends, to see that they are
// recorded. As everything that leaves a lab, they arrive nowhere.
const (
	canaryAddress = "192.0.2.9"
	canaryName    = "canary.example.com"
)

// allowedLookups matches the DNS lookups that an air-gapped host may send to its
// configured nameserver.
func allowedLookups() *regexp.Regexp {
	return regexp.MustCompile(`^(` + strings.Join([]string{
		``,         // CoreDNS queries the root repeatedly to check a failed nameserver
		`\d+\.\d+`, // CoreDNS queries two random numbers once, to detect a loop
		`plinth-preflight(\.invalid|-of-no-machine)`, // the preflights check the answer for names that do not exist
		regexp.QuoteMeta(canaryName),
	}, "|") + `)$`)
}

// isClusterTraffic reports whether a packet went to the cluster's own networks: the
// API server calls the service of metrics-server before kube-proxy has its rules.
func isClusterTraffic(what string) bool {
	at := strings.Fields(what)[1]
	to, err := netip.ParseAddrPort(at)
	if err != nil {
		return false
	}
	return netip.MustParsePrefix("10.96.0.0/12").Contains(to.Addr()) || netip.MustParsePrefix("10.244.0.0/16").Contains(to.Addr())
}

// watchTraffic starts to record what the host sends. It first verifies that a
// connection, a datagram and a DNS lookup are recorded.
func watchTraffic(t *testing.T, ctx context.Context, h *lab.Host) *lab.Traffic {
	t.Helper()
	sent := h.WatchTraffic()
	h.Run(ctx, "timeout", "1", "bash", "-c", ": </dev/tcp/"+canaryAddress+"/443")
	h.Run(ctx, "bash", "-c", "echo >/dev/udp/"+canaryAddress+"/123")
	h.Run(ctx, "timeout", "2", "getent", "hosts", canaryName)
	left, _, _ := sent.Report()
	for _, want := range []string{"tcp " + canaryAddress + ":443", "udp " + canaryAddress + ":123", ":53 " + canaryName} {
		if !strings.Contains(strings.Join(left, "\n"), want) {
			t.Fatalf("a packet that leaves is not recorded: %s is not among %q", want, left)
		}
	}
	return sent
}

// checkNoTraffic verifies the air gap: during an install with an application, packets
// went only to the machine that runs the test, and all DNS lookups were allowed ones.
func checkNoTraffic(t *testing.T, ctx context.Context, h *lab.Host, sent *lab.Traffic) {
	left, seen, missed := sent.Report()
	t.Logf("%d packets seen, %d missed; to elsewhere:\n%s", seen, missed, strings.Join(left, "\n"))
	if seen < 100 || missed > 0 {
		t.Errorf("%d packets seen, %d missed: the recording is not usable", seen, missed)
	}
	nameserver := "udp " + h.MustRun(ctx, "sh", "-c", "awk '$1 == \"nameserver\" { print $2 }' /etc/resolv.conf") + ":53 "
	for _, what := range left {
		what, _, _ = strings.Cut(what, " (packets")
		name, lookup := strings.CutPrefix(what, nameserver)
		if (!lookup || !allowedLookups().MatchString(name)) && !isClusterTraffic(what) && !strings.Contains(what, " "+canaryAddress+":") {
			t.Errorf("this tried to leave the host: %s", what)
		}
	}
}
