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

// workerStreams is the number of blobs that a worker serves at the same time. It is
// low because the network and the CPUs of a worker are for its pods.
const workerStreams = 8

// workerServer serves blobs on a worker. It admits no hosts, and has the controllers
// check tokens.
type relay struct {
	*run.Run
	mu      sync.Mutex
	cluster *peer.Cluster
	asked   []string // of the controllers in cluster
}

var _ agent.Cluster = (*relay)(nil)

func notHere() error {
	return &agent.Refusal{Why: "this node is a worker; only controllers admit hosts", Status: http.StatusNotFound}
}

// DescribeCluster returns an error, because only controllers describe the cluster.
func (*relay) Offer(context.Context, string, string) (agent.Offer, error) {
	return agent.Offer{}, notHere()
}

// Admit returns an error, because only controllers admit hosts.
func (*relay) Admit(context.Context, string, agent.Claim) (agent.Admission, error) {
	return agent.Admission{}, notHere()
}

// CheckReadAccess has the controllers check bearer, for every request: a revocation takes
// effect at once, and a worker does not have to see the secret of a token.
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

// CheckNode returns an error unless node is a node of the cluster. It queries the API with
// the kubelet's credentials, which may read nodes.
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

// controllerCluster returns a client for the controllers that the node's load balancer
// knows now.
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
		w.cluster, w.asked = peer.New(t), t.Addresses // requests of the old client end by themselves
	}
	return w.cluster, nil
}

// loadWorkerCert returns the serving certificate of the worker's kubelet, which the
// cluster has issued for the node's name and addresses, and the cluster's CA.
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
		cert.Certificate = append(cert.Certificate[:1:1], ca.Raw) // clients pin the CA
	}
	return cert, ca, err
}
