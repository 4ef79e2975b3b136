// Package gateway owns how a worker's balancer is put together: from the list
// of controllers in Plinth's folder and the node's own way into the cluster.
// It refuses to stand before the API on a controller, whose way is its own
// API server.
package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/plinthdev/plinth/internal/balancer"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
)

// Door is where a node's programs reach the API.
const Door = k0s.Loopback + ":6443"

// apiPort is the port of every API server.
const apiPort = 6443

// listPath is where the controllers are kept below a data folder, caPath the
// authority that their certificates must come from.
func listPath(dataDir string) string { return filepath.Join(dataDir, "controllers.json") }
func caPath(dataDir string) string   { return filepath.Join(dataDir, "controllers-ca.crt") }

// Files lists what Seed may write below a data folder.
func Files(dataDir string) []string { return []string{listPath(dataDir), caPath(dataDir)} }

// SeedNeeded says why a worker's balancer does not know its cluster; "" when
// it does. The list itself changes with the cluster.
func SeedNeeded(h host.Files, dataDir string) (string, error) {
	list, err := balancer.File{Files: h, Path: listPath(dataDir)}.Load()
	if err != nil {
		return err.Error(), nil // it is written anew
	}
	if len(list) == 0 {
		return "no controller is known", nil
	}
	if _, err := h.Lstat(caPath(dataDir)); err != nil {
		return caPath(dataDir) + " is missing", nil
	}
	return "", nil
}

// Seed tells a worker's balancer the first controllers and the cluster's
// certificate authority (PEM).
func Seed(h host.Files, dataDir string, ca []byte, controllers []netip.Addr) error {
	var list []netip.AddrPort
	for _, a := range controllers {
		list = append(list, netip.AddrPortFrom(a, apiPort))
	}
	err := h.Write(caPath(dataDir), strings.NewReader(string(ca)), 0o644)
	if err == nil {
		err = balancer.File{Files: h, Path: listPath(dataDir)}.Save(list)
	}
	return err
}

// Controllers are those that a worker's balancer knows.
func Controllers(h host.Files, dataDir string) (all []netip.Addr, err error) {
	list, err := balancer.File{Files: h, Path: listPath(dataDir)}.Load()
	for _, a := range list {
		all = append(all, a.Addr())
	}
	return all, err
}

// Authority is the cluster's certificate authority as a worker was told it, PEM.
func Authority(h host.Files, dataDir string) ([]byte, error) { return h.ReadFile(caPath(dataDir)) }

// Run is the balancer of a worker, until ctx ends; log is told what changes.
func Run(ctx context.Context, h host.Files, dataDir string, log func(string)) error {
	g := &gateway{host: h, dataDir: dataDir}
	return balancer.Run(ctx, balancer.Config{Listen: Door, List: balancer.File{Files: h, Path: listPath(dataDir)},
		Healthy: g.healthy, Controllers: g.controllers, Log: log})
}

// gateway asks controllers and cluster with what the node has: as the node it
// is as soon as it has joined, before that with the authority alone.
type gateway struct {
	host    host.Files
	dataDir string

	mu     sync.Mutex
	client *http.Client
	named  bool // client shows the node's certificate
	api    *kube.Client
}

// healthy asks a controller whether it serves. One that knows the cluster's
// key but not yet this node is taken at its word.
func (g *gateway) healthy(ctx context.Context, controller netip.AddrPort) error {
	client, err := g.asker()
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
	return fmt.Errorf("it answers %s: %s", resp.Status, firstFailure(string(body)))
}

// firstFailure is the check that failed, of the API server's list of checks.
func firstFailure(body string) string {
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "[-]") {
			return strings.TrimSpace(line)
		}
	}
	return strings.TrimSpace(strings.SplitN(body, "\n", 2)[0])
}

// asker is the client for questions to single controllers.
func (g *gateway) asker() (*http.Client, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.named {
		return g.client, nil
	}
	conf, err := g.tlsConfig()
	if err != nil {
		return nil, err
	}
	g.named = len(conf.Certificates) > 0 || conf.GetClientCertificate != nil
	if g.client == nil || g.named {
		// One connection each, of HTTP/1: a question without an answer ends it,
		// and the next one makes its own.
		var protocols http.Protocols
		protocols.SetHTTP1(true)
		g.client = &http.Client{Transport: &http.Transport{TLSClientConfig: conf, Protocols: &protocols, IdleConnTimeout: 30 * time.Second}}
	}
	return g.client, nil
}

// tlsConfig is the node's own, or that of a host that has not joined yet.
func (g *gateway) tlsConfig() (*tls.Config, error) {
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
		return nil, errors.New(caPath(g.dataDir) + " holds no certificate")
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// controllers asks the cluster, through the door, for its controllers.
func (g *gateway) controllers(ctx context.Context) ([]netip.AddrPort, error) {
	if g.api == nil {
		raw, err := g.host.ReadFile(k0s.KubeletConf)
		if err != nil {
			return nil, err // not joined yet
		}
		if g.api, err = kube.New(raw); err != nil {
			return nil, err
		}
	}
	nodes, err := g.api.Controllers(ctx)
	if err != nil {
		return nil, err
	}
	var list []netip.AddrPort
	for _, n := range nodes {
		if len(n.Addresses) > 0 {
			if a, err := netip.ParseAddr(n.Addresses[0]); err == nil {
				list = append(list, netip.AddrPortFrom(a, apiPort))
			}
		}
	}
	return list, nil
}
