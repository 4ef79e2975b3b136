//go:build bench

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
)

// joinsEnv is the environment variable with the number of workers that join at once
// in each round; the default is "1 2 4 8". If the lab's disks are in memory, a host
// needs 2 GB of memory.
const joinsEnv = "PLINTH_BENCH_JOINS"

// TestBenchJoin_AgainstBareWorker measures workers that join at once against one that
// an experienced administrator sets up manually, and downloads against the speed of
// the link between two hosts. It fails only if a worker does not join.
func TestBenchJoin_AgainstBareWorker(t *testing.T) {
	ctx := timeoutContext(t, 60)
	bare := measureBareWorker(t, ctx)
	t.Logf("bare worker: node Ready after %s", formatSeconds(bare))
	a := startHostWithPlinth(t, "a")
	a.MustRun(ctx, binary, "install", "--yes", "--bundle", bundle)
	rounds := os.Getenv(joinsEnv)
	if rounds == "" {
		rounds = "1 2 4 8"
	}
	var table strings.Builder
	fmt.Fprintf(&table, "| workers at once | node Ready, first | node Ready, last | all done, last | time for each | processor time of each worker | of the controller for each, beyond idling | controller's memory | sent by the controller for each |\n|---|---|---|---|---|---|---|---|---|\n")
	idle := idleRate(t, ctx, a)
	t.Logf("the controller without joins: %.0f %% of one CPU", 100*idle)
	verdict := ""
	for _, word := range strings.Fields(rounds) {
		n, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		r := measureConcurrentJoins(t, ctx, a, n)
		if n == 1 {
			verdict = compareWithAim(r.ready[0], bare, float64(r.fetched), measureLink(t, ctx, a, r.hosts[0]))
			t.Log(verdict)
		}
		each := time.Duration(n)
		line := fmt.Sprintf("| %d | %s | %s | %s | %s | %s | %s | %d MB | %d MB |\n", n, formatSeconds(r.ready[0]), formatSeconds(r.ready[len(r.ready)-1]), formatSeconds(r.done),
			formatSeconds(r.done/each), formatSeconds(r.own/each), formatSeconds((r.cpu-time.Duration(idle*float64(r.done)))/each), r.memory/1e6, r.sent/int64(n)/1e6)
		t.Log(line) // a later round may fail
		table.WriteString(line)
		for _, h := range r.hosts {
			a.MustRun(ctx, binary, "node", "remove", h.Name, "--yes", "--force")
			h.Down()
		}
	}
	t.Logf("\n%s%s", table.String(), verdict)
}

// compareWithAim compares the time of a single joining worker with its limit: 1.1
// times that of bare k0s with its images in place, plus its download at 80 % of the
// link. fetched is in bytes, link in bytes per second.
func compareWithAim(ready, bare time.Duration, fetched, link float64) string {
	fetch := time.Duration(fetched / (0.8 * link) * float64(time.Second))
	limit := bare*11/10 + fetch
	word := "kept"
	if ready > limit {
		word = "missed by " + formatSeconds(ready-limit)
	}
	return fmt.Sprintf("worker alone: node Ready %s after the command, bare k0s with its images in place %s: %.2f times; less the fetch %.2f times; limit 1.1 x %s + %.0f MB at 80 %% of %.0f MB/s = %s + %s = %s: %s",
		formatSeconds(ready), formatSeconds(bare), ready.Seconds()/bare.Seconds(), (ready-fetch).Seconds()/bare.Seconds(), formatSeconds(bare), fetched/1e6, link/1e6, formatSeconds(bare*11/10), formatSeconds(fetch), formatSeconds(limit), word)
}

// joinRound is the result of one round of joins.
type joinRound struct {
	hosts  []*lab.Host
	ready  []time.Duration // from the command to the node being Ready, sorted
	done   time.Duration   // until the last join ended
	own    time.Duration   // CPU time of all hosts that joined
	cpu    time.Duration   // CPU time of the controller's host
	memory int64           // used by the controller's host without caches, bytes
	sent   int64           // by the controller's host, bytes
	// fetched is the number of bytes that a single worker downloaded until its node
	// was Ready; 0 for several workers.
	fetched int64
}

// maxMemoryDisks is the number of workers that may have their disks in memory, 2 GB
// each. With more, the machine has no memory left for anything else.
const maxMemoryDisks = 5

