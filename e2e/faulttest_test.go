//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
)

// faultTestReply is the output of a fault test.
type faultTestReply struct {
	Result struct {
		Seed          uint64
		Kills, Failed int
		Rows          []faultTestRow
	}
}

// faultTestRow is one kill and its result.
type faultTestRow struct {
	Point, Step, Next, Result, Detail string
	KilledSeconds, Seconds            float64
}

// runFaultTest runs a fault test, which must exit with code 0, and logs its table.
func runFaultTest(t *testing.T, ctx context.Context, h *lab.Host, args ...string) faultTestReply {
	t.Helper()
	start := time.Now()
	stdout, stderr, code := h.Run(ctx, append([]string{binary, "-o", "json", "debug", "fault-test", "run", "--host-is-disposable"}, args...)...)
	var d faultTestReply
	if err := json.Unmarshal([]byte(stdout), &d); err != nil {
		t.Fatalf("%v: exit %d\n%s\n%s", err, code, stdout, lastLines(stderr, 20))
	}
	var table strings.Builder
	for _, r := range d.Result.Rows {
		if r.Result != "not reached" {
			fmt.Fprintf(&table, "%-42s after %5.1fs in %-20s then %-7s %5.1fs  %s %s\n", r.Point, r.KilledSeconds, r.Step, r.Next, r.Seconds, r.Result, r.Detail)
		}
	}
	t.Logf("fault test %s: %d kills, %d failed, seed %d, in %.0fs\n%s", strings.Join(args, " "), d.Result.Kills, d.Result.Failed, d.Result.Seed, time.Since(start).Seconds(), &table)
	if code != 0 || d.Result.Failed != 0 {
		t.Fatalf("exit %d\n%s", code, lastLines(stderr, 40))
	}
	return d
}

// unreachableDNS and rejectDNS give a host a nameserver whose address is unreachable,
// which the host learns at once. The lab's own gateway reports this only once a
// second, and each of hundreds of runs would wait for it.
func unreachableDNS() lab.Option { return lab.DNS("192.0.2.53") }

func rejectDNS(ctx context.Context, h *lab.Host) {
	h.MustRun(ctx, "ip", "route", "add", "unreachable", "192.0.2.53/32")
}

// TestInstall_SurvivesKills kills one install at every boundary of every
// step, and at random moments, until the cluster is up; then the join of a second
// host; and then the reset. With -short it kills the install after the change of the
// most important steps, and the others at a few steps.
func TestInstall_SurvivesKills(t *testing.T) {
	runParallel(t)
	ctx := timeoutContext(t, 25)
	h := startHostWithPlinth(t, "chain", unreachableDNS())
	rejectDNS(ctx, h)
	b := lab.Up(t, "link", unreachableDNS()) // now, because each new host of a lab is added to every /etc/hosts
	rejectDNS(ctx, b)
	fresh := h.Baseline(ctx)
	var steps []string
	for _, p := range runPlinth(t, ctx, h, 0, "install", "--bundle", bundle, "--plan").Result.Plan {
		if p.State != "done" {
			steps = append(steps, p.Step)
		}
	}

	// A step of the cluster may find nothing to do when it runs.
	important := []string{"record-host", "kernel", "k0s-binary", "k0s-config", "k0s-service", "k0s-start", "images-boot", "images-rest", "kots-binary", "console"}
	moments, args, least := []string{"needed", "begun"}, []string{"--random", "30"}, 20
	if testing.Short() {
		moments, args, least = []string{"applied"}, []string{"--random", "3"}, 1
		for _, id := range important {
			args = append(args, "--point", "install/"+id+":applied")
		}
	}
	d := runFaultTest(t, ctx, h, append(args, "--within", "2s", "--seed", "20261121", "--", "install", "--bundle", bundle)...)
	died, random := map[string]bool{}, 0
	for _, r := range d.Result.Rows {
		point := r.Point
		if strings.HasPrefix(point, "a random moment") {
			random++
			point = "install/" + r.Step + ":applied" // the next run may find the step complete, and not apply it
		}
		died[point] = died[point] || r.Result == "recovered"
	}
	t.Logf("%d kills at boundaries, %d at random moments", d.Result.Kills-random, random)
	if random < least || !testing.Short() && d.Result.Kills-random < 2*len(steps) {
		t.Errorf("too few kills for %d steps", len(steps))
	}
	for _, id := range important {
		for _, moment := range moments {
			if !died["install/"+id+":"+moment] {
				t.Errorf("the install was not killed at %s:%s", id, moment)
			}
		}
	}
	checkPodReachesService(t, ctx, h)
	t.Run("a worker joins", func(t *testing.T) { checkJoinSurvivesKills(t, ctx, h.ForTest(t), b.ForTest(t)) })

	runFaultTest(t, ctx, h, append(resetPoints(), "--", "reset", "cluster", "--cluster", "my-app", "--delete-data")...)
	checkUnchanged(t, fresh, h.Baseline(ctx))
}

