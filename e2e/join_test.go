//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/e2e/lab"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/token"
)

// joinHost joins a host with a token on standard input. The command must exit with code.
func joinHost(t testing.TB, ctx context.Context, h *lab.Host, code int, token string, args ...string) (reply, string) {
	t.Helper()
	start := time.Now()
	p := h.Start(ctx, lab.Cmd{Args: append([]string{binary, "-o", "json", "join", "-"}, args...), Stdin: strings.NewReader(token + "\n")})
	stdout, stderr, got := p.Wait()
	t.Logf("%s: join: exit %d in %.1fs", h.Name, got, time.Since(start).Seconds())
	if got != code {
		t.Fatalf("%s: join: exit %d, want %d\n%s\n%s", h.Name, got, code, lastLines(stdout, 30), lastLines(stderr, 30))
	}
	return parseReply(t, stdout), stderr
}

// TestJoin_GrowsClusterAndSurvivesLosses grows a cluster from its first host, which has
// only the executable with the embedded bundle. The short test has no second worker, which
// joins through a load balancer, is drained and removed, and no controller that replaces a
// removed one.
func TestJoin_GrowsClusterAndSurvivesLosses(t *testing.T) {
	ctx := timeoutContext(t, 25)
	a := lab.Up(t, "a")
	a.Copy(buildEmbedded(t), binary)
	before := startBalancer(t, a)
	install := a.Start(ctx, lab.Cmd{Args: []string{binary, "-o", "json", "install", "--yes", "--api-address", before.address}})
	hosts := map[string]*lab.Host{}
	program, _ := shippedFiles(t)
	names := []string{"b", "c", "d"}
	if !testing.Short() {
		names = append(names, "e", "f") // f joins after e is removed
	}
	for _, name := range names {
		hosts[name] = lab.Up(t, name)
		if name != "c" { // c downloads it from the cluster
			hosts[name].Copy(program, binary)
		}
	}
	b, c, d, e, workers := hosts["b"], hosts["c"], hosts["d"], hosts["e"], []*lab.Host{}
	fresh := b.Baseline(ctx)
	if stdout, stderr, code := install.Wait(); code != 0 {
		t.Fatalf("install: exit %d\n%s\n%s", code, lastLines(stdout, 20), lastLines(stderr, 20))
	}
	t.Run("refused joins name the reason and change nothing", func(t *testing.T) {
		checkRefusedJoins(t, ctx, a.ForTest(t), b.ForTest(t), before.address)
		checkBlockedJoins(t, ctx, a.ForTest(t), b.ForTest(t))
		checkUnchanged(t, fresh, b.Baseline(ctx))
	})
	var used string
	if !t.Run("a worker joins, killed three times and resumed", func(t *testing.T) { used = checkKilledJoin(t, ctx, a.ForTest(t), b.ForTest(t)) }) {
		t.FailNow()
	}
	t.Run("its token is not valid for another host", func(t *testing.T) {
		if r, _ := joinHost(t, ctx, d.ForTest(t), 9, used); r.Error == nil || !strings.Contains(r.Error.Cause, "used up, by b") {
			t.Errorf("%+v", r.Error)
		}
	})
	t.Run("a join on a node changes nothing", func(t *testing.T) {
		start := time.Now()
		r, _ := joinHost(t, ctx, b.ForTest(t), 0, createToken(t, ctx, a, "--role", "worker").Result.Token)
		if took := time.Since(start); r.Result.Changed || took > 15*time.Second {
			t.Errorf("%+v in %.1fs", r.Result, took.Seconds())
		}
		for _, e := range r.Result.Preflights.Results {
			if e.ID == "host-changed" && (e.State != "pass" || !strings.HasPrefix(e.Found, "none since ")) {
				t.Errorf("%+v", e)
			}
		}
		if mode := b.MustRun(ctx, "stat", "-c", "%a", "/var/lib/plinth/facts.json"); strings.TrimSpace(mode) != "600" {
			t.Errorf("facts.json has mode %s", mode)
		}
	})
	t.Run("an image that a node has lost is restored from the cluster", func(t *testing.T) { checkLostImageFromCluster(t, ctx, a.ForTest(t), b.ForTest(t)) })
	t.Run("the status is fast on a controller and on a worker", func(t *testing.T) {
		checkStatusFields(t, ctx, a.ForTest(t), `"leader":true`, `{"address":"`+a.IP()+`:6443","ready":true}`)
		checkStatusFields(t, ctx, b.ForTest(t), `"balancer":{"address":"127.0.0.1:6443","ready":true}`)
	})
	t.Run("agents serve nodes only", func(t *testing.T) { checkAgentAccess(t, ctx, a.ForTest(t), b.ForTest(t)) })
	t.Run("a load balancer in front of the controllers is used", func(t *testing.T) { before.checkAddresses(t, ctx, a.ForTest(t)) })
	t.Run("a worker's token is worth a worker", func(t *testing.T) { checkWorkerToken(t, ctx, a.ForTest(t), used) })
	t.Run("root on a worker is worth a worker", func(t *testing.T) { checkRootOnWorker(t, ctx, a.ForTest(t), b.ForTest(t)) })
	for _, h := range []*lab.Host{a, b} { // an install and a join put it there
		h.MustRun(ctx, "/usr/local/bin/plinth", "version")
	}
	insertMarker(t, ctx, a)
	m := createToken(t, ctx, a, "--role", "controller", "--uses", "2").Result
	c.MustRun(ctx, "sh", "-c", "cd /root && "+m.Fetch+" && mv plinth "+binary)
	t.Run("the second controller loses power while joining, and the first keeps serving", func(t *testing.T) { checkPowerCutWhileJoining(t, ctx, a.ForTest(t), c.ForTest(t), m.Token) })
	sentBefore := readSentBytes(t, ctx, b)
	undo := func() {}
	if e != nil { // a worker needs no direct access to a controller
		workers, undo = []*lab.Host{e}, before.blockDirectAccess(ctx, e, a)
	}
	if !t.Run("two controllers join at the same moment", func(t *testing.T) {
		checkConcurrentJoins(t, ctx, m.Token, a.ForTest(t), c.ForTest(t), d.ForTest(t), workers...)
	}) {
		t.FailNow()
	}
	undo()
	if e != nil && !before.hasForwarded("9444", e) {
		t.Errorf("%s joined without the load balancer", e.Name)
	}
	// Each host reads blob after blob from node after node and begins at a random one: the worker's part is between the smallest
	// blobs, some 60 MB, and the largest.
	if gave := readSentBytes(t, ctx, b) - sentBefore; gave < 25e6 {
		t.Errorf("the worker sent only %d MB of the downloads of three hosts", gave/1e6)
	} else {
		t.Logf("the worker sent %d MB", gave/1e6)
	}
	t.Run("all controllers read the encrypted Secrets", func(t *testing.T) { checkSharedEncryptionKey(t, ctx, a.ForTest(t), c.ForTest(t), d.ForTest(t)) })
	t.Run("pods on all nodes reach each other and services", func(t *testing.T) {
		checkPodNetwork(t, ctx, a.ForTest(t), append([]*lab.Host{b, c, d}, workers...)...)
	})
	left := checkControllerLosses(t, ctx, a, b, c, d, workers...)
	if testing.Short() {
		t.Run("a worker leaves the cluster and is reset", func(t *testing.T) { checkWorkerLeaves(t, ctx, a.ForTest(t), b.ForTest(t), fresh, left) })
		t.Run("a controller leaves the cluster and is reset", func(t *testing.T) { checkControllerLeaves(t, ctx, a.ForTest(t), left.ForTest(t)) })
		t.Run("a revoked controller gets no keys", func(t *testing.T) { checkRevokedController(t, ctx, a.ForTest(t)) })
		return
	}
	f := hosts["f"]
	checkReplacement(t, ctx, a, left, f, e)
	t.Run("a worker leaves the cluster and is reset", func(t *testing.T) { checkWorkerLeaves(t, ctx, a.ForTest(t), b.ForTest(t), fresh, f) })
	if !t.Run("the console's own node is lost", func(t *testing.T) { checkConsoleNodeLoss(t, ctx, a.ForTest(t), left.ForTest(t), f.ForTest(t)) }) {
		t.FailNow()
	}
	t.Run("a controller leaves the cluster and is reset", func(t *testing.T) { checkControllerLeaves(t, ctx, left.ForTest(t), f.ForTest(t)) })
	t.Run("a revoked controller gets no keys", func(t *testing.T) { checkRevokedController(t, ctx, left.ForTest(t)) })
}

