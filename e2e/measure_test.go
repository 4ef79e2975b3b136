//go:build e2e || bench

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/e2e/lab"
)

// measurePeakMemory runs a program on this machine and returns its peak resident
// memory in bytes, its output and its error. GNU time starts it: a child of this
// process would start in this process's memory, which the kernel would count.
func measurePeakMemory(t *testing.T, ctx context.Context, program string, args ...string) (int64, string, error) {
	t.Helper()
	record := filepath.Join(t.TempDir(), "peak")
	cmd := exec.CommandContext(ctx, "/usr/bin/time", append([]string{"-q", "-f", "%M", "-o", record, program}, args...)...)
	out, runErr := cmd.CombinedOutput()
	text, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err, string(out))
	}
	kib, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib * 1024, string(out), runErr
}

// measureVersion runs `version` nine times and returns the times, shortest first, and
// the largest peak memory in bytes. The file is read from the disk first: a file that
// was just written is in the page cache in pieces of up to 2 MB, each of which is
// mapped, and counted, as a whole.
func measureVersion(t *testing.T, ctx context.Context, program string) (times []time.Duration, memory int64) {
	t.Helper()
	evictFromPageCache(t, program)
	for range 9 {
		start := time.Now()
		if err := exec.CommandContext(ctx, program, "version").Run(); err != nil {
			t.Fatal(err)
		}
		times = append(times, time.Since(start))
		held, out, err := measurePeakMemory(t, ctx, program, "version")
		if err != nil {
			t.Fatal(err, out)
		}
		memory = max(memory, held)
	}
	slices.Sort(times)
	return times, memory
}

// evictFromPageCache writes a file to the disk and drops it from the page cache.
func evictFromPageCache(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
}

// Credentials for curl: those of the administrator and of etcd's own client on a
// controller, and those of the node on a worker.
const (
	asAdmin = "--cert /var/lib/k0s/pki/admin.crt --key /var/lib/k0s/pki/admin.key"
	asNode  = "--cert /var/lib/k0s/kubelet/pki/kubelet-client-current.pem"
	asAgent = "--cert /var/lib/plinth/agent/identity.pem"
	asEtcd  = "--cert /var/lib/k0s/pki/apiserver-etcd-client.crt --key /var/lib/k0s/pki/apiserver-etcd-client.key"
)

// apiClient is a client that sends requests to the API all the time.
type apiClient struct {
	host *lab.Host
	*lab.Process
}

// startAPIClient makes a host read its own Node through the node's local API address,
// five times a second. The read needs a quorum of etcd.
func startAPIClient(ctx context.Context, h *lab.Host, as string) apiClient {
	return apiClient{h, h.Start(ctx, lab.Cmd{Args: []string{"bash", "-c", `while :; do b=$EPOCHREALTIME
		c=$(curl -sk -m 2 -o /dev/null -w '%{http_code}' ` + as + ` https://127.0.0.1:6443/api/v1/nodes/` + h.Name + `)
		echo "$b $EPOCHREALTIME $c"; sleep 0.2; done`}})}
}

// longestGap returns the longest time without a successful request that ends after
// from, and the number of requests that failed after from.
func (a apiClient) longestGap(t testing.TB, from time.Time) (longest time.Duration, failed int) {
	t.Helper()
	return a.longestGapBetween(t, from, time.Now().Add(time.Hour))
}

// longestGapBetween is longestGap for those that have begun before to.
func (a apiClient) longestGapBetween(t testing.TB, from, to time.Time) (longest time.Duration, failed int) {
	t.Helper()
	out, _ := a.Output()
	last, answered := time.Time{}, false
	for line := range strings.Lines(out) {
		var began, ended float64
		var code int
		if n, err := fmt.Sscan(line, &began, &ended, &code); n != 3 {
			t.Fatalf("%s: %v: %q", a.host.Name, err, line)
		}
		end := time.UnixMicro(int64(ended * 1e6))
		if code != 200 {
			if end.After(from) && end.Before(to) {
				failed++
			}
			continue
		}
		if end.After(from) && last.Before(to) && !last.IsZero() {
			longest, answered = max(longest, end.Sub(last)), true
		}
		last = end
	}
	if !answered {
		t.Errorf("%s: the API never answered again: %s", a.host.Name, lastLines(out, 5))
	}
	return longest, failed
}

// writeScript creates objects and prints the name of each one that the API accepted.
const writeScript = `i=0; while :; do i=$((i+1))
	c=$(curl -sk -m 5 -o /dev/null -w '%{http_code}' ` + asAdmin + ` -H 'Content-Type: application/json' -d '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"w-'$i'","labels":{"e2e":"ha"}}}' https://127.0.0.1:6443/api/v1/namespaces/default/configmaps)
	[ "$c" != 201 ] || echo "w-$i"; done`
