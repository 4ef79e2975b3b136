//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/wait"
)

// toyHost is the name by which users reach the toy application.
const toyHost = "toy.example.com"

// toyManifests are the objects of an application that answers with its text, and with the name of its user's address. The
// image is that of the console's proxy. %s: certificate and key of the Ingress, in base64.
const toyManifests = `
apiVersion: v1
kind: Namespace
metadata: {name: toy}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: toy, namespace: toy}
data:
  nginx.conf: |
    pid /tmp/nginx.pid;
    events {}
    http {
      client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c; uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e;
      server { listen 8080; location / { default_type text/plain; return 200 "toy for $http_x_forwarded_for by $http_x_forwarded_proto"; } }
    }
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: toy, namespace: toy}
spec:
  selector: {matchLabels: {app: toy}}
  template:
    metadata: {labels: {app: toy}}
    spec:
      containers:
        - name: toy
          image: docker.io/library/nginx:1.22.1
          imagePullPolicy: IfNotPresent
          volumeMounts: [{name: config, mountPath: /etc/nginx/nginx.conf, subPath: nginx.conf}]
      volumes: [{name: config, configMap: {name: toy}}]
---
apiVersion: v1
kind: Service
metadata: {name: toy, namespace: toy}
spec:
  selector: {app: toy}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Secret
metadata: {name: toy-tls, namespace: toy}
type: kubernetes.io/tls
data: {tls.crt: %s, tls.key: %s}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: toy, namespace: toy}
spec:
  tls: [{hosts: [toy.example.com], secretName: toy-tls}]
  rules:
    - host: toy.example.com
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: toy, port: {number: 80}}}}]}
---
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {name: toy, namespace: toy}
spec:
  entryPoints: [websecure]
  routes:
    - match: Host(` + "`toy.example.com`" + `) && PathPrefix(` + "`/route`" + `)
      kind: Rule
      services: [{name: toy, port: 80}]
  tls: {secretName: toy-tls}
`

// TestAddOns_ServeAnApplicationOverTLS installs a load balancer and an ingress controller, and reaches an application
// through them from outside of the cluster.
func TestAddOns_ServeAnApplicationOverTLS(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes five minutes: make test-long")
	}
	payload := payloadWithAddOns(t)
	runParallel(t)
	ctx := timeoutContext(t, 60)
	h := startHostWithPlinth(t, "addons")
	network := h.IP()[:strings.LastIndex(h.IP(), ".")]
	address := network + ".250"
	const place, metrics = "\n  # hostPreflights:", "\n  metricsServer: {disabled: true}"
	const both, one, again = "/srv/both.bundle", "/srv/one.bundle", "/srv/again.bundle"
	balancer := fmt.Sprintf("\n  loadBalancer: {version: 0.16.2, addresses: [%s.250-%s.251]}", network, network)
	ingress := fmt.Sprintf("\n  ingress: {version: 3.7.13, address: %s}", address)
	h.Copy(buildVariant(t, payload, 2, place, balancer+ingress+place), both)
	h.Copy(buildVariant(t, payload, 3, place, balancer+metrics+place), one)
	h.Copy(buildVariant(t, payload, 4, place, balancer+ingress+place), again)
	fresh := h.Baseline(ctx)

	start := time.Now()
	runPlinth(t, ctx, h, 0, "install", "--bundle", both, "--yes")
	t.Logf("installed after %.0fs", time.Since(start).Seconds())
	checkCluster(t, ctx, h)
	if r := runPlinth(t, ctx, h, 0, "install", "--bundle", both, "--yes"); r.Result.Changed {
		t.Errorf("a second run: %+v", r.Result)
	}
	ca := applyToy(t, ctx, h)
	machine := machineAddress(h) // of the client
	for path, want := range map[string]string{"/": "toy for " + machine + " by https", "/route": "toy for " + machine + " by https"} {
		t.Run("GET "+path, func(t *testing.T) {
			checkToy(t, ctx, ca, address, path, want)
		})
	}
	waitForOutput(t, ctx, h, time.Minute, "address of the Ingress", func(out string) bool { return out == address },
		binary, "kubectl", "get", "ingress", "-n", "toy", "toy", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
	metricsServer := []string{binary, "kubectl", "get", "deployment", "-n", "kube-system", "metrics-server", "--ignore-not-found", "-o", "jsonpath={.status.readyReplicas}"}
	if !t.Run("an upgrade removes the ingress controller and metrics-server", func(t *testing.T) {
		h := h.ForTest(t)
		runPlinth(t, ctx, h, 0, "upgrade", "--bundle", one, "--yes")
		checkCluster(t, ctx, h)
		if out := h.MustRun(ctx, metricsServer...); out != "" {
			t.Errorf("metrics-server runs: %s", out)
		}
		if text, err := getToy(ctx, ca, address, "/"); err == nil {
			t.Errorf("the application still answers: %s", text)
		}
		if got := strings.TrimSpace(h.MustRun(ctx, binary, "kubectl", "get", "ingressroutes", "-n", "toy", "-o", "name")); got != "ingressroute.traefik.io/toy" {
			t.Errorf("routes are %q", got)
		}
	}) {
		return
	}
	t.Run("an upgrade brings both back", func(t *testing.T) {
		h := h.ForTest(t)
		runPlinth(t, ctx, h, 0, "upgrade", "--bundle", again, "--yes")
		checkCluster(t, ctx, h)
		checkToy(t, ctx, ca, address, "/route", "toy for "+machine+" by https")
		waitForOutput(t, ctx, h, 2*time.Minute, "metrics-server", func(out string) bool { return out == "1" }, metricsServer...)
	})
	t.Run("a reset leaves nothing", func(t *testing.T) {
		h := h.ForTest(t)
		runPlinth(t, ctx, h, 0, "reset", "cluster", "--cluster", "my-app", "--delete-data", "--yes")
		checkUnchanged(t, fresh, h.Baseline(ctx))
	})
}