// checkRefusedJoins tries joins that a cluster must refuse. before is the address of
// the load balancer in front of its controller.
func checkRefusedJoins(t *testing.T, ctx context.Context, a, b *lab.Host, before string) {
	good := createToken(t, ctx, a, "--role", "worker").Result
	gone := createToken(t, ctx, a, "--role", "worker", "--ttl", "1s").Result
	a.MustRun(ctx, "sleep", "1.5")
	revoked := createToken(t, ctx, a, "--role", "worker").Result
	a.MustRun(ctx, binary, "token", "revoke", revoked.ID)
	tok, err := token.Decode(good.Token)
	if err != nil {
		t.Fatal(err)
	}
	other := tok
	other.Pin = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
	foreign, err := other.Encode()
	if err != nil {
		t.Fatal(err)
	}
	other = tok
	other.Secret = strings.Repeat("x", len(tok.Secret))
	unknown, err := other.Encode()
	if err != nil {
		t.Fatal(err)
	}
	i := len(good.Token) / 2
	flipped := good.Token[:i] + string(good.Token[i]^1) + good.Token[i+1:]
	b.Copy(buildOtherBundle(t), "/srv/other.bundle")
	spent := createUsedUpToken(t, ctx, a)
	late := tok
	late.Addresses = []string{serveWrongClock(t, ctx, a, 10*time.Minute)}
	slow, err := late.Encode()
	if err != nil {
		t.Fatal(err)
	}
	gateway := a.IP()[:strings.LastIndex(a.IP(), ".")] + ".1"
	api := " INPUT -p tcp -s " + b.IP() + " --dport 6443 -j DROP"
	for _, r := range []struct {
		name, token string
		args        []string
		says        string
		prepare     string
		undo        string
		there       [2]string // commands on the controller: prepare and undo
		report      string    // finding of the failed preflight; the exit code is then 5, otherwise 9
	}{
		{name: "used up", token: spent, says: "the token is used up, by "},
		{name: "a clock ten minutes off", token: slow, says: "this host's clock is 10m0s behind the cluster's; the limit is 1m0s"},
		{name: "the API's port blocked to the controller", token: good.Token, there: [2]string{"iptables -I" + api, "iptables -D" + api},
			says: "1 host preflight failed: peer-ports", report: "this host does not reach " + a.IP() + " at 6443/tcp (no answer: a packet filter drops it)"},
		{name: "expired", token: gone.Token, says: "expired"},
		{name: "revoked", token: revoked.Token, says: "revoked"},
		{name: "unknown", token: unknown, says: "does not know"},
		{name: "of another cluster", token: foreign, says: "is not the cluster for which the token is valid"},
		{name: "one character changed", token: flipped, says: "changed"},
		{name: "cut short", token: good.Token[:len(good.Token)-20], says: "cut short"},
		{name: "for the other role", token: good.Token, args: []string{"--role", "controller"}, says: "for a worker"},
		{name: "a host name that is taken", token: good.Token, says: "already has a node named a", prepare: "hostname a", undo: "hostname b"},
		{name: "a machine id that is taken", token: good.Token, says: "node a of the cluster has this host's machine id",
			prepare: "cp -a /etc/machine-id /root/own; echo " + a.MustRun(ctx, "cat", "/etc/machine-id") + " >/etc/machine-id", undo: "cp -a /root/own /etc/machine-id; rm /root/own"},
		{name: "an address that is taken", token: good.Token, says: "an interface of this host has the address " + a.IP() + " of node a",
			prepare: "ip link add taken type veth peer name away && ip link set taken up && ip link set away up && sysctl -qw net.ipv4.conf.eth0.arp_ignore=1 && ip addr add " + a.IP() +
				"/24 dev taken noprefixroute && ip route replace default via " + gateway + " dev taken onlink",
			undo: "ip link del taken; sysctl -qw net.ipv4.conf.eth0.arp_ignore=0; ip route add default via " + gateway + " dev eth0"},
		{name: "another data folder", token: good.Token, args: []string{"--data-dir", "/srv/plinth"}, says: "--data-dir"},
		{name: "another version, other networks", token: good.Token, args: []string{"--bundle", "/srv/other.bundle"}, says: "the bundle on this host differs from the cluster's"},
		{name: "no controller that answers", token: good.Token, says: "no controller answers", prepare: "for i in " + a.IP() + " " + before + "; do ip route add blackhole $i; done",
			undo: "for i in " + a.IP() + " " + before + "; do ip route del blackhole $i; done"},
	} {
		t.Run(r.name, func(t *testing.T) {
			b := b.ForTest(t)
			if r.prepare != "" {
				b.MustRun(ctx, "sh", "-c", r.prepare)
				defer b.MustRun(ctx, "sh", "-c", r.undo)
			}
			if r.there[0] != "" {
				a.MustRun(ctx, "sh", "-c", r.there[0])
				defer a.MustRun(ctx, "sh", "-c", r.there[1])
			}
			code, bound := 9, 5*time.Second
			if r.report != "" {
				code, bound = 5, 20*time.Second // the host's preflights run, with benchmarks
			}
			got := joinRefusedWithin(t, ctx, b, bound, code, r.token, r.args...)
			if got.Error == nil || !strings.Contains(got.Error.Cause, r.says) || code == 9 && !strings.Contains(got.Error.Hint, "nothing on this host was changed") {
				t.Errorf("%+v", got.Error)
			}
			found := ""
			for _, e := range got.Result.Preflights.Results {
				if e.State == "fail" {
					found += e.Found
				}
			}
			if r.report != "" && found != r.report {
				t.Errorf("the preflights found %q, want %q", found, r.report)
			}
		})
	}
	b.MustRun(ctx, "rm", "/srv/other.bundle")
	checkAuditLine(t, ctx, a, "event=revocation node=- peer=- token="+strconv.Quote(revoked.ID)+` result="token revoked"`)
	checkAuditLine(t, ctx, a, "event=refusal ", " peer="+b.IP()+" ", `result="the token is used up, by `)
}

