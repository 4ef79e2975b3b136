//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/pki"
)

// listedCertificate is one entry of `plinth certificates list`.
type listedCertificate struct {
	Name, RenewedBy string
	Ends            time.Time
	DaysLeft        int
	Due             bool
}

// listCertificates returns the certificates of a host by name.
func listCertificates(t testing.TB, ctx context.Context, h *lab.Host) map[string]listedCertificate {
	t.Helper()
	var r struct {
		Result struct{ Certificates []listedCertificate }
	}
	if err := json.Unmarshal([]byte(h.MustRun(ctx, binary, "-o", "json", "certificates", "list")), &r); err != nil {
		t.Fatal(err)
	}
	all := map[string]listedCertificate{}
	for _, c := range r.Result.Certificates {
		all[c.Name] = c
	}
	return all
}

// ageCertificate replaces the first certificate in a file of h by one for the same key and names, which the
// cluster's authority has signed and which is valid from begins to ends, as seen from now.
func ageCertificate(t testing.TB, ctx context.Context, h *lab.Host, path string, begins, ends time.Duration) {
	t.Helper()
	ca, err := tls.X509KeyPair([]byte(h.MustRun(ctx, "cat", k0s.CACertPath)), []byte(h.MustRun(ctx, "cat", k0s.CAKeyPath)))
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	replaced := false
	for block, rest := pem.Decode([]byte(h.MustRun(ctx, "cat", path))); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" && !replaced {
			old, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
			if err != nil {
				t.Fatal(err)
			}
			aged := &x509.Certificate{SerialNumber: serial, RawSubject: old.RawSubject, NotBefore: time.Now().Add(begins), NotAfter: time.Now().Add(ends),
				KeyUsage: old.KeyUsage, ExtKeyUsage: old.ExtKeyUsage, DNSNames: old.DNSNames, IPAddresses: old.IPAddresses, BasicConstraintsValid: true}
			if block.Bytes, err = x509.CreateCertificate(rand.Reader, aged, ca.Leaf, old.PublicKey, ca.PrivateKey); err != nil {
				t.Fatal(err)
			}
			replaced = true
		}
		out = append(out, pem.EncodeToMemory(block)...)
	}
	file := filepath.Join(t.TempDir(), "aged.pem")
	if err := os.WriteFile(file, out, 0o600); err != nil {
		t.Fatal(err)
	}
	h.Copy(file, "/tmp/aged.pem")
	h.MustRun(ctx, "sh", "-c", `cat /tmp/aged.pem > "$1" && rm /tmp/aged.pem`, "sh", path) // keeps links, owner and mode
}

// ageConsoleCertificate replaces the console's certificate by one that Plinth would have created years ago.
func ageConsoleCertificate(t testing.TB, ctx context.Context, h *lab.Host) {
	t.Helper()
	old, err := pki.NewSelfSigned([]string{"console.example.com", h.IP()}, time.Now().Add(-pki.ServerLifetime*3/4))
	if err != nil {
		t.Fatal(err)
	}
	h.MustRun(ctx, binary, "kubectl", "patch", "secret", "-n", "kotsadm", "kotsadm-tls", "--type=merge", "-p", fmt.Sprintf(`{"metadata":{"annotations":{"plinth.dev/self-signed":"true"}},"data":{"tls.crt":%q,"tls.key":%q}}`,
		base64.StdEncoding.EncodeToString(old.Cert), base64.StdEncoding.EncodeToString(old.Key)))
}

// runningContainers returns the containers of all pods but those of the console's proxy, with their starts.
func runningContainers(ctx context.Context, h *lab.Host) []string {
	out := h.MustRun(ctx, binary, "kubectl", "get", "pods", "-A", "-o", `jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {.metadata.uid}{range .status.containerStatuses[*]} {.containerID} {.restartCount} {.state.running.startedAt}{end}{"\n"}{end}`)
	lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(out), "\n"), func(l string) bool { return strings.Contains(l, "console-proxy") })
	slices.Sort(lines)
	return lines
}