// payloadWithAddOns returns the payload that has the images of all add-ons.
func payloadWithAddOns(t *testing.T) string {
	t.Helper()
	payload := os.Getenv("PLINTH_E2E_PAYLOAD_ADD_ONS")
	if payload == "" {
		t.Skip("PLINTH_E2E_PAYLOAD_ADD_ONS is not set: make test-long")
	}
	return payload
}

// applyToy creates the toy application and waits until it runs. It returns the authority of its certificate.
func applyToy(t *testing.T, ctx context.Context, h *lab.Host) *x509.CertPool {
	t.Helper()
	ca, err := pki.NewCA("toy", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.IssueServerCert([]string{toyHost}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/toy.yaml"
	text := fmt.Sprintf(toyManifests, base64.StdEncoding.EncodeToString(pair.Cert), base64.StdEncoding.EncodeToString(pair.Key))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Copy(file, "/srv/toy.yaml")
	h.MustRun(ctx, binary, "kubectl", "apply", "-f", "/srv/toy.yaml")
	h.MustRun(ctx, binary, "kubectl", "rollout", "status", "-n", "toy", "deployment/toy", "--timeout=120s")
	h.MustRun(ctx, "rm", "/srv/toy.yaml")
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca.Cert) {
		t.Fatal("no certificate")
	}
	return roots
}

// checkToy waits until the toy application answers at an address, which must be with the text want.
func checkToy(t *testing.T, ctx context.Context, ca *x509.CertPool, address, path, want string) {
	t.Helper()
	var got string
	err := wait.Until(ctx, wait.Options{What: "the application to answer", Timeout: 2 * time.Minute, Interval: time.Second}, func(ctx context.Context) (bool, string, error) {
		text, err := getToy(ctx, ca, address, path)
		if err != nil {
			return false, err.Error(), nil
		}
		got = text
		return true, "", nil
	})
	if err != nil || got != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

// getToy returns the answer of the toy application at an address. Its certificate must be of the authority.
func getToy(ctx context.Context, ca *x509.CertPool, address, path string) (string, error) {
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(address, "443"))
	}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: ca, MinVersion: tls.VersionTLS12}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+toyHost+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s: %s", resp.Status, body)
	}
	return string(body), err
}
