package action

import (
	"crypto/tls"
	"errors"

	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/token"
)

// AgentIdentity returns the certificate of this node's agent, with which it identifies itself to other nodes, and the pin
// of the cluster's authority.
func (env *Env) AgentIdentity() (certificate tls.Certificate, pin string, err error) {
	identity, err := node.ReadIdentity(env.Host, env.DataDir)
	if err != nil {
		return certificate, "", err
	}
	ca, err := identity.Authority()
	if err == nil && ca == nil {
		err = errors.New("this host has no certificate of the cluster's authority")
	}
	if err != nil {
		return certificate, "", err
	}
	certificate, err = identity.TLS()
	return certificate, token.PublicKeyPin(ca), err
}