// resetPoints returns the failpoints at which a reset is killed with -short; without
// it there are none, which means every boundary.
func resetPoints() []string {
	if !testing.Short() {
		return nil
	}
	return []string{"--point", "reset/firewall-rules:begun", "--point", "reset/files:applied"}
}

// checkJoinSurvivesKills kills the join of a worker before each step and after the step
// has changed the host, until it is a node. The node is then reset.
func checkJoinSurvivesKills(t *testing.T, ctx context.Context, a, b *lab.Host) {
	program, _ := shippedFiles(t)
	b.Copy(program, binary)
	fresh := b.Baseline(ctx)
	const file = "/run/token"
	b.MustRun(ctx, "sh", "-c", `umask 077; printf %s "$1" > `+file, "sh", createToken(t, ctx, a, "--role", "worker").Result.Token)
	args := []string{"--point", "join/receipt:temp", "--point", "join/node-ready:needed", "--point", "join/node-ready:applied"}
	var want []string
	for _, p := range runPlinth(t, ctx, b, 0, "join", "--token-file", file, "--plan").Result.Plan {
		// The journal creates the data folder, and a node may be Ready before the step that waits for it.
		if p.State == "done" || p.Step == "data-dir" || p.Step == "node-ready" || testing.Short() && !slices.Contains([]string{"request-join", "k0s-start"}, p.Step) {
			continue
		}
		for _, moment := range []string{":needed", ":applied"} {
			want = append(want, "join/"+p.Step+moment)
			args = append(args, "--point", "join/"+p.Step+moment)
		}
	}
	d := runFaultTest(t, ctx, b, append(args, "--", "join", "--token-file", file)...)
	died := map[string]bool{}
	for _, r := range d.Result.Rows {
		died[r.Point] = r.Result == "recovered"
	}
	for _, point := range want {
		if !died[point] {
			t.Errorf("the join was not killed at %s", point)
		}
	}
	checkPodNetwork(t, ctx, a, b)
	a.MustRun(ctx, binary, "kubectl", "delete", "pod", "on-"+a.Name, "on-"+b.Name, "--now")
	b.MustRun(ctx, "rm", file)
	runPlinth(t, ctx, b, 0, "reset", "node", "--yes", "--delete-data")
	checkUnchanged(t, fresh, b.Baseline(ctx))
}

// TestReset_AfterKilledInstall kills an install and resets the host: at each boundary
// before k0s starts, and while k0s, its containerd and the kots CLI work. The host is
// used again each time. With -short there is one kill before k0s starts and one after.
func TestReset_AfterKilledInstall(t *testing.T) {
	ctx := timeoutContext(t, 25)
	h := startHostWithPlinth(t, "each", unreachableDNS())
	rejectDNS(ctx, h)
	fresh := h.Baseline(ctx)
	var early []string
	for _, id := range []string{"journal:write", "journal:torn", "journal:temp", "journal:renamed", "run:started",
		"record-host", "kernel", "k0s-binary", "k0s-config", "k0s-service", "k0s-start"} {
		moments := []string{":needed", ":begun", ":applied", ":ended"}
		if strings.Contains(id, ":") {
			moments = []string{""}
		}
		for _, m := range moments {
			if id+m != "k0s-start:applied" && id+m != "k0s-start:ended" {
				early = append(early, "--point", "install/"+id+m)
			}
		}
	}
	all := [][]string{
		early,
		{"--point", "install/k0s-start:applied"},
		{"--point", "install/images-boot:working#15"},
		{"--point", "install/system-pods-start:begun"},
		{"--point", "install/console:working#3"},
	}
	if testing.Short() {
		all = [][]string{{"--point", "install/k0s-service:begun"}, all[len(all)-1]}
	}
	for _, points := range all {
		t.Run(strings.TrimPrefix(points[1], "install/"), func(t *testing.T) {
			h := h.ForTest(t)
			runFaultTest(t, ctx, h, append(append([]string{"--mode", "reset"}, points...), "--", "install", "--bundle", bundle)...)
			checkUnchanged(t, fresh, h.Baseline(ctx))
		})
	}
}
