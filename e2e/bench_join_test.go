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

// joinsEnv names the environment variable with how many workers join at once,
// round by round; the default is "1 2 4 8". A host takes 2 GB of memory where
// the lab's disks are in memory.
const joinsEnv = "PLINTH_BENCH_JOINS"

// TestBenchJoin measures workers that join at once, against one that an
// experienced person would set up by hand, and the fetch against the link between
// two hosts. It fails only when something does not come up.
func TestBenchJoin(t *testing.T) {
	ctx := minutes(t, 60)
	a := upWithPlinth(t, "a")
	a.Must(ctx, binary, "install", "--yes", "--bundle", bundle)
	rounds := os.Getenv(joinsEnv)
	if rounds == "" {
		rounds = "1 2 4 8"
	}
	var table strings.Builder
	fmt.Fprintf(&table, "| workers at once | node Ready, first | node Ready, last | all done, last | each, of all processors | controller's processor time, each | controller's memory |\n|---|---|---|---|---|---|---|\n")
	var one time.Duration
	for _, word := range strings.Fields(rounds) {
		n, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		r := joinAtOnce(t, ctx, a, n)
		if n == 1 {
			one = r.ready[0]
			link(t, ctx, a, r.hosts[0])
		}
		line := fmt.Sprintf("| %d | %s | %s | %s | %s | %s | %d MB |\n", n, seconds(r.ready[0]), seconds(r.ready[len(r.ready)-1]), seconds(r.done),
			seconds(r.done/time.Duration(n)), seconds(r.cpu/time.Duration(n)), r.memory/1e6)
		t.Log(line) // what is measured is said also when a later round fails
		table.WriteString(line)
		for _, h := range r.hosts {
			a.Must(ctx, binary, "node", "remove", h.Name, "--yes", "--force")
			h.Down()
		}
	}
	if bare := bareWorker(t, ctx, a); one > 0 {
		t.Logf("worker alone: node Ready %s after the command, bare k0s with its images in place %s", seconds(one), seconds(bare))
	}
	t.Logf("\n%s", table.String())
}

// round is one round of joins.
type round struct {
	hosts  []*lab.Host
	ready  []time.Duration // from the command to the node being Ready, sorted
	done   time.Duration   // until the last join ended
	cpu    time.Duration   // of the controller's host
	memory int64           // of the controller's host, bytes
}

func joinAtOnce(t *testing.T, ctx context.Context, a *lab.Host, n int) round {
	var r round
	program, _ := shipped(t)
	for i := range n {
		h := lab.Up(t, fmt.Sprintf("w%dof%d", i+1, n))
		h.Copy(program, binary)
		r.hosts = append(r.hosts, h)
	}
	token := newToken(t, ctx, a, "--role", "worker", "--uses", strconv.Itoa(n)).Result.Token
	before := processorTime(t, ctx, a)
	start := time.Now()
	var joining sync.WaitGroup
	var mu sync.Mutex
	for _, h := range r.hosts {
		p := h.Start(ctx, lab.Cmd{Args: []string{binary, "-o", "json", "join", "-"}, Stdin: strings.NewReader(token)})
		joining.Go(func() {
			stdout, stderr, code := p.Wait()
			if code != 0 {
				t.Errorf("%s: exit %d\n%s\n%s", h.Name, code, tail(stdout, 10), tail(stderr, 10))
				return
			}
			mu.Lock()
			defer mu.Unlock()
			r.ready = append(r.ready, at(stdout, "node-ready").Sub(start))
		})
	}
	joining.Wait()
	if t.Failed() {
		t.FailNow()
	}
	slices.Sort(r.ready)
	r.done, r.cpu = time.Since(start), processorTime(t, ctx, a)-before
	memory, err := strconv.ParseInt(strings.TrimSpace(a.Must(ctx, "sh", "-c", `ps -eo rss= | awk '{s+=$1} END {print s*1024}'`)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	r.memory = memory
	return r
}

// at is when a step of a run was done, or found to be done.
func at(stdout, step string) time.Time {
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

// processorTime is what all processes of a host that still run have used.
func processorTime(t *testing.T, ctx context.Context, h *lab.Host) time.Duration {
	t.Helper()
	out := h.Must(ctx, "sh", "-c", `ps -eo cputimes= | awk '{s+=$1} END {print s}'`)
	n, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(n) * time.Second
}

// bareWorker is what an experienced person would do: binary, images and token
// copied by hand.
func bareWorker(t *testing.T, ctx context.Context, a *lab.Host) time.Duration {
	h := upWithPlinth(t, "bare")
	h.Must(ctx, "mkdir", "-p", "/var/lib/k0s/images")
	h.Copy(systemImages(t, ctx, h), "/var/lib/k0s/images/images.tar")
	h.Copy(k0sFrom(t, ctx), "/usr/local/bin/k0s")
	// The token leads to the door that a node of Plinth's has of its own.
	token := a.Must(ctx, "sh", "-c", "k0s token create --role worker | base64 -d | gunzip | sed 's/127.0.0.1:6443/"+a.IP()+":6443/' | gzip -c | base64 -w0")
	h.Must(ctx, "sh", "-c", "umask 077; echo "+token+" >/root/token")
	start := time.Now()
	h.Must(ctx, "k0s", "install", "worker", "--token-file", "/root/token", "--kubelet-extra-args=--node-ip="+h.IP())
	h.Must(ctx, "k0s", "start")
	return until(t, ctx, a, start, "k0s kubectl get node "+h.Name+" --no-headers | grep -qw Ready")
}

// link measures the fetch of the largest blob over links of known speed.
func link(t *testing.T, ctx context.Context, from, to *lab.Host) {
	const store = "/var/lib/k0s/containerd/io.containerd.content.v1.content/blobs/sha256"
	blob := strings.TrimSpace(from.Must(ctx, "sh", "-c", "ls -S "+store+" | head -1"))
	dev := strings.TrimSpace(from.Must(ctx, "sh", "-c", "ip route show default | sed 's/.* dev \\([^ ]*\\).*/\\1/'"))
	fetch := func() float64 {
		out := to.Must(ctx, "curl", "-sfk", "--cert", "/var/lib/k0s/kubelet/pki/kubelet-client-current.pem", "-o", "/dev/null", "-w", "%{speed_download}",
			"https://"+from.IP()+":9444/v2/plinth/blobs/sha256:"+blob)
		rate, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
		if err != nil {
			t.Fatal(err)
		}
		return rate
	}
	t.Logf("fetch without a bound: %.0f MB/s", fetch()/1e6)
	for _, mbit := range []float64{1000, 400} {
		from.Must(ctx, "tc", "qdisc", "add", "dev", dev, "root", "tbf", "rate", fmt.Sprintf("%.0fmbit", mbit), "burst", "256kb", "latency", "50ms")
		rate := fetch()
		from.Must(ctx, "tc", "qdisc", "del", "dev", dev, "root")
		t.Logf("fetch over %.0f Mbit/s: %.1f MB/s, %.0f %% of the link (aim 80 %%)", mbit, rate/1e6, rate*8/1e4/mbit)
	}
}