// measureConcurrentJoins joins n fresh workers at once.
func measureConcurrentJoins(t *testing.T, ctx context.Context, a *lab.Host, n int) joinRound {
	var r joinRound
	program, _ := shippedFiles(t)
	disks := os.Getenv("LAB_DISKS")
	defer func() { t.Setenv("LAB_DISKS", disks) }()
	for i := range n {
		if i == maxMemoryDisks {
			t.Setenv("LAB_DISKS", "")
		}
		h := lab.Up(t, fmt.Sprintf("w%dof%d", i+1, n))
		h.Copy(program, binary)
		r.hosts = append(r.hosts, h)
	}
	token := createToken(t, ctx, a, "--role", "worker", "--uses", strconv.Itoa(n)).Result.Token
	own := func() (sum time.Duration) {
		for _, h := range r.hosts {
			sum += processorTime(t, ctx, h)
		}
		return sum
	}
	r.own, r.cpu, r.sent = -own(), -processorTime(t, ctx, a), -readNumber(t, ctx, a, sentBytesScript)
	start := time.Now()
	var joining sync.WaitGroup
	var mu sync.Mutex
	for _, h := range r.hosts {
		p := h.Start(ctx, lab.Cmd{Args: []string{binary, "-o", "json", "join", "-"}, Stdin: strings.NewReader(token)})
		joining.Go(func() {
			stdout, stderr, code := p.Wait()
			if code != 0 {
				t.Errorf("%s: exit %d\n%s\n%s", h.Name, code, lastLines(stdout, 10), lastLines(stderr, 10))
				return
			}
			mu.Lock()
			defer mu.Unlock()
			r.ready = append(r.ready, stepTime(stdout, "node-ready").Sub(start))
			if n == 1 {
				r.fetched = fetchedBytes(stdout, "node-ready")
				t.Logf("a worker alone: %s; %d MB were fetched until its node was Ready", stepTimes(stdout, start), r.fetched/1e6)
			}
		})
	}
	joining.Wait()
	if t.Failed() {
		t.FailNow()
	}
	slices.Sort(r.ready)
	r.done = time.Since(start)
	r.own += own()
	r.cpu += processorTime(t, ctx, a)
	r.sent += readNumber(t, ctx, a, sentBytesScript)
	r.memory = readNumber(t, ctx, a, `cat /sys/fs/cgroup/memory/memory.stat /sys/fs/cgroup/memory.stat 2>/dev/null | awk '/^(total_rss|anon) /{print $2; exit}'`)
	return r
}

// stepTimes returns when each step of a run was done, relative to start.
func stepTimes(stdout string, start time.Time) string {
	var all []string
	for line := range strings.Lines(stdout) {
		var e struct {
			Time        time.Time
			Step, State string
		}
		if json.Unmarshal([]byte(line), &e) == nil && (e.State == "done" || e.Step != "" && len(all) == 0) {
			all = append(all, fmt.Sprintf("%s %s %.1fs", e.Step, e.State, e.Time.Sub(start).Seconds()))
		}
	}
	return strings.Join(all, ", ")
}

// fetchedBytes returns how many bytes the steps of a run moved until one of them was
// done.
func fetchedBytes(stdout, until string) (sum int64) {
	most := map[string]int64{}
	for line := range strings.Lines(stdout) {
		var e struct {
			Step, State string
			Bytes       int64
		}
		if json.Unmarshal([]byte(line), &e) != nil {
			continue
		}
		if e.Step == until && e.State == "done" {
			break
		}
		most[e.Step] = max(most[e.Step], e.Bytes)
	}
	for _, n := range most {
		sum += n
	}
	return sum
}

// sentBytesScript prints how many bytes a host has sent.
const sentBytesScript = `cat /sys/class/net/$(ip route show default | sed 's/.* dev \([^ ]*\).*/\1/')/statistics/tx_bytes`

