package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/loadbalancer"
	"github.com/plinthdev/plinth/internal/token"
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
func (*workerServer) DescribeCluster(context.Context, string, string) (agent.ClusterInfo, error) {
	return agent.ClusterInfo{}, notController()
}

// Admit returns an error, because only controllers admit hosts.
func (*workerServer) Admit(context.Context, string, agent.JoinRequest) (agent.JoinResponse, error) {
	return agent.JoinResponse{}, notController()
}

// CheckReadAccess has the controllers check bearer, for every request: a revocation takes
// effect at once, and a worker does not have to see the secret of a token.
func (w *workerServer) CheckReadAccess(ctx context.Context, bearer string) error {
	cluster, err := w.controllerCluster()
	if err != nil {
		return err
	}
	err = cluster.CheckReadAccess(ctx, bearer)
	var no *agent.DeniedError
	if errors.As(err, &no) {
		return &agent.StatusError{Reason: no.Reason, Status: http.StatusUnauthorized}
	}
	return err
}

// CheckNode returns an error unless node is a node of the cluster. It queries the API with
// the kubelet's credentials, which may read nodes.
func (w *workerServer) CheckNode(ctx context.Context, node string) error {
	conf, err := w.Host.ReadFile(k0s.KubeletConf)
	if err != nil {
		return err
	}
	client, err := kube.New(conf)
	if err != nil {
		return err
	}
	return checkIsNode(ctx, client, node)
}

// controllerCluster returns a client for the controllers that the node's load balancer
// knows now.
func (w *workerServer) controllerCluster() (*agent.Client, error) {
	list, err := loadbalancer.KnownControllers(w.Host, w.DataDir)
	if err != nil {
		return nil, err
	}
	raw, err := loadbalancer.ClusterCA(w.Host, w.DataDir)
	if err != nil {
		return nil, err
	}
	ca, err := parseCertificate(raw)
	if err != nil {
		return nil, err
	}
	t := token.Token{Pin: token.PublicKeyPin(ca)}
	for _, a := range list {
		t.Addresses = append(t.Addresses, net.JoinHostPort(a.String(), strconv.Itoa(agent.Port)))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cluster == nil || !slices.Equal(w.addresses, t.Addresses) {
		w.cluster, w.addresses = agent.NewClient(t), t.Addresses // requests of the old client end by themselves
		w.cluster.UseCertificate(w.kubeletCert)
	}
	return w.cluster, nil
}

// kubeletCert returns the certificate with which the kubelet identifies this node. The controllers
// do not count what this node's own clients are refused for against a node of the cluster.
func (w *workerServer) kubeletCert(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	raw, err := w.Host.ReadFile(k0s.KubeletConf)
	if err != nil {
		return nil, err
	}
	conf, err := kube.TLSConfig(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k0s.KubeletConf, err)
	}
	return conf.GetClientCertificate(info)
}

// loadWorkerCert returns the serving certificate of the worker's kubelet, which the
// cluster has issued for the node's name and addresses, and the cluster's CA.
func loadWorkerCert(env *action.Env) (cert tls.Certificate, ca *x509.Certificate, err error) {
	raw, err := loadbalancer.ClusterCA(env.Host, env.DataDir)
	if err != nil {
		return cert, nil, err
	}
	if ca, err = parseCertificate(raw); err != nil {
		return cert, nil, err
	}
	both, err := env.Host.ReadFile(k0s.KubeletCertPath)
	if err != nil {
		return cert, nil, err
	}
	if cert, err = tls.X509KeyPair(both, both); err == nil {
		cert.Certificate = append(cert.Certificate[:1:1], ca.Raw) // clients pin the CA
	}
	return cert, ca, err
}
