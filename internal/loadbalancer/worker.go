package loadbalancer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/ports"
)

// LocalAPIAddress is the address at which the programs of a node reach the API:
// the load balancer on a worker, the node's own API server on a controller.
const LocalAPIAddress = k0s.Loopback + ":" + ports.APIText

// apiPort is the port of every API server.
const apiPort = ports.API

// controllersPath returns the file below dataDir that holds the addresses of the
// controllers, caPath the file that holds the CA certificate which must have
// issued their certificates.
func controllersPath(dataDir string) string { return filepath.Join(dataDir, "controllers.json") }
func caPath(dataDir string) string          { return filepath.Join(dataDir, "controllers-ca.crt") }

// SeedFiles returns the files that SeedControllers may write below dataDir.
func SeedFiles(dataDir string) []string { return []string{controllersPath(dataDir), caPath(dataDir)} }

// SeedNeeded returns the reason why SeedControllers must run on a worker, or "" if
// its load balancer knows the cluster. It does not compare the list of controllers,
// which changes with the cluster.
func SeedNeeded(h host.Files, dataDir string) (string, error) {
	list, err := ControllersFile{Files: h, Path: controllersPath(dataDir)}.Load()
	if err != nil {
		return err.Error(), nil // the file is replaced
	}
	if len(list) == 0 {
		return "no controller is known", nil
	}
	if _, err := h.Lstat(caPath(dataDir)); err != nil {
		return caPath(dataDir) + " is missing", nil
	}
	return "", nil
}

// SeedOutdated returns the reason why SeedControllers must run on a worker of a cluster with
// these controllers, or "": also if the load balancer knows none of them, because all that it
// knows were replaced. A list that differs otherwise is kept, because the load balancer updates it.
func SeedOutdated(h host.Files, dataDir string, controllers []netip.Addr) (string, error) {
	if why, err := SeedNeeded(h, dataDir); err != nil || why != "" {
		return why, err
	}
	list, err := ControllersFile{Files: h, Path: controllersPath(dataDir)}.Load()
	if err != nil || len(controllers) == 0 || slices.ContainsFunc(list, func(a netip.AddrPort) bool { return slices.Contains(controllers, a.Addr()) }) {
		return "", err
	}
	return fmt.Sprintf("of the known controllers, such as %s, none is in the cluster any more", list[0].Addr()), nil
}

// SeedControllers writes the first controllers and the cluster's CA certificate
// (PEM) for a worker's load balancer.
func SeedControllers(h host.Files, dataDir string, ca []byte, controllers []netip.Addr) error {
	var list []netip.AddrPort
	for _, a := range controllers {
		list = append(list, netip.AddrPortFrom(a, apiPort))
	}
	err := h.Write(caPath(dataDir), strings.NewReader(string(ca)), 0o644)
	if err == nil {
		err = ControllersFile{Files: h, Path: controllersPath(dataDir)}.Save(list)
	}
	return err
}

// peersPath returns the file below dataDir in which the agent of a controller stores the other controllers.
func peersPath(dataDir string) string { return filepath.Join(dataDir, "agent", "controllers.json") }

// SavePeers stores the other controllers on a controller, unless they are stored already.
func SavePeers(h host.Files, dataDir string, controllers []netip.Addr) error {
	var list []netip.AddrPort
	for _, a := range controllers {
		list = append(list, netip.AddrPortFrom(a, apiPort))
	}
	f := ControllersFile{Files: h, Path: peersPath(dataDir)}
	if have, err := f.Load(); err == nil && slices.Equal(have, list) {
		return nil
	}
	return f.Save(list)
}

// KnownControllers returns the controllers that this host knows while the API does not answer: on a worker those of
// its load balancer, on a controller the other ones.
func KnownControllers(h host.Files, dataDir string) (all []netip.Addr, err error) {
	list, err := ControllersFile{Files: h, Path: controllersPath(dataDir)}.Load()
	if err == nil && len(list) == 0 {
		list, err = ControllersFile{Files: h, Path: peersPath(dataDir)}.Load()
	}
	for _, a := range list {
		all = append(all, a.Addr())
	}
	return all, err
}

// ClusterCA returns the cluster's CA certificate (PEM) that SeedControllers wrote on a worker.
func ClusterCA(h host.Files, dataDir string) ([]byte, error) { return h.ReadFile(caPath(dataDir)) }

