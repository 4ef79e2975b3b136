//go:build e2e

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	certv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/plinthdev/plinth/e2e/lab"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

// joiner is a client that speaks the protocol of a joining host, without one.
type joiner struct {
	*agent.Client
	identity node.Identity
	role     string
}

// newJoiner returns a client with its own key for the cluster of an encoded token.
func newJoiner(t testing.TB, encoded string) joiner {
	t.Helper()
	tok, err := token.Decode(encoded)
	testkit.Must(t, err)
	identity, err := node.NewIdentity(time.Now())
	testkit.Must(t, err)
	cert, err := identity.TLS()
	testkit.Must(t, err)
	c := agent.NewClient(tok, func() (*tls.Certificate, error) { return &cert, nil })
	t.Cleanup(c.Close)
	return joiner{c, identity, tok.Role}
}

// request returns a valid request for a host with this name and address.
func (j joiner) request(t testing.TB, name, address string) agent.JoinRequest {
	t.Helper()
	r := agent.JoinRequest{Node: name, MachineID: "e2e" + name, Address: address, Fresh: true}
	id := nodecert.Identity{Node: name, Role: j.role, Address: address}
	r.AgentRequest = j.agentRequest(t, id)
	var errs [2]error
	r.ClientRequest, _, errs[0] = plan.NewKeyAndRequest(nodecert.KubeletClient, id)
	r.ServingRequest, _, errs[1] = plan.NewKeyAndRequest(nodecert.KubeletServing, id)
	testkit.Must(t, errors.Join(errs[:]...))
	return r
}

// agentRequest returns a request for the agent's certificate, for the joiner's key.
func (j joiner) agentRequest(t testing.TB, id nodecert.Identity) []byte {
	t.Helper()
	key, err := j.identity.Key()
	testkit.Must(t, err)
	raw, err := nodecert.NewRequest(nodecert.Agent, id, key)
	testkit.Must(t, err)
	return raw
}

// rawRequest returns a certificate request (DER) with any content, and its key in PEM.
func rawRequest(t testing.TB, organization, name string, sans ...string) (request, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	testkit.Must(t, err)
	template := &x509.CertificateRequest{Subject: pkix.Name{Organization: []string{organization}, CommonName: name}}
	for _, s := range sans {
		if ip := net.ParseIP(s); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, s)
		}
	}
	request, err = x509.CreateCertificateRequest(rand.Reader, template, private)
	testkit.Must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	testkit.Must(t, err)
	return request, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// checkWorkerToken attacks the cluster with the token of a worker: it must be worth one new