// checkAuditLine verifies that one line of the host's audit log has all parts.
func checkAuditLine(t *testing.T, ctx context.Context, h *lab.Host, parts ...string) {
	t.Helper()
	log := h.MustRun(ctx, "journalctl", "--no-pager", "--output=cat", "--identifier=plinth-agent", "--grep=audit event=")
	for line := range strings.Lines(log) {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			return
		}
	}
	t.Errorf("no line of the audit log has %q:\n%s", parts, lastLines(log, 30))
}

// joinRefusedWithin joins a host. The join must exit with code and within a bound. It
// is retried twice if it took longer, as the machine may have been busy.
func joinRefusedWithin(t *testing.T, ctx context.Context, h *lab.Host, bound time.Duration, code int, token string, args ...string) (got reply) {
	t.Helper()
	best := time.Hour
	for range 3 {
		start := time.Now()
		got, _ = joinHost(t, ctx, h, code, token, args...)
		if best = min(best, time.Since(start)); best <= bound {
			return got
		}
	}
	t.Errorf("the refusal took %.1fs", best.Seconds())
	return got
}

// createUsedUpToken returns a token with one use that eight hosts try to use at the same
// time: one of them succeeds. That one never joins, and is removed again.
func createUsedUpToken(t *testing.T, ctx context.Context, a *lab.Host) string {
	m := createToken(t, ctx, a, "--role", "worker").Result
	var group sync.WaitGroup
	var errs [8]error
	for i := range errs {
		j, name := newJoiner(t, m.Token), fmt.Sprint("x", i)
		r := j.request(t, name, fmt.Sprint("198.18.0.1", i))
		group.Go(func() {
			for errs[i] = errors.New("not tried"); errs[i] != nil && !errors.As(errs[i], new(*agent.DeniedError)); { // two at once may conflict
				_, errs[i] = j.Admit(ctx, r)
			}
		})
	}
	group.Wait()
	admitted := 0
	for i, err := range errs {
		if err == nil {
			admitted++
			runPlinth(t, ctx, a, 0, "node", "remove", fmt.Sprint("x", i), "--yes")
		} else if !strings.Contains(err.Error(), "used up") {
			t.Errorf("x%d: %v", i, err)
		}
	}
	if admitted != 1 {
		t.Errorf("%d of eight hosts used a token with one use: %v", admitted, errs)
	}
	return m.Token
}

