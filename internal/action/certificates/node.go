package certificates

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/loadbalancer"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/token"
)

// renewAgent renews the certificate of this host's agent, which uses it within a minute.
func renewAgent(ctx context.Context, env *action.Env, receipt journal.Receipt) error {
	if receipt.Role == token.Worker {
		t, err := ControllersToken(env)
		if err != nil {
			return err
		}
		client := agent.NewClient(t, func() (*tls.Certificate, error) {
			i, err := node.ReadIdentity(env.Host, env.DataDir)
			if err != nil {
				return nil, err
			}
			cert, err := i.TLS()
			return &cert, err
		})
		defer client.Close()
		return RenewAgentOfWorker(ctx, env, client.Renew)
	}
	stored, err := node.ReadIdentity(env.Host, env.DataDir)
	if err != nil {
		return err
	}
	_, err = IssueAgent(env, receipt, stored)
	return err
}

// IssueAgent signs and stores a new certificate for the agent of this controller, for the key in stored.
func IssueAgent(env *action.Env, receipt journal.Receipt, stored node.Identity) (node.Identity, error) {
	id, ca, err := readAuthority(env, receipt, stored)
	if err != nil {
		return node.Identity{}, err
	}
	next, err := stored.Issue(id, ca, env.Now())
	if err == nil {
		err = next.Write(env.Host, env.DataDir)
	}
	return next, err
}

// readAuthority returns the identity of this controller and the cluster's authority, with its private key.
func readAuthority(env *action.Env, receipt journal.Receipt, stored node.Identity) (id nodecert.Identity, ca pki.Pair, err error) {
	self, ok := stored.NodeID()
	if !ok {
		return id, ca, fmt.Errorf("%s is not the certificate of an agent", node.IdentityPath(env.DataDir))
	}
	var errs [2]error
	ca.Cert, errs[0] = env.Host.ReadFile(k0s.CACertPath)
	ca.Key, errs[1] = env.Host.ReadFile(k0s.CAKeyPath)
	return nodecert.Identity{Node: receipt.Node, UID: self.UID, Role: token.Controller, Address: receipt.Address, API: receipt.API}, ca, errors.Join(errs[:]...)
}

// renewKubelet signs and stores new certificates for the kubelet of this controller, which reads them when k0s
// starts it again.
func renewKubelet(env *action.Env, receipt journal.Receipt) error {
	stored, err := node.ReadIdentity(env.Host, env.DataDir)
	if err != nil {
		return err
	}
	id, ca, err := readAuthority(env, receipt, stored)
	if err != nil {
		return err
	}
	kubelet, err := plan.IssueKubelet(id, ca, env.Now())
	if err != nil {
		return err
	}
	return k0s.PlaceKubeletIdentity(env.Host, kubelet, env.Now())
}

// ControllersToken returns a token without a secret that leads to the controllers which the load balancer of
// this worker knows now.
func ControllersToken(env *action.Env) (t token.Token, err error) {
	list, err := loadbalancer.KnownControllers(env.Host, env.DataDir)
	if err != nil {
		return t, err
	}
	raw, err := loadbalancer.ClusterCA(env.Host, env.DataDir)
	if err != nil {
		return t, err
	}
	ca, err := pki.ParseCertificate(raw)
	if err != nil {
		return t, err
	}
	t.Pin = token.PublicKeyPin(ca)
	for _, a := range list {
		t.Addresses = append(t.Addresses, net.JoinHostPort(a.String(), strconv.Itoa(agent.Port)))
	}
	return t, nil
}

// RenewAgentOfWorker has a controller sign a new certificate for the agent of this worker, by renew, and stores it.
func RenewAgentOfWorker(ctx context.Context, env *action.Env, renew func(context.Context, agent.RenewRequest) (agent.RenewResponse, error)) error {
	i, err := node.ReadIdentity(env.Host, env.DataDir)
	if err != nil {
		return err
	}
	ca, err := i.Authority()
	if err != nil {
		return err
	}
	self, ok := i.NodeID()
	if !ok || ca == nil {
		return errors.New("the cluster has not admitted this host yet")
	}
	leaf, err := i.Pair.Leaf()
	if err != nil {
		return err
	}
	id := nodecert.Identity{Node: self.Node, UID: self.UID, Role: self.Role}
	if len(leaf.IPAddresses) > 0 {
		id.Address = leaf.IPAddresses[0].String()
	}
	key, err := i.Key()
	if err != nil {
		return err
	}
	request, err := nodecert.NewRequest(nodecert.Agent, id, key)
	if err != nil {
		return err
	}
	answer, err := renew(ctx, agent.RenewRequest{AgentRequest: request})
	if err != nil {
		return err
	}
	next, err := i.WithCertificate(answer.AgentCert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}))
	if err != nil {
		return err
	}
	return next.Write(env.Host, env.DataDir)
}