// readNumber returns the number that a script prints on a host.
func readNumber(t *testing.T, ctx context.Context, h *lab.Host, script string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(strings.TrimSpace(h.MustRun(ctx, "sh", "-c", script)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// stepTime returns when a step of a run was done or skipped.
func stepTime(stdout, step string) time.Time {
	for line := range strings.Lines(stdout) {
		var e struct {
			Time        time.Time
			Step, State string
		}
		if json.Unmarshal([]byte(line), &e) == nil && e.Step == step && (e.State == "done" || e.State == "skipped") {
			return e.Time
		}
	}
	return time.Time{}
}

// processorTime returns the CPU time that all processes of a host have used since it
// was booted.
func processorTime(t *testing.T, ctx context.Context, h *lab.Host) time.Duration {
	t.Helper()
	return time.Duration(readNumber(t, ctx, h, `cat /sys/fs/cgroup/cpuacct/cpuacct.usage 2>/dev/null || awk '/usage_usec/{print $2 "000"}' /sys/fs/cgroup/cpu.stat`))
}

// idleRate returns the share of one CPU that an idle host uses.
func idleRate(t *testing.T, ctx context.Context, h *lab.Host) float64 {
	before, start := processorTime(t, ctx, h), time.Now()
	h.MustRun(ctx, "sleep", "15")
	return (processorTime(t, ctx, h) - before).Seconds() / time.Since(start).Seconds()
}

// measureBareWorker does what an experienced administrator would do with k0s alone: it
// copies binary, images and token. The cluster is one of k0s alone, too, because Plinth's
// accepts no bootstrap tokens.
func measureBareWorker(t *testing.T, ctx context.Context) time.Duration {
	controller, h := startHostWithPlinth(t, "bare"), startHostWithPlinth(t, "bare-worker")
	images, program := systemImagesArchive(t, ctx, h), extractK0s(t, ctx)
	for _, host := range []*lab.Host{controller, h} {
		host.MustRun(ctx, "mkdir", "-p", "/var/lib/k0s/images")
		host.Copy(images, "/var/lib/k0s/images/images.tar")
		host.Copy(program, "/usr/local/bin/k0s")
	}
	start := time.Now()
	controller.MustRun(ctx, "k0s", "install", "controller", "--enable-worker", "--no-taints", "--disable-components=konnectivity-server", "--kubelet-extra-args=--node-ip="+controller.IP())
	controller.MustRun(ctx, "k0s", "start")
	waitUntil(t, ctx, controller, start, "k0s kubectl get node "+controller.Name+" --no-headers | grep -qw Ready")
	token := controller.MustRun(ctx, "k0s", "token", "create", "--role", "worker")
	h.MustRun(ctx, "sh", "-c", "umask 077; echo "+token+" >/root/token")
	start = time.Now()
	h.MustRun(ctx, "k0s", "install", "worker", "--token-file", "/root/token", "--kubelet-extra-args=--node-ip="+h.IP())
	h.MustRun(ctx, "k0s", "start")
	took := waitUntil(t, ctx, controller, start, "k0s kubectl get node "+h.Name+" --no-headers | grep -qw Ready")
	h.Down()
	controller.Down()
	return took
}

// measureLink measures downloads of the largest blob over links of known speed. It
// returns the speed of the lab's own link in bytes per second.
func measureLink(t *testing.T, ctx context.Context, from, to *lab.Host) (unbound float64) {
	const store = "/var/lib/k0s/containerd/io.containerd.content.v1.content/blobs/sha256"
	blob := strings.TrimSpace(from.MustRun(ctx, "sh", "-c", "ls -S "+store+" | head -1"))
	dev := strings.TrimSpace(from.MustRun(ctx, "sh", "-c", "ip route show default | sed 's/.* dev \\([^ ]*\\).*/\\1/'"))
	fetch := func() float64 {
		out := to.MustRun(ctx, "curl", "-sfk", "--cert", "/var/lib/plinth/agent/identity.pem", "-o", "/dev/null", "-w", "%{speed_download}",
			"https://"+from.IP()+":9444/v2/plinth/blobs/sha256:"+blob)
		rate, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
		if err != nil {
			t.Fatal(err)
		}
		return rate
	}
	for range 3 {
		unbound = max(unbound, fetch())
	}
	t.Logf("fetch without a bound: %.0f MB/s", unbound/1e6)
	for _, mbit := range []float64{1000, 400} {
		from.MustRun(ctx, "tc", "qdisc", "add", "dev", dev, "root", "tbf", "rate", fmt.Sprintf("%.0fmbit", mbit), "burst", "256kb", "latency", "50ms")
		rate := fetch()
		from.MustRun(ctx, "tc", "qdisc", "del", "dev", dev, "root")
		t.Logf("fetch over %.0f Mbit/s: %.1f MB/s, %.0f %% of the link (aim 80 %%)", mbit, rate/1e6, rate*8/1e4/mbit)
	}
	return unbound
}