// serveWrongClock returns the address of a controller whose clock is ahead: a proxy
// for a's agent, with a certificate of a's cluster, that changes the time.
func serveWrongClock(t *testing.T, ctx context.Context, a *lab.Host, ahead time.Duration) string {
	authority := pki.Pair{Cert: []byte(a.MustRun(ctx, "cat", "/var/lib/k0s/pki/ca.crt")), Key: []byte(a.MustRun(ctx, "cat", "/var/lib/k0s/pki/ca.key"))}
	machine := machineAddress(a)
	identity, err := node.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if identity, err = identity.Issue(nodecert.Identity{Node: "late", UID: "late", Role: token.Controller, Address: machine}, authority, time.Now()); err != nil {
		t.Fatal(err)
	}
	cert, err := identity.TLS()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", machine+":0")
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "https", Host: a.IP() + ":9444"}) },
		// The proxy need not verify the agent: join verifies the proxy's certificate.
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		ModifyResponse: func(r *http.Response) error {
			var offer agent.ClusterInfo
			if r.Request.URL.Path != agent.JoinPath || json.NewDecoder(r.Body).Decode(&offer) != nil {
				return nil
			}
			offer.Time = offer.Time.Add(ahead)
			body, err := json.Marshal(offer)
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			r.Header.Set("Content-Length", strconv.Itoa(len(body)))
			return err
		},
	}
	srv := &http.Server{Handler: proxy, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}
	go func() { _ = srv.ServeTLS(ln, "", "") }()
	t.Cleanup(func() { _ = srv.Close() })
	return ln.Addr().String()
}