// Run runs the load balancer of a worker until ctx ends. api is the additional name or address of
// the Kubernetes API, at which it asks for the controllers while none that it knows answers; "" for
// none. log receives a line for each change.
func Run(ctx context.Context, h host.Files, dataDir, api string, log func(string)) error {
	g := &apiClient{host: h, dataDir: dataDir}
	c := Config{Listen: LocalAPIAddress, Store: ControllersFile{Files: h, Path: controllersPath(dataDir)},
		CheckReady: g.checkReady, ListControllers: g.listControllers, Log: log}
	if api != "" {
		at := &apiClient{host: h, dataDir: dataDir, server: "https://" + net.JoinHostPort(api, ports.APIText)}
		c.FindControllers = at.listControllers
	}
	return Serve(ctx, c)
}

// apiClient queries the controllers and the cluster with the credentials of the
// node: with its client certificate once it has joined, before that with the
// cluster's CA certificate only.
type apiClient struct {
	host    host.Files
	dataDir string
	server  string // URL at which listControllers queries the API; "" for the load balancer

	mu          sync.Mutex
	client      *http.Client
	hasNodeCert bool // client presents the node's certificate
	api         *kube.Client
}

// checkReady returns an error unless the API server of controller is ready. 401 and
// 403 also count as ready: the server has a certificate of the cluster's CA but
// does not know this node yet.
func (g *apiClient) checkReady(ctx context.Context, controller netip.AddrPort) error {
	client, err := g.healthClient()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+controller.String()+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	switch resp.StatusCode {
	case http.StatusOK, http.StatusUnauthorized, http.StatusForbidden:
		return nil
	}
	return fmt.Errorf("/readyz returned %s: %s", resp.Status, firstFailedCheck(string(body)))
}

// firstFailedCheck returns the first failed check ("[-]…") in the API server's list
// of checks, or else the first line.
func firstFailedCheck(body string) string {
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "[-]") {
			return strings.TrimSpace(line)
		}
	}
	return strings.TrimSpace(strings.SplitN(body, "\n", 2)[0])
}

// healthClient returns the HTTP client for readiness checks of single controllers.
func (g *apiClient) healthClient() (*http.Client, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hasNodeCert {
		return g.client, nil
	}
	conf, err := g.tlsConfig()
	if err != nil {
		return nil, err
	}
	g.hasNodeCert = len(conf.Certificates) > 0 || conf.GetClientCertificate != nil
	if g.client == nil || g.hasNodeCert {
		// HTTP/1 only, one connection per controller: a check that times out closes
		// the connection, and the next check opens a new one.
		var protocols http.Protocols
		protocols.SetHTTP1(true)
		g.client = &http.Client{Transport: &http.Transport{TLSClientConfig: conf, Protocols: &protocols, IdleConnTimeout: 30 * time.Second}}
	}
	return g.client, nil
}

// tlsConfig returns the TLS configuration from the kubelet's kubeconfig, or with
// the CA certificate only if the host has not joined yet.
func (g *apiClient) tlsConfig() (*tls.Config, error) {
	if raw, err := g.host.ReadFile(k0s.KubeletConf); err == nil {
		conf, err := clientcmd.RESTConfigFromKubeConfig(raw)
		if err != nil {
			return nil, err
		}
		if len(conf.CAData) == 0 && conf.CAFile == "" {
			return nil, errors.New(k0s.KubeletConf + " names no certificate authority")
		}
		return rest.TLSConfigFor(conf)
	}
	ca, err := g.host.ReadFile(caPath(g.dataDir))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New(caPath(g.dataDir) + " contains no certificate")
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// listControllers returns the controllers of the cluster, from the records of nodes,
// which nodes cannot write. It queries the API through the load balancer itself, or at g.server.
func (g *apiClient) listControllers(ctx context.Context) ([]netip.AddrPort, error) {
	if g.api == nil {
		raw, err := g.host.ReadFile(k0s.KubeletConf)
		if err != nil {
			return nil, err // not joined yet
		}
		if g.server != "" {
			if raw, err = withServer(raw, g.server); err != nil {
				return nil, err
			}
		}
		if g.api, err = kube.New(raw); err != nil {
			return nil, err
		}
	}
	records, err := g.api.NodeRecords(ctx)
	if err != nil {
		return nil, err
	}
	var list []netip.AddrPort
	for _, rec := range records.Controllers() {
		a, err := netip.ParseAddr(rec.Address)
		if err != nil {
			return nil, err
		}
		list = append(list, netip.AddrPortFrom(a, apiPort))
	}
	return list, nil
}

// withServer returns a kubeconfig whose clusters are at the URL server. The server has to have a
// certificate of the cluster's authority for that name.
func withServer(kubeconfig []byte, server string) ([]byte, error) {
	c, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return nil, err
	}
	for _, cluster := range c.Clusters {
		cluster.Server = server
	}
	return clientcmd.Write(*c)
}