// worker. used is a token that another host has used up.
func checkWorkerToken(t *testing.T, ctx context.Context, a *lab.Host, used string) {
	j := newJoiner(t, createToken(t, ctx, a, "--role", "worker").Result.Token)
	const free = "198.18.0.9"
	for name, c := range map[string]struct {
		change func(*agent.JoinRequest)
		says   string
	}{
		"the name of a controller":    {func(r *agent.JoinRequest) { *r = j.request(t, a.Name, free) }, "already has a node named " + a.Name},
		"the address of a controller": {func(r *agent.JoinRequest) { *r = j.request(t, "mallory", a.IP()) }, "has this host's address"},
		"loopback":                    {func(r *agent.JoinRequest) { *r = j.request(t, "mallory", "127.0.0.1") }, "not an address that other hosts can reach"},
		"an address of the services":  {func(r *agent.JoinRequest) { *r = j.request(t, "mallory", "10.96.0.1") }, "the network of the cluster's pods and services"},
		"the agent of a controller": {func(r *agent.JoinRequest) {
			r.AgentRequest = j.agentRequest(t, nodecert.Identity{Node: "mallory", Role: token.Controller, Address: free})
		}, "refused"},
		"the agent of another name": {func(r *agent.JoinRequest) {
			r.AgentRequest = j.agentRequest(t, nodecert.Identity{Node: a.Name, Role: token.Worker, Address: free})
		}, "refused"},
		"a kubelet of another name": {func(r *agent.JoinRequest) { r.ClientRequest, _ = rawRequest(t, "system:nodes", "system:node:"+a.Name) }, "refused"},
		"an administrator":          {func(r *agent.JoinRequest) { r.ClientRequest, _ = rawRequest(t, "system:masters", "admin") }, "refused"},
		"a server for loopback": {func(r *agent.JoinRequest) {
			r.ServingRequest, _ = rawRequest(t, "system:nodes", "system:node:mallory", "127.0.0.1")
		}, "refused"},
		"a server for the API": {func(r *agent.JoinRequest) {
			r.ServingRequest, _ = rawRequest(t, "system:nodes", "system:node:mallory", "kubernetes.default.svc")
		}, "refused"},
		"a server for a controller": {func(r *agent.JoinRequest) {
			r.ServingRequest, _ = rawRequest(t, "system:nodes", "system:node:mallory", a.IP())
		}, "refused"},
		"another key than its own": {func(r *agent.JoinRequest) {
			r.AgentRequest, _ = rawRequest(t, "plinth:workers", "plinth:node:mallory", "mallory", free)
		}, "another key"},
		"no certificate request at all": {func(r *agent.JoinRequest) { r.AgentRequest = nil }, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			r := j.request(t, "mallory", free)
			c.change(&r)
			_, err := j.Admit(ctx, r)
			if denied := (*agent.DeniedError)(nil); !errors.As(err, &denied) || !strings.Contains(denied.Reason, c.says) {
				t.Errorf("%v, want …%s…", err, c.says)
			}
		})
	}
	t.Run("the used token of another host", func(t *testing.T) {
		other := newJoiner(t, used)
		if _, err := other.DescribeCluster(ctx); err == nil || !strings.Contains(err.Error(), "used up") {
			t.Errorf("describe: %v", err)
		}
		if _, err := other.ReadDocument(ctx, digest.FromString("x"), 1<<10); err == nil || !strings.Contains(err.Error(), "used up") {
			t.Errorf("read: %v", err)
		}
	})
	t.Run("the join API of k0s", func(t *testing.T) {
		for url, want := range map[string]string{"https://127.0.0.1:9443/v1beta1/ca": "000", "https://127.0.0.1:9444/v1beta1/ca": "401"} {
			if got := a.MustRun(ctx, "sh", "-c", "curl -sk -m 5 -o /dev/null -w '%{http_code}' -H 'Authorization: Bearer abcdef.0123456789abcdef' "+url+" || true"); got != want {
				t.Errorf("%s: %s, want %s", url, got, want)
			}
		}
	})
	checkAuditLine(t, ctx, a, "event=refusal ", `node="mallory"`)
}

// credentials are what root on a node can read.
type credentials struct {
	kubelet rest.Config
	agent   tls.Certificate
}

// stealCredentials reads the credentials of a node; api is the host whose API is attacked with them.
func stealCredentials(t testing.TB, ctx context.Context, h, api *lab.Host) credentials {
	t.Helper()
	kubelet := []byte(h.MustRun(ctx, "cat", "/var/lib/k0s/kubelet/pki/kubelet-client-current.pem"))
	identity := []byte(h.MustRun(ctx, "cat", "/var/lib/plinth/agent/identity.pem"))
	cert, err := tls.X509KeyPair(identity, identity)
	testkit.Must(t, err)
	conf := rest.Config{Host: "https://" + api.IP() + ":6443", Timeout: 20 * time.Second,
		TLSClientConfig: rest.TLSClientConfig{CertData: kubelet, KeyData: kubelet, CAData: []byte(api.MustRun(ctx, "cat", "/var/lib/k0s/pki/ca.crt"))}}
	return credentials{kubelet: conf, agent: cert}
}

// askAgent sends a request to the agent of a host with a certificate, and returns status and body.
func askAgent(t testing.TB, ctx context.Context, cert tls.Certificate, method, url string) (int, string) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true}, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader("{}"))
	testkit.Must(t, err)
	res, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Do(req)
	testkit.Must(t, err)
	defer func() { _ = res.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	return res.StatusCode, string(body)
}