// checkAgentAccess sends requests to the agents of a controller and of a worker: some
// that are always refused, and some that need a node's certificate.
func checkAgentAccess(t *testing.T, ctx context.Context, a, b *lab.Host) {
	const own = asAgent + " "
	curl := func(from, to *lab.Host, args string) string {
		return from.MustRun(ctx, "bash", "-c", "curl -sk --path-as-is -m 10 -o /dev/null -w '%{http_code}' "+strings.ReplaceAll(args, "URL", "https://"+to.IP()+":9444")+" || true")
	}
	for _, to := range []*lab.Host{a, b} {
		for args, want := range map[string]string{
			"URL/v2/":           "401",
			"-I URL/v2/":        "401",
			own + "URL/v2/":     "200",
			asNode + " URL/v2/": "401", // a kubelet is no agent
			own + "URL/v2/plinth/blobs/../../../etc/shadow":             "307", // to a path that is not served
			own + "URL/v2/plinth/blobs/..%2f..%2f..%2fetc%2fshadow":     "400",
			own + "URL/v2/plinth/tags/list":                             "404",
			own + "URL/v2/_catalog":                                     "404",
			own + "URL/etc/shadow":                                      "404",
			"-H \"X: $(head -c 40000 /dev/zero | tr '\\0' a)\" URL/v2/": "431",
		} {
			if got := curl(b, to, args); got != want {
				t.Errorf("%s, %.60s: %s, want %s", to.Name, args, got, want)
			}
		}
	}
	start := time.Now()
	b.MustRun(ctx, "timeout", "60", "bash", "-c", "exec 3<>/dev/tcp/"+a.IP()+"/9444; cat <&3 >/dev/null || true")
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("an idle connection is kept open for %.0fs", took.Seconds())
	}
}