// checkCertificatesRenewed makes certificates of a controller old: of k0s, kubelet, the agent and the console. It
// verifies that they are renewed, without -short by the agent itself, that no other pod restarts, and that it is done
// once. kubelet's has ended, as on a host that was off.
func checkCertificatesRenewed(t *testing.T, ctx context.Context, h *lab.Host) {
	const day = 24 * time.Hour
	before := listCertificates(t, ctx, h)
	for _, name := range []string{"ca", "etcd-ca", "front-proxy-ca", "registry-ca"} {
		if c, ok := before[name]; !ok || c.RenewedBy != "" || c.DaysLeft < 3600 {
			t.Errorf("authority %s: %+v", name, c)
		}
	}
	containers := runningContainers(ctx, h)
	for _, name := range []string{"admin", "ccm"} { // the first is the measure of the others' age
		ageCertificate(t, ctx, h, "/var/lib/k0s/pki/"+name+".crt", -300*day, 65*day)
	}
	ageCertificate(t, ctx, h, k0s.KubeletClientCertPath, -2*day, -day)
	ageCertificate(t, ctx, h, "/var/lib/plinth/agent/identity.pem", -300*day, 65*day)
	ageConsoleCertificate(t, ctx, h)
	aged := listCertificates(t, ctx, h)
	for _, name := range []string{"admin", "ccm", "kubelet-client", "console"} { // the agent may have renewed its own already
		if !aged[name].Due {
			t.Errorf("%s is not due: %+v", name, aged[name])
		}
	}
	if w := strings.Join(runPlinth(t, ctx, h, 0, "status").Result.Warnings, "\n"); !strings.Contains(w, "certificate ccm ends on") || !strings.Contains(w, "certificate kubelet-client ended on") {
		t.Errorf("status warns: %s", w)
	}
	if testing.Short() {
		if r := runPlinth(t, ctx, h, 0, "certificates", "renew", "--yes"); !r.Result.Changed {
			t.Errorf("renewed nothing: %+v", r.Result)
		}
	} else {
		waitAgentRenews(t, ctx, h)
	}
	for name, c := range listCertificates(t, ctx, h) {
		if renewed := c.Ends.After(aged[name].Ends); c.Due || slices.Contains([]string{"admin", "ccm", "etcd-peer", "kubelet-client", "console"}, name) && !renewed {
			t.Errorf("%s: %+v, was %+v", name, c, aged[name])
		}
	}
	if after := runningContainers(ctx, h); !slices.Equal(after, containers) {
		t.Errorf("pods have changed:\n%s\nbefore:\n%s", strings.Join(after, "\n"), strings.Join(containers, "\n"))
	}
	if logs := h.MustRun(ctx, binary, "kubectl", "logs", "-n", "kotsadm", "kotsadm-0", "--tail=1"); logs == "" { // by kubelet's serving certificate
		t.Error("no logs")
	}
	h.MustRun(ctx, binary, "kubectl", "rollout", "status", "-n", "kotsadm", "deployment/console-proxy", "--timeout=2m")
	st := runPlinth(t, ctx, h, 0, "status").Result
	for began := time.Now(); st.Console != nil && st.Console.Reason != "" && time.Since(began) < 30*time.Second; { // kube-proxy may still know the old pod
		time.Sleep(time.Second)
		st = runPlinth(t, ctx, h, 0, "status").Result
	}
	if len(st.Warnings) > 0 || st.Console == nil || st.Console.Reason != "" {
		t.Errorf("status: %+v %+v", st.Warnings, st.Console)
	}
	if r := runPlinth(t, ctx, h, 0, "certificates", "renew", "--yes"); r.Result.Changed {
		t.Errorf("renewed again: %+v", r.Result)
	}
	if _, _, code := h.Run(ctx, binary, "kubectl", "get", "configmap", "-n", "kube-system", "plinth-k0s-restart"); code == 0 {
		t.Error("the lock in the cluster is still held")
	}
}

// waitAgentRenews restarts the agent and waits until it has renewed the certificate of the kubelet: up to ten
// minutes, because it begins five minutes after its start.
func waitAgentRenews(t *testing.T, ctx context.Context, h *lab.Host) {
	t.Helper()
	h.MustRun(ctx, "rm", "-f", "/var/lib/plinth/agent/renewal.json")
	h.MustRun(ctx, "systemctl", "restart", "plinth-agent")
	started := time.Now()
	for audit := ""; !strings.Contains(audit, "kubelet-client"); {
		if time.Since(started) > 9*time.Minute {
			t.Fatalf("the agent has renewed nothing: %s\n%s", audit, h.MustRun(ctx, "journalctl", "-u", "plinth-agent", "-u", "plinth-renew-certificates", "-n", "30", "--no-pager"))
		}
		time.Sleep(5 * time.Second)
		audit, _, _ = h.Run(ctx, "journalctl", "-t", "plinth-agent", "--since", started.UTC().Format("2006-01-02 15:04:05 UTC"), "-g", "audit event=renewal", "-o", "cat", "--no-pager") // exit 1 while there is none
	}
	t.Logf("renewed after %.0fs", time.Since(started).Seconds())
}
