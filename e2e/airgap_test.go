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

// What the test itself sends to see that it would be noticed; to nowhere, as
// all that leaves a lab.
const (
	canaryAddress = "192.0.2.9"
	canaryName    = "canary.example.com"
)

// allowed are the look-ups that an air-gapped host may send to the nameserver
// that its owner has configured, and why.
func allowed() *regexp.Regexp {
	return regexp.MustCompile(`^(` + strings.Join([]string{
		``,         // CoreDNS asks for the root, again and again, whether a nameserver that failed lives
		`\d+\.\d+`, // CoreDNS asks for two random numbers once, to see whether it is asked itself
		`plinth-preflight(\.invalid|-of-no-machine)`, // the preflights see how the nameserver answers to what nobody has
		regexp.QuoteMeta(canaryName),
	}, "|") + `)$`)
}

// own tells whether it went to the cluster's own networks: the API server asks
// the service of metrics-server before kube-proxy has said where that is.
func own(what string) bool {
	at := strings.Fields(what)[1]
	to, err := netip.ParseAddrPort(at)
	if err != nil {
		return false
	}
	return netip.MustParsePrefix("10.96.0.0/12").Contains(to.Addr()) || netip.MustParsePrefix("10.244.0.0/16").Contains(to.Addr())
}

// watch looks at what the host sends from now on, once it has seen that it
// would notice: a connection, a datagram and a look-up.
func watch(t *testing.T, ctx context.Context, h *lab.Host) *lab.Traffic {
	t.Helper()
	sent := h.Watch()
	h.Run(ctx, "timeout", "1", "bash", "-c", ": </dev/tcp/"+canaryAddress+"/443")
	h.Run(ctx, "bash", "-c", "echo >/dev/udp/"+canaryAddress+"/123")
	h.Run(ctx, "timeout", "2", "getent", "hosts", canaryName)
	left, _, _ := sent.Look()
	for _, want := range []string{"tcp " + canaryAddress + ":443", "udp " + canaryAddress + ":123", ":53 " + canaryName} {
		if !strings.Contains(strings.Join(left, "\n"), want) {
			t.Fatalf("a packet that leaves is not noticed: %s is not among %q", want, left)
		}
	}
	return sent
}

// nothingLeft is the proof of the air gap: of an install with an application no
// packet went anywhere but to the machine that runs the test, and there was no
// look-up but those allowed.
func nothingLeft(t *testing.T, ctx context.Context, h *lab.Host, sent *lab.Traffic) {
	left, seen, missed := sent.Look()
	t.Logf("%d packets seen, %d missed; to elsewhere:\n%s", seen, missed, strings.Join(left, "\n"))
	if seen < 100 || missed > 0 {
		t.Errorf("%d packets seen, %d missed: this proves nothing", seen, missed)
	}
	nameserver := "udp " + h.Must(ctx, "sh", "-c", "awk '$1 == \"nameserver\" { print $2 }' /etc/resolv.conf") + ":53 "
	for _, what := range left {
		what, _, _ = strings.Cut(what, " (packets")
		name, lookup := strings.CutPrefix(what, nameserver)
		if !(lookup && allowed().MatchString(name)) && !own(what) && !strings.Contains(what, " "+canaryAddress+":") {
			t.Errorf("this tried to leave the host: %s", what)
		}
	}
}