// checkStatusFields reads a node's status until it has the wanted fields and is fast
// enough. It retries because other tests may keep the machine busy, and the status
// reports an API that answers late.
func checkStatusFields(t *testing.T, ctx context.Context, h *lab.Host, want ...string) {
	var wrong string
	for range 5 {
		start := time.Now()
		out := h.MustRun(ctx, binary, "-o", "json", "status")
		took := time.Since(start)
		wrong = ""
		if took > 2*time.Second {
			wrong = fmt.Sprintf("it takes %.1fs", took.Seconds())
		}
		for _, w := range append(want, `"agent":"active"`, `"service":"active"`) {
			if !strings.Contains(out, w) {
				wrong += fmt.Sprintf("; no %s in %s", w, out)
			}
		}
		if wrong == "" {
			t.Logf("%s: status in %.2fs", h.Name, took.Seconds())
			return
		}
	}
	t.Errorf("%s: the status: %s", h.Name, wrong)
}

// checkLostImageFromCluster removes an image and its blobs from a node. The node's
// certificate must allow it to read them from another node, and a join must restore
// the image.
func checkLostImageFromCluster(t *testing.T, ctx context.Context, a, b *lab.Host) {
	const store = "/var/lib/k0s/containerd/io.containerd.content.v1.content/blobs/sha256/"
	image := b.MustRun(ctx, "sh", "-c", "k0s ctr images ls -q | grep '/kotsadm-migrations:'")
	before := strings.Fields(b.MustRun(ctx, "ls", store))
	// A join that was killed has left a lease on the content that it imported.
	b.MustRun(ctx, "sh", "-c", "for l in $(k0s ctr leases ls -q); do k0s ctr leases rm $l; done; k0s ctr images rm --sync "+image)
	after := b.MustRun(ctx, "ls", store)
	lost := slices.DeleteFunc(before, func(blob string) bool { return strings.Contains(after, blob) })
	if len(lost) == 0 {
		t.Fatalf("no blob of %s was removed", image)
	}
	for _, blob := range lost {
		b.MustRun(ctx, "sh", "-c", "curl -sSfk "+asAgent+" https://"+a.IP()+":9444/v2/plinth/blobs/sha256:"+blob+" | sha256sum | grep -q "+blob)
	}
	if r, _ := joinHost(t, ctx, b, 0, createToken(t, ctx, a, "--role", "worker").Result.Token); !r.Result.Changed {
		t.Error("the join changed nothing")
	}
	b.MustRun(ctx, "sh", "-c", "k0s ctr images check name=="+image+" | grep -qw complete")
}

