package join

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
	"github.com/plinthdev/plinth/internal/wait"
)

// readIdentity reads the key of this host, or creates one if there is none.
func (o *operation) readIdentity(env *action.Env) (err error) {
	o.identity, err = node.ReadIdentity(env.Host, env.DataDir)
	o.stored = err == nil
	if errors.Is(err, fs.ErrNotExist) {
		o.identity, err = node.NewIdentity(env.Now())
	}
	if err != nil {
		return problem.New(problem.ExitJoin, "read the key of this host", err, "remove the rest of an earlier join: sudo plinth reset node")
	}
	return nil
}

// certificate returns the certificate with which this host identifies itself to agents.
func (o *operation) certificate() (*tls.Certificate, error) {
	cert, err := o.identity.TLS()
	return &cert, err
}

// keyPin returns the pin of this host's key.
func (o *operation) keyPin() string {
	leaf, err := o.identity.Pair.Leaf()
	if err != nil {
		return ""
	}
	return token.PublicKeyPin(leaf)
}

// agentAdmitter requests the admission of this host from the agents of the controllers.
type agentAdmitter struct {
	*operation
	env *action.Env
}

// admitTimeout is how long a host waits to be admitted.
const admitTimeout = 10 * time.Minute

// Admit requests admission until the cluster is no longer busy.
func (d agentAdmitter) Admit(ctx context.Context, report step.Report) (a plan.Admission, err error) {
	request, kubelet, err := d.newRequest()
	if err != nil {
		return a, err
	}
	err = wait.Until(ctx, wait.Options{What: "the cluster to admit this host", Timeout: admitTimeout, Interval: 2 * time.Second,
		NextCommand: "sudo plinth node list   (on a controller)",
		OnReason:    func(reason string) { report(reason, 0, 0) }},
		func(ctx context.Context) (bool, string, error) {
			answer, err := d.cluster.Admit(ctx, request)
			var later *agent.BusyError
			if errors.As(err, &later) {
				return false, later.Reason, nil
			}
			var denied *agent.DeniedError
			if errors.As(err, &denied) {
				return false, "", problem.New(problem.ExitJoin, "join", denied, "fix the cause and run the same command again: it resumes where it stopped; if the token has ended, create a new one on a controller: sudo plinth token create --role "+d.token.Role)
			}
			if err != nil {
				return false, err.Error(), nil
			}
			if a, err = d.accept(answer, kubelet); err != nil || d.isWorker() {
				return true, "", err
			}
			a.EncryptionKeys, err = d.readEncryptionKeys(ctx)
			switch {
			case errors.As(err, &denied):
				return false, "", problem.New(problem.ExitJoin, "join", denied, "run the same command again; if the token has ended, create a new one on a controller: sudo plinth token create --role "+d.token.Role)
			case err != nil:
				return false, err.Error(), nil
			}
			return true, "", nil
		})
	return a, err
}

// newRequest returns the request for admission, and the kubelet's identity without the certificates.
func (d agentAdmitter) newRequest() (r agent.JoinRequest, k k0s.KubeletIdentity, err error) {
	r = d.joinRequest(d.env, d.facts)
	id := nodecert.Identity{Node: r.Node, Role: d.clusterInfo.Role, Address: r.Address}
	k = k0s.KubeletIdentity{Node: r.Node, CA: d.clusterInfo.CA}
	key, err := d.identity.Key()
	if err != nil {
		return r, k, err
	}
	var errs [3]error
	r.AgentRequest, errs[0] = nodecert.NewRequest(nodecert.Agent, id, key)
	r.ClientRequest, k.ClientKey, errs[1] = plan.NewKeyAndRequest(nodecert.KubeletClient, id)
	r.ServingRequest, k.ServingKey, errs[2] = plan.NewKeyAndRequest(nodecert.KubeletServing, id)
	return r, k, errors.Join(errs[:]...)
}

// accept returns the admission in the cluster's answer. From here on, this host reads the bundle with the
// certificate of a node, because its token may be used up.
func (d agentAdmitter) accept(answer agent.JoinResponse, kubelet k0s.KubeletIdentity) (a plan.Admission, err error) {
	kubelet.ClientCert, kubelet.ServingCert = answer.ClientCert, answer.ServingCert
	next, err := d.identity.WithCertificate(answer.AgentCert, d.clusterInfo.CA)
	if err != nil {
		return a, fmt.Errorf("cannot use the certificate in the cluster's answer: %w", err)
	}
	d.identity = next
	d.cluster.Reconnect()
	a = plan.Admission{Identity: next, Kubelet: kubelet}
	if a.Files, err = d.registryFiles(d.env.DataDir, answer.RegistryCA); err != nil || d.isWorker() {
		return a, err
	}
	controller, err := netip.ParseAddr(answer.Controller)
	if err != nil {
		return a, fmt.Errorf("the cluster's answer has no address of a controller: %w", err)
	}
	server := "https://" + net.JoinHostPort(controller.String(), strconv.Itoa(agent.Port))
	a.K0sToken, err = k0s.JoinToken(server, d.clusterInfo.CA, answer.AgentCert, next.Pair.Key)
	d.env.Secrets.Hide(string(a.K0sToken))
	return a, err
}

// readEncryptionKeys returns the keys that encrypt Secrets in etcd. The cluster gives them to this host
// from its admission as a controller until it has joined.
func (d agentAdmitter) readEncryptionKeys(ctx context.Context) ([]k0s.EncryptionKey, error) {
	shared, err := d.cluster.FetchControllerSecrets(ctx)
	if err != nil {
		return nil, err
	}
	keys := make([]k0s.EncryptionKey, 0, len(shared.EncryptionKeys))
	for _, k := range shared.EncryptionKeys {
		keys = append(keys, k0s.EncryptionKey(k))
	}
	for _, secret := range k0s.EncryptionSecrets(keys) {
		d.env.Secrets.Hide(secret)
	}
	return keys, k0s.CheckEncryptionKeys(keys)
}