// checkRootOnWorker attacks the cluster with what root on the worker b has.
func checkRootOnWorker(t *testing.T, ctx context.Context, a, b *lab.Host) {
	stolen := stealCredentials(t, ctx, b, a)
	client, err := kubernetes.NewForConfig(&stolen.kubelet)
	testkit.Must(t, err)
	const clientSigner, servingSigner = certv1.KubeAPIServerClientKubeletSignerName, certv1.KubeletServingSignerName
	for name, c := range map[string]struct {
		signer, subject string
		sans            []string
		want            certv1.RequestConditionType
	}{
		"its own server":            {servingSigner, b.Name, []string{b.Name, b.IP()}, certv1.CertificateApproved},
		"a controller's client":     {clientSigner, a.Name, nil, certv1.CertificateDenied},
		"a server for a controller": {servingSigner, b.Name, []string{a.IP()}, certv1.CertificateDenied},
		"a server for loopback":     {servingSigner, b.Name, []string{b.IP(), "127.0.0.1"}, certv1.CertificateDenied},
		"a server for the API":      {servingSigner, b.Name, []string{"kubernetes.default.svc"}, certv1.CertificateDenied},
		"a controller's own server": {servingSigner, a.Name, []string{a.Name}, certv1.CertificateDenied},
	} {
		t.Run("requests "+name, func(t *testing.T) {
			got, why := decideRequest(t, ctx, client, c.signer, "system:node:"+c.subject, c.sans...)
			if got != c.want {
				t.Errorf("%s (%s), want %s", got, why, c.want)
			}
		})
	}
	t.Run("sends a huge certificate request", func(t *testing.T) {
		request, _ := rawRequest(t, "system:nodes", "system:node:"+b.Name, b.Name)
		raw := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}), strings.Repeat("x", 900_000)...)
		_, err := client.CertificatesV1().CertificateSigningRequests().Create(ctx, &certv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{GenerateName: "attack-"},
			Spec: certv1.CertificateSigningRequestSpec{Request: raw, SignerName: servingSigner, Usages: []certv1.KeyUsage{certv1.UsageDigitalSignature, certv1.UsageServerAuth}}}, metav1.CreateOptions{})
		if err == nil || !strings.Contains(err.Error(), "too large") {
			t.Errorf("%v", err)
		}
	})
	t.Run("runs no pod that is worth the cluster", func(t *testing.T) {
		pods := a.MustRun(ctx, binary, "kubectl", "get", "pods", "-A", "--field-selector", "spec.nodeName="+b.Name, "-o", "jsonpath={.items[*].metadata.name}")
		for _, name := range []string{"local-path-provisioner", "kotsadm", "registry"} {
			if strings.Contains(" "+pods, " "+name) {
				t.Errorf("%s runs on a worker: %s", name, pods)
			}
		}
	})
	t.Run("claims the role of a controller", func(t *testing.T) {
		patch := []byte(`{"metadata":{"labels":{"node.k0sproject.io/role":"control-plane"}}}`)
		for _, sub := range []string{"", "status"} {
			if _, err := client.CoreV1().Nodes().Patch(ctx, b.Name, types.MergePatchType, patch, metav1.PatchOptions{}, subresources(sub)...); err == nil {
				if n, _ := client.CoreV1().Nodes().Get(ctx, b.Name, metav1.GetOptions{}); n.Labels["node.k0sproject.io/role"] != "" {
					t.Errorf("the label was accepted through %q", sub)
				}
			}
		}
		if list := a.MustRun(ctx, binary, "node", "list"); !strings.Contains(list, b.Name+"     worker") {
			t.Errorf("%s", list)
		}
	})
	t.Run("writes the records", func(t *testing.T) {
		_, err := client.CoreV1().ConfigMaps("kube-system").Patch(ctx, "plinth-nodes", types.MergePatchType, []byte(`{"data":{"x":"y"}}`), metav1.PatchOptions{})
		if err == nil {
			t.Error("a worker may write them")
		}
	})
	t.Run("writes as kube-router", func(t *testing.T) {
		conf := rest.Config{Host: stolen.kubelet.Host, Timeout: stolen.kubelet.Timeout, TLSClientConfig: rest.TLSClientConfig{CAData: stolen.kubelet.CAData},
			BearerToken: strings.TrimSpace(a.MustRun(ctx, binary, "kubectl", "create", "token", "-n", "kube-system", "kube-router"))} // as root on a worker reads from its pod
		router, err := kubernetes.NewForConfig(&conf)
		testkit.Must(t, err)
		leases := router.CoordinationV1().Leases("kube-node-lease")
		lease, err := leases.Get(ctx, a.Name, metav1.GetOptions{})
		testkit.Must(t, err)
		service, err := router.CoreV1().Services("default").Get(ctx, "kubernetes", metav1.GetOptions{})
		testkit.Must(t, err)
		_, updated := leases.Update(ctx, lease, metav1.UpdateOptions{})
		_, created := router.CoordinationV1().Leases("kube-system").Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "attack"}}, metav1.CreateOptions{})
		_, status := router.CoreV1().Services("default").UpdateStatus(ctx, service, metav1.UpdateOptions{})
		for what, err := range map[string]error{"the lease of a controller": updated, "a new lease": created, "the status of a service": status} {
			if err == nil || !strings.Contains(err.Error(), "kube-router only reads") {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
	t.Run("reads secrets", func(t *testing.T) {
		if _, err := client.CoreV1().Secrets("kube-system").List(ctx, metav1.ListOptions{}); err == nil {
			t.Error("a worker may list the secrets of the cluster")
		}
	})
	t.Run("asks an agent for the keys of the cluster", func(t *testing.T) {
		for path, method := range map[string]string{"/v1beta1/ca": http.MethodGet, agent.ControllerSecretsPath: http.MethodGet, "/v1beta1/etcd/members": http.MethodPost} {
			if code, body := askAgent(t, ctx, stolen.agent, method, "https://"+a.IP()+":9444"+path); code != http.StatusUnauthorized || !strings.Contains(body, "is a worker") {
				t.Errorf("%s: %d %s", path, code, body)
			}
		}
		checkAuditLine(t, ctx, a, "event=refusal ", `node="`+b.Name+`"`, "is a worker")
	})
	t.Run("is an agent with a kubelet's certificate", func(t *testing.T) {
		kubelet, err := tls.X509KeyPair(stolen.kubelet.CertData, stolen.kubelet.KeyData)
		testkit.Must(t, err)
		for _, path := range []string{"/v1/leave", "/v2/"} {
			if code, body := askAgent(t, ctx, kubelet, http.MethodGet, "https://"+a.IP()+":9444"+path); code != http.StatusUnauthorized {
				t.Errorf("%s: %d %s", path, code, body)
			}
		}
	})
	t.Run("answers a host that joins", func(t *testing.T) {
		tok, err := token.Decode(createToken(t, ctx, a, "--role", "controller").Result.Token)
		testkit.Must(t, err)
		b.MustRun(ctx, "systemd-run", "--unit=false-agent", "openssl", "s_server", "-accept", "9555", "-cert", "/var/lib/k0s/kubelet/pki/kubelet-server-current.pem",
			"-key", "/var/lib/k0s/kubelet/pki/kubelet-server-current.pem", "-cert_chain", "/var/lib/plinth/controllers-ca.crt", "-www")
		defer b.MustRun(ctx, "systemctl", "stop", "false-agent")
		b.MustRun(ctx, "timeout", "10", "sh", "-c", "until ss -ltn | grep -q :9555; do sleep 0.1; done")
		for _, port := range []string{"9444", "9555"} {
			tok.Addresses = []string{net.JoinHostPort(b.IP(), port)}
			c := agent.NewClient(tok, nil)
			if _, err := c.DescribeCluster(ctx); err == nil || !strings.Contains(err.Error(), "its certificate is not that of") {
				t.Errorf("port %s: %v", port, err)
			}
			c.Close()
		}
	})
}

// subresources returns the subresources of a request.
func subresources(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

// decideRequest creates a certificate request in the cluster and returns how it was decided, and why.
func decideRequest(t testing.TB, ctx context.Context, client *kubernetes.Clientset, signer, name string, sans ...string) (certv1.RequestConditionType, string) {
	t.Helper()
	usage := certv1.UsageClientAuth
	if signer == certv1.KubeletServingSignerName {
		usage = certv1.UsageServerAuth
	}
	request, _ := rawRequest(t, "system:nodes", name, sans...)
	api := client.CertificatesV1().CertificateSigningRequests()
	csr, err := api.Create(ctx, &certv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{GenerateName: "attack-"}, Spec: certv1.CertificateSigningRequestSpec{
		Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}), SignerName: signer, Usages: []certv1.KeyUsage{certv1.UsageDigitalSignature, usage}}}, metav1.CreateOptions{})
	if err != nil {
		return certv1.CertificateDenied, err.Error()
	}
	for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(500 * time.Millisecond) {
		if csr, err = api.Get(ctx, csr.Name, metav1.GetOptions{}); err == nil && len(csr.Status.Conditions) > 0 {
			if c := csr.Status.Conditions[0]; c.Type == certv1.CertificateApproved || len(csr.Status.Certificate) == 0 {
				return c.Type, c.Message
			}
			return certv1.CertificateApproved, "denied, but it has a certificate"
		}
	}
	return "", "not decided"
}

