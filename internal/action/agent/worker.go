package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/certificates"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
)

// workerServer serves blobs on a worker. It admits no hosts, and has the controllers
// check tokens.
type workerServer struct {
	*action.Env
	mu        sync.Mutex
	cluster   *agent.Client
	addresses []string // of the controllers in cluster
}

var _ agent.Backend = (*workerServer)(nil)

func notController() error {
	return &agent.StatusError{Reason: "this node is a worker; only controllers admit hosts", Status: http.StatusNotFound}
}

// DescribeCluster returns an error, because only controllers describe the cluster.
func (*workerServer) DescribeCluster(context.Context, agent.Caller) (agent.ClusterInfo, error) {
	return agent.ClusterInfo{}, notController()
}

// Admit returns an error, because only controllers admit hosts.
func (*workerServer) Admit(context.Context, agent.Caller, agent.JoinRequest) (agent.JoinResponse, error) {
	return agent.JoinResponse{}, notController()
}

// Renew returns an error, because only controllers sign certificates.
func (*workerServer) Renew(context.Context, agent.Caller, agent.RenewRequest) (agent.RenewResponse, error) {
	return agent.RenewResponse{}, notController()
}

// CheckReadAccess has the controllers check the client's token and key, for every request: a
// revocation takes effect at once, and a worker does not have to see the secret of a token.
func (w *workerServer) CheckReadAccess(ctx context.Context, c agent.Caller) error {
	cluster, err := w.controllerCluster()
	if err != nil {
		return err
	}
	err = cluster.CheckReadAccess(ctx, c.Bearer, c.Key)
	var no *agent.DeniedError
	if errors.As(err, &no) {
		return &agent.StatusError{Reason: no.Reason, Status: http.StatusUnauthorized}
	}
	return err
}

// CheckNode returns an error unless the node still belongs to the cluster. It reads the records
// with the kubelet's credentials.
func (w *workerServer) CheckNode(ctx context.Context, p nodecert.NodeID) error {
	conf, err := w.Host.ReadFile(k0s.KubeletConf)
	if err != nil {
		return err
	}
	client, err := kube.New(conf)
	if err != nil {
		return err
	}
	records, err := client.NodeRecords(ctx)
	if err != nil {
		return err
	}
	_, err = findRecord(records, p)
	return err
}

// controllerCluster returns a client for the controllers that the node's load balancer
// knows now.
func (w *workerServer) controllerCluster() (*agent.Client, error) {
	t, err := certificates.ControllersToken(w.Env)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cluster == nil || !slices.Equal(w.addresses, t.Addresses) {
		w.cluster, w.addresses = agent.NewClient(t, w.certificate), t.Addresses // requests of the old client end by themselves
	}
	return w.cluster, nil
}

// certificate returns the certificate with which this node's agent identifies it. The controllers
// do not count what this node's own clients are refused for against a node of the cluster.
func (w *workerServer) certificate() (*tls.Certificate, error) {
	i, err := node.ReadIdentity(w.Host, w.DataDir)
	if err != nil {
		return nil, err
	}
	cert, err := i.TLS()
	return &cert, err
}

// loadStoredCert returns the certificate that the cluster has issued for this node's agent, and the
// cluster's CA.
func loadStoredCert(env *action.Env) (cert tls.Certificate, ca *x509.Certificate, err error) {
	i, err := node.ReadIdentity(env.Host, env.DataDir)
	if err != nil {
		return cert, nil, err
	}
	if ca, err = i.Authority(); err != nil {
		return cert, nil, err
	}
	if ca == nil {
		return cert, nil, errors.New("the cluster has not admitted this host yet")
	}
	cert, err = i.TLS()
	return cert, ca, err
}

// renewalInterval is how often a worker checks whether its agent's certificate expires.
const renewalInterval = 6 * time.Hour

// watchCertificate renews the certificate of this node's agent before it expires, at the ticks until
// ctx ends.
func (w *workerServer) watchCertificate(ctx context.Context, tick <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		if err := w.renewCertificate(ctx); err != nil && ctx.Err() == nil {
			w.Note("cannot renew the certificate of this node's agent: " + err.Error())
		}
	}
}

// renewCertificate renews the certificate of this node's agent if it has less than pki.RenewBelow of its life left.
func (w *workerServer) renewCertificate(ctx context.Context) error {
	cert, _, err := loadStoredCert(w.Env)
	if err != nil || pki.LifeLeft(cert.Leaf, w.Now()) >= pki.RenewBelow {
		return err
	}
	cluster, err := w.controllerCluster()
	if err != nil {
		return err
	}
	if err := certificates.RenewAgentOfWorker(ctx, w.Env, cluster.Renew); err != nil {
		return err
	}
	cluster.Reconnect() // a connection that is always in use would keep the old certificate until it expires
	return nil
}
