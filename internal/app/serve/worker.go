package serve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/agent/peer"
	"github.com/plinthdev/plinth/internal/app/gateway"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/token"
)

// workerStreams is how many blobs are read at once from a worker: its network
// and its processors are there for its pods.
const workerStreams = 8

// relay is what a worker knows of its cluster: nothing but whom to ask. It lets
// nobody in.
type relay struct {
	*run.Run
	mu      sync.Mutex
	cluster *peer.Cluster
	asked   []string // the controllers that cluster asks
}

var _ agent.Cluster = (*relay)(nil)

func notHere() error {
	return &agent.Refusal{Why: "this node is a worker; controllers let hosts in", Status: http.StatusNotFound}
}

// Offer is a controller's to make.
func (*relay) Offer(context.Context, string, string) (agent.Offer, error) {
	return agent.Offer{}, notHere()
}

// Admit is a controller's to do.
func (*relay) Admit(context.Context, string, agent.Claim) (agent.Admission, error) {
	return agent.Admission{}, notHere()
}

// Permit has the controllers judge what was shown, each time anew: so a
// revocation counts at once, and a token's secret is never shown to a worker.
func (w *relay) Permit(ctx context.Context, bearer string) error {
	cluster, err := w.controllers()
	if err != nil {
		return err
	}
	err = cluster.Reads(ctx, bearer)
	var no *peer.Denied
	if errors.As(err, &no) {
		return &agent.Refusal{Why: no.Why, Status: http.StatusUnauthorized}
	}
	return err
}

// Member asks the API: a node may see the nodes.
func (w *relay) Member(ctx context.Context, node string) error {
	conf, err := w.Host.ReadFile(k0s.KubeletConf)
	if err != nil {
		return err
	}
	client, err := kube.New(conf)
	if err != nil {
		return err
	}
	return isNode(ctx, client, node)
}

// controllers is the cluster as the node's balancer knows it now.
func (w *relay) controllers() (*peer.Cluster, error) {
	list, err := gateway.Controllers(w.Host, w.DataDir)
	if err != nil {
		return nil, err
	}
	raw, err := gateway.Authority(w.Host, w.DataDir)
	if err != nil {
		return nil, err
	}
	ca, err := parse(raw)
	if err != nil {
		return nil, err
	}
	t := token.Token{Pin: token.Pin(ca)}
	for _, a := range list {
		t.Addresses = append(t.Addresses, net.JoinHostPort(a.String(), strconv.Itoa(agent.Port)))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cluster == nil || !slices.Equal(w.asked, t.Addresses) {
		w.cluster, w.asked = peer.New(t), t.Addresses // what was asked before ends by itself
	}
	return w.cluster, nil
}

// loadWorker gives the certificate of the worker's kubelet, which the cluster
// has signed for the node's name and addresses.
func loadWorker(r *run.Run) (cert tls.Certificate, ca *x509.Certificate, err error) {
	raw, err := gateway.Authority(r.Host, r.DataDir)
	if err != nil {
		return cert, nil, err
	}
	if ca, err = parse(raw); err != nil {
		return cert, nil, err
	}
	both, err := r.Host.ReadFile(k0s.KubeletCert)
	if err != nil {
		return cert, nil, err
	}
	if cert, err = tls.X509KeyPair(both, both); err == nil {
		cert.Certificate = append(cert.Certificate[:1:1], ca.Raw) // by the authority it is known
	}
	return cert, ca, err
}