// checkRemovedCredentials attacks the cluster with the credentials of a worker that was removed:
// before and after a host of the same name is admitted again.
func checkRemovedCredentials(t *testing.T, ctx context.Context, a *lab.Host, name string, stolen credentials) {
	refused := func(t *testing.T, why string) {
		t.Helper()
		client, err := kubernetes.NewForConfig(&stolen.kubelet)
		testkit.Must(t, err)
		attacks := map[string]func() error{
			"list nodes": func() error { _, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{}); return err },
			"get records": func() error {
				_, err := client.CoreV1().ConfigMaps("kube-system").Get(ctx, "plinth-nodes", metav1.GetOptions{})
				return err
			},
			"list pods": func() error {
				_, err := client.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + name})
				return err
			},
			"request a certificate": func() error {
				if got, why := decideRequest(t, ctx, client, certv1.KubeAPIServerClientKubeletSignerName, "system:node:"+name); got != certv1.CertificateDenied {
					return nil
				} else {
					return errors.New(why)
				}
			},
		}
		for what, try := range attacks {
			var err error
			for began := time.Now(); time.Since(began) < 15*time.Second; time.Sleep(time.Second) { // the API server keeps an answer for 10 s
				if err = try(); err != nil && strings.Contains(err.Error(), why) {
					break
				}
			}
			if err == nil || !strings.Contains(err.Error(), why) {
				t.Errorf("%s: %v, want …%s…", what, err, why)
			}
		}
		// A review that the agent cannot read must not fall back to the name of the node.
		huge := metav1.ListOptions{FieldSelector: "metadata.name!=" + strings.Repeat("<", 190_000)}
		if list, err := client.CoreV1().Nodes().List(ctx, huge); err == nil {
			t.Errorf("a request that is too large to be reviewed lists %d nodes", len(list.Items))
		}
		if code, body := askAgent(t, ctx, stolen.agent, http.MethodGet, "https://"+a.IP()+":9444/v2/"); code != http.StatusUnauthorized || !strings.Contains(body, why) {
			t.Errorf("read from an agent: %d %s", code, body)
		}
		if code, body := askAgent(t, ctx, stolen.agent, http.MethodPost, "https://"+a.IP()+":9444/v1/leave?force=yes"); code != http.StatusOK || !strings.Contains(body, `"known":false`) {
			t.Errorf("leave: %d %s", code, body)
		}
	}
	refused(t, "was removed from the cluster or never admitted to it")
	j := newJoiner(t, createToken(t, ctx, a, "--role", "worker", "--uses", "2").Result.Token)
	r := j.request(t, name, "198.18.0.10")
	if _, err := j.Admit(ctx, r); err != nil {
		t.Fatalf("a host of the same name: %v", err)
	}
	refused(t, "is of an earlier admission")
	if list := a.MustRun(ctx, binary, "node", "list"); !strings.Contains(list, name) {
		t.Errorf("the new host has lost its record: %s", list)
	}
	runPlinth(t, ctx, a, 0, "node", "remove", name, "--yes")
	if _, err := j.Admit(ctx, r); err == nil || !strings.Contains(err.Error(), "was removed from the cluster") {
		t.Errorf("a removed host joins again with its old token: %v", err)
	}
}