// readSentBytes returns how many bytes a host has sent.
func readSentBytes(t *testing.T, ctx context.Context, h *lab.Host) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(h.MustRun(ctx, "sh", "-c", "cat /sys/class/net/$(ip route show default | sed 's/.* dev \\([^ ]*\\).*/\\1/')/statistics/tx_bytes")), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// buildOtherBundle returns the path of a bundle with another version of k0s and other
// networks. A join finds the differences before it uses the content.
func buildOtherBundle(t *testing.T) string {
	req := airgaptest.NewRequest(t)
	raw, err := os.ReadFile("../installer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	req.Installer = []byte(strings.NewReplacer("v1.33.8+k0s.1", "v1.33.9+k0s.0", "10.244.0.0/16", "10.199.0.0/16").Replace(string(raw)))
	return airgaptest.WriteBundle(t, req)
}

// checkKilledJoin kills a join at three moments and runs it again each time. It returns
// the token that the join used.
func checkKilledJoin(t *testing.T, ctx context.Context, a, b *lab.Host) (used string) {
	m := createToken(t, ctx, a, "--role", "worker").Result
	moments := []string{`"step":"k0s-binary","state":"progress"`, `"step":"k0s-start","state":"done"`, `"step":"images-rest","state":"progress"`}
	for _, moment := range moments {
		p := b.Start(ctx, lab.Cmd{Args: []string{binary, "-o", "json", "join", "-"}, Stdin: strings.NewReader(m.Token)})
		if !p.WaitFor(ctx, moment) {
			out, errs := p.Output()
			t.Fatalf("it never said %s: %s\n%s", moment, lastLines(out, 20), lastLines(errs, 20))
		}
		if moment == moments[0] {
			checkRunningJoin(t, ctx, b, m.Token)
		}
		b.MustRun(ctx, "pkill", "-KILL", "-f", binary+" -o json join")
		p.Wait()
	}
	r, stderr := joinHost(t, ctx, b, 0, m.Token)
	if !r.Result.Changed || !strings.Contains(stderr, "resuming the join started at") {
		t.Errorf("%+v\n%s", r.Result, stderr)
	}
	secret, err := token.Decode(m.Token)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{m.Token, secret.Secret} {
		if out, _, code := b.Run(ctx, "grep", "-rlF", "--", s, "/var/log", "/var/lib/plinth", "/etc", "/run/log", "/root"); code == 0 {
			t.Errorf("the token is stored in %s", out)
		}
	}
	var list struct {
		Result struct {
			Tokens []struct {
				ID, State string
				UsedBy    []struct{ Node string }
			}
		}
	}
	if err := json.Unmarshal([]byte(a.MustRun(ctx, binary, "-o", "json", "token", "list")), &list); err != nil {
		t.Fatal(err)
	}
	for _, tok := range list.Result.Tokens {
		if tok.ID == m.ID && (tok.State != "used up" || len(tok.UsedBy) != 1 || tok.UsedBy[0].Node != b.Name) {
			t.Errorf("%+v", tok)
		}
	}
	return m.Token
}

// checkRunningJoin verifies, on a host with a running join, that the process list does
// not show the token, and that the status reports the join.
func checkRunningJoin(t *testing.T, ctx context.Context, h *lab.Host, token string) {
	const seen = `token=$(cat); for p in /proc/[0-9]*; do [[ $(tr '\0' ' ' 2>/dev/null <$p/cmdline) != *"$token"* ]] || echo $p; done`
	if out, errs, code := h.Start(ctx, lab.Cmd{Args: []string{"bash", "-c", seen}, Stdin: strings.NewReader(token)}).Wait(); out != "" || code != 0 {
		t.Errorf("ps shows the token: %s %s", out, errs)
	}
	var s struct {
		Result struct {
			Running struct {
				Verb, Step string
				Steps      int
			}
			Unfinished any
		}
	}
	out := h.MustRun(ctx, binary, "-o", "json", "status")
	if err := json.Unmarshal([]byte(out), &s); err != nil || s.Result.Running.Verb != "join" || s.Result.Running.Step == "" || s.Result.Running.Steps == 0 || s.Result.Unfinished != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// checkConcurrentJoins joins two controllers, with one token, and workers at the same
// time. The first controller resumes a join that died.
func checkConcurrentJoins(t *testing.T, ctx context.Context, two string, a, c, d *lab.Host, workers ...*lab.Host) {
	first := c.Start(ctx, lab.Cmd{Args: []string{binary, "-o", "json", "join", "-"}, Stdin: strings.NewReader(two)})
	second := d.Start(ctx, lab.Cmd{Args: []string{binary, "-o", "json", "join", "-"}, Stdin: strings.NewReader(two)})
	all := []*lab.Process{first, second}
	for _, w := range workers {
		token := createToken(t, ctx, a, "--role", "worker").Result.Token
		all = append(all, w.Start(ctx, lab.Cmd{Args: []string{binary, "-o", "json", "join", "-"}, Stdin: strings.NewReader(token)}))
	}
	for _, p := range all {
		if stdout, stderr, code := p.Wait(); code != 0 {
			t.Fatalf("exit %d\n%s\n%s", code, lastLines(stdout, 30), lastLines(stderr, 30))
		}
	}
	if _, stderr := first.Output(); !strings.Contains(stderr, "resuming the join started at") {
		t.Errorf("%s did not resume its join: %s", c.Name, lastLines(stderr, 10))
	}
	for _, p := range all[2:] {
		if _, stderr := p.Output(); strings.Contains(stderr, "cannot reach the Kubernetes API") {
			t.Errorf("the balancer leads to no API: %s", lastLines(stderr, 10))
		}
	}
	members := a.MustRun(ctx, "k0s", "etcd", "member-list")
	for _, h := range []*lab.Host{a, c, d} {
		if !strings.Contains(members, h.IP()+":2380") {
			t.Errorf("%s is not a member of etcd: %s", h.Name, members)
		}
	}
	c.MustRun(ctx, binary, "token", "list") // every controller can list the tokens
}

// checkPodNetwork verifies that a pod on each node reaches a pod on every node and a
// service.
func checkPodNetwork(t *testing.T, ctx context.Context, a *lab.Host, others ...*lab.Host) {
	kubectl := func(args ...string) string { return a.MustRun(ctx, append([]string{binary, "kubectl"}, args...)...) }
	image := kubectl("get", "statefulset", "-n", "kotsadm", "kotsadm", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	nodes := append([]*lab.Host{a}, others...)
	for _, n := range nodes {
		kubectl("run", "on-"+n.Name, "--image="+image, "--image-pull-policy=Never", "--restart=Never", `--overrides={"spec":{"nodeName":"`+n.Name+`"}}`,
			"--command", "--", "kubectl", "proxy", "--address=0.0.0.0", "--accept-hosts=.*")
	}
	kubectl("wait", "--for=condition=Ready", "--timeout=120s", "pod/on-"+nodes[0].Name, "pod/on-"+nodes[len(nodes)-1].Name)
	ip := map[string]string{}
	for _, n := range nodes {
		kubectl("wait", "--for=condition=Ready", "--timeout=60s", "pod/on-"+n.Name)
		ip[n.Name] = kubectl("get", "pod", "on-"+n.Name, "-o", "jsonpath={.status.podIP}")
	}
	var servers []string
	for _, to := range nodes {
		servers = append(servers, "http://"+ip[to.Name]+":8001/version")
	}
	for _, from := range nodes {
		checkPodReaches(t, ctx, a, "on-"+from.Name, append(servers, "http://kotsadm.kotsadm.svc.cluster.local:3000/healthz"))
	}
}

// checkPodReaches verifies that a pod can read each URL, in one command, because each one in a pod takes seconds. A node
// that has just joined learns the routes to the others some seconds after it is Ready.
func checkPodReaches(t *testing.T, ctx context.Context, a *lab.Host, pod string, urls []string) {
	t.Helper()
	const script = `deadline=$(($(date +%s) + 60))
for url; do
	server=${url%/*}
	until out=$(kubectl --server="$server" --request-timeout=5s get --raw "/${url##*/}" 2>&1) && case $out in *ersion*) ;; *) false ;; esac; do
		[ "$(date +%s)" -lt $deadline ] || { echo "$url: $out"; exit 1; }
		sleep 1
	done
done`
	out, errs, code := a.Run(ctx, append([]string{binary, "kubectl", "exec", pod, "--", "sh", "-c", script, "sh"}, urls...)...)
	if code != 0 {
		t.Errorf("%s does not reach %s%s\n%s", pod, out, errs, describeCluster(ctx, a))
	}
}
