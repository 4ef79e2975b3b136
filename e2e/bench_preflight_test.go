//go:build bench

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/plinthdev/plinth/e2e/lab"
)

// TestBenchPreflight_OneAndTenHosts measures preflights of one host, and of ten hosts
// that all check each other at once, on one machine's CPUs and disk.
func TestBenchPreflight_OneAndTenHosts(t *testing.T) {
	ctx := timeoutContext(t, 20)
	const many = 10
	hosts := make([]*lab.Host, many)
	for i := range hosts {
		hosts[i] = lab.Up(t, fmt.Sprintf("h%d", i))
		hosts[i].Copy(requireEnv(t, "PLINTH_E2E_BINARY"), binary)
	}
	quick, full := bestPreflightTime(t, ctx, hosts[0], "--quick"), bestPreflightTime(t, ctx, hosts[0])
	all := concurrentPreflightTime(t, ctx, hosts)
	rss := preflightMemory(t, ctx)
	var b strings.Builder
	row := func(what, figure, aim string) { fmt.Fprintf(&b, "| %s | %s | %s |\n", what, figure, aim) }
	row("what", "plinth", "aim")
	row("---", "---", "---")
	row("preflight without measures", formatSeconds(quick), "5 s")
	row("preflight with measures", formatSeconds(full), "15 s")
	row(fmt.Sprintf("%d hosts at once, each with its peers and measures", many), formatSeconds(all), "30 s")
	row("resident memory of a preflight", fmt.Sprintf("%d MB", rss/1e6), "60 MB")
	t.Logf("\n%s", b.String())
}

// bestPreflightTime returns the shortest of several times of one preflight.
func bestPreflightTime(t *testing.T, ctx context.Context, h *lab.Host, flags ...string) time.Duration {
	var all []time.Duration
	for range rounds {
		start := time.Now()
		h.MustRun(ctx, append([]string{binary, "preflight"}, flags...)...)
		all = append(all, time.Since(start))
	}
	return slices.Min(all)
}

// concurrentPreflightTime returns the time until the last of the hosts has checked
// itself and its peers.
func concurrentPreflightTime(t *testing.T, ctx context.Context, hosts []*lab.Host) time.Duration {
	var addresses []string
	for _, h := range hosts {
		h.MustRun(ctx, "sh", "-c", "umask 077; echo a-code-for-this-bench >/srv/code")
		h.MustRun(ctx, "systemd-run", "-q", "--unit=listen", binary, "preflight", "--listen", "--peer-code-file", "/srv/code")
		addresses = append(addresses, h.IP())
	}
	for _, h := range hosts {
		waitUntil(t, ctx, h, time.Now(), "ss -ltn | grep -q :9444")
	}
	start := time.Now()
	var g errgroup.Group
	for i, h := range hosts {
		g.Go(func() error {
			others := strings.Join(slices.Delete(slices.Clone(addresses), i, i+1), ",")
			out, stderr, code := h.Run(ctx, binary, "-o", "json", "preflight", "--peers", others, "--peer-code-file", "/srv/code", "--ignore-host-preflight", "disk-latency,port-plinth-agent,port-kubelet,port-kube-router-bgp,port-etcd-peer,port-kube-apiserver")
			var doc struct {
				Result struct {
					Results []struct{ ID, State, Found string }
				}
			}
			if err := json.Unmarshal([]byte(out), &doc); err != nil || code != 0 {
				return fmt.Errorf("%s: exit %d, %v: %s%s", h.Name, code, err, out, stderr)
			}
			for _, e := range doc.Result.Results {
				if e.ID == "peer-ports" && e.State != "pass" {
					return fmt.Errorf("%s: %s: %s", h.Name, e.State, e.Found)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	return time.Since(start)
}

// preflightMemory returns the peak memory, in bytes, of a preflight of this machine.
func preflightMemory(t *testing.T, ctx context.Context) int64 {
	held, _, _ := measurePeakMemory(t, ctx, requireEnv(t, "PLINTH_E2E_BINARY"), "preflight", "--data-dir", t.TempDir()) // this machine need not pass
	return held
}