// checkRevokedController admits a controller whose token is revoked before it asks for the keys of
// the cluster.
func checkRevokedController(t *testing.T, ctx context.Context, a *lab.Host) {
	m := createToken(t, ctx, a, "--role", "controller").Result
	j := newJoiner(t, m.Token)
	answer, err := j.Admit(ctx, j.request(t, "late", "198.18.0.11"))
	testkit.Must(t, err)
	identity, err := j.identity.WithCertificate(answer.AgentCert, []byte(a.MustRun(ctx, "cat", "/var/lib/k0s/pki/ca.crt")))
	testkit.Must(t, err)
	cert, err := identity.TLS()
	testkit.Must(t, err)
	a.MustRun(ctx, binary, "token", "revoke", m.ID)
	if code, body := askAgent(t, ctx, cert, http.MethodGet, "https://"+a.IP()+":9444/v1beta1/ca"); code != http.StatusUnauthorized || strings.Contains(body, "saKey") {
		t.Errorf("the keys of the cluster: %d %.200s", code, body)
	}
	if code, body := askAgent(t, ctx, cert, http.MethodGet, "https://"+a.IP()+":9444"+agent.ControllerSecretsPath); code != http.StatusUnauthorized || strings.Contains(body, "encryptionKeys") {
		t.Errorf("the keys of Secrets: %d", code)
	}
	if list := a.MustRun(ctx, binary, "node", "list"); strings.Contains(list, "late") {
		t.Errorf("a host that never joined keeps the admission of a revoked token: %s", list)
	}
}
