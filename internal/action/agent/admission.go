package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/token"
)

// Admit records the use of the join token by a host, and signs the certificates with which the
// host is a node: for the name, the address and the role of this admission only.
func (d joinServer) Admit(ctx context.Context, c agent.Caller, r agent.JoinRequest) (agent.JoinResponse, error) {
	if c.Key == "" {
		return agent.JoinResponse{}, &agent.StatusError{Reason: "the host shows no certificate, so the token cannot be bound to its key", Status: http.StatusUnauthorized}
	}
	rec, err := d.checkToken(ctx, c)
	if err != nil {
		return agent.JoinResponse{}, err
	}
	a, err := d.admit(ctx, c, rec, r)
	return a, agent.ExplainError(err)
}

// admit admits a host whose token has the record rec.
func (d joinServer) admit(ctx context.Context, caller agent.Caller, rec token.Record, r agent.JoinRequest) (a agent.JoinResponse, err error) {
	c, err := ReadClusterState(ctx, d.Env)
	if err != nil {
		return a, err
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return a, err
	}
	records, err := c.Client.NodeRecords(ctx)
	if err != nil {
		return a, err
	}
	if err := checkConflict(records, r, caller.Key); err != nil {
		return a, err
	}
	if err := checkLeftover(ctx, c.Client, records, r.Node); err != nil {
		return a, err
	}
	next, err := c.newRecord(records, caller, rec, r)
	if err != nil {
		return a, err
	}
	next.Admitted = d.Now().UTC()
	// Sign before anything is changed, so that a bad request changes nothing. The certificates are refused without the record.
	if a, err = d.signNode(identityOf(next, c.Receipt.API), caller.Key, r); err != nil {
		return agent.JoinResponse{}, err
	}
	if rec.Role == token.Controller {
		if err := d.acquireJoinSlot(ctx, c, nodes, r); err != nil {
			return agent.JoinResponse{}, err
		}
	}
	store := token.Store{Core: c.Client.Core(), Now: d.Now}
	use := token.Use{Node: r.Node, MachineID: r.MachineID, At: next.Admitted, Key: caller.Key}
	if _, err := store.Use(ctx, caller.Bearer, use); err != nil {
		return agent.JoinResponse{}, statusError(err)
	}
	_, known := records[r.Node]
	err = c.Client.UpdateNodeRecords(ctx, func(all kube.NodeRecords) error {
		if _, ok := all[r.Node]; known && !ok {
			return &agent.StatusError{Reason: "node " + r.Node + " was removed from the cluster", Status: http.StatusConflict}
		}
		if err := checkConflict(all, r, caller.Key); err != nil { // another host may have been admitted meanwhile
			return err
		}
		if now, ok := all[r.Node]; ok {
			if now.UID != next.UID {
				return &agent.StatusError{Reason: "this host has just been admitted by another request", Status: http.StatusLocked}
			}
			next.Joined = now.Joined // its member of etcd may vote by now
		}
		all[r.Node] = next
		return nil
	})
	if err == nil {
		err = endIfRevoked(ctx, c.Client, store, next)
	}
	if err != nil {
		return agent.JoinResponse{}, err
	}
	a.Controller = c.Receipt.Address
	a.RegistryCA, err = d.registryCA(ctx, c)
	return a, err
}

// endIfRevoked ends an admission whose token was revoked after it was checked: the revocation may have
// looked for the record before it was written.
func endIfRevoked(ctx context.Context, client *kube.Client, store token.Store, admitted kube.NodeRecord) error {
	rec, err := store.Find(ctx, admitted.Token)
	if err == nil && rec.Revoked == nil || err != nil && !errors.Is(err, token.ErrNotFound) {
		return err
	}
	err = client.UpdateNodeRecords(ctx, func(all kube.NodeRecords) error {
		if now := all[admitted.Node]; now.UID == admitted.UID && !now.Joined {
			delete(all, admitted.Node)
		}
		return nil
	})
	return errors.Join(&agent.StatusError{Reason: "the token was revoked", Status: http.StatusUnauthorized}, err)
}

// checkLeftover returns an error if the cluster has a Node object of the name that it has not admitted:
// its labels may be those of a controller.
func checkLeftover(ctx context.Context, client *kube.Client, records kube.NodeRecords, name string) error {
	if _, ok := records[name]; ok {
		return nil
	}
	exists, err := client.Exists(ctx, kube.Object{APIVersion: "v1", Kind: "Node", Name: name})
	if err != nil || !exists {
		return err
	}
	return &agent.StatusError{Reason: fmt.Sprintf("the cluster still has a node named %s, whose removal did not finish: plinth node remove %s", name, name), Status: http.StatusConflict}
}

// checkConflict returns an error if an admitted node has the host's name, key, machine ID or address.
func checkConflict(records kube.NodeRecords, r agent.JoinRequest, key string) error {
	if why := agent.Conflict(admittedNodes(records), r, key); why != "" {
		return &agent.StatusError{Reason: why, Status: http.StatusConflict}
	}
	return nil
}

// newRecord returns the record of the host that sends r. A host that asks again keeps its UID.
func (c ClusterState) newRecord(records kube.NodeRecords, caller agent.Caller, rec token.Record, r agent.JoinRequest) (kube.NodeRecord, error) {
	refuse := func(format string, args ...any) error {
		return &agent.StatusError{Reason: fmt.Sprintf(format, args...), Status: http.StatusConflict}
	}
	next := kube.NodeRecord{Node: r.Node, UID: nodecert.NewUID(), Role: rec.Role, Address: r.Address, MachineID: r.MachineID, AgentKey: caller.Key, Token: rec.ID}
	if have, ok := records[r.Node]; ok { // with the same key: Conflict has compared them
		switch {
		case have.Role != rec.Role:
			return next, refuse("this host was admitted as a %s, but the token is for a %s", have.Role, rec.Role)
		case have.Joined && r.Fresh: // its vote must not be removed as that of a failed attempt
			return next, refuse("controller %s has joined, but this host has lost its data: plinth node remove %s", r.Node, r.Node)
		}
		next.UID, next.Joined = have.UID, have.Joined
	}
	address, err := netip.ParseAddr(r.Address)
	api, _ := netip.ParseAddr(c.Receipt.API) // may be a name
	switch {
	case isReservedName(r.Node) || strings.EqualFold(r.Node, strings.TrimSuffix(c.Receipt.API, ".")):
		return next, refuse("%q is reserved for the API or a service of the cluster; give the host another name", r.Node)
	case err != nil || !address.IsGlobalUnicast():
		return next, refuse("%q is not an address that other hosts can reach", r.Address)
	case address.Unmap() == api.Unmap():
		return next, refuse("%s is the address of the cluster's API", r.Address)
	}
	for _, cidr := range []string{c.Installer.Spec.Network.PodCIDR, c.Installer.Spec.Network.ServiceCIDR} {
		if prefix, err := netip.ParsePrefix(cidr); err == nil && prefix.Contains(address.Unmap()) {
			return next, refuse("%s is in %s, the network of the cluster's pods and services", r.Address, cidr)
		}
	}
	switch why, err := c.reservedFor(rec.Role, r); {
	case err != nil:
		return next, err
	case why != "":
		return next, refuse("%s", why)
	}
	return next, nil
}

// reservedFor returns why a host must not have its name or address, or "": the API server's certificate, or that of a
// service, is valid for it. A controller may have what the Installer lists, because its API server has that certificate.
func (c ClusterState) reservedFor(role string, r agent.JoinRequest) (why string, err error) {
	settings := k0s.NewSettings(c.Installer, c.Receipt.Address, c.Receipt.Node)
	settings.APIAddress = c.Receipt.API
	if strings.HasSuffix(r.Node, ".svc."+c.Installer.Spec.K0s.ClusterDomain()) {
		return fmt.Sprintf("%q is reserved for services of the cluster; give the host another name", r.Node), nil
	}
	if role == token.Controller {
		return "", nil
	}
	names, err := k0s.ServerNames(settings)
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if matchesName(name, r.Node) || matchesName(name, r.Address) {
			return fmt.Sprintf("the certificate of the API server is for %s; a worker needs another name and address", name), nil
		}
	}
	return "", nil
}

// matchesName reports whether a certificate for the name or address pattern is valid for text: names ignore case and a
// final dot, "*" stands for one label, and an address has several spellings.
func matchesName(pattern, text string) bool {
	if a, err := netip.ParseAddr(pattern); err == nil {
		b, err := netip.ParseAddr(text)
		return err == nil && a.Unmap() == b.Unmap()
	}
	pattern, text = strings.ToLower(strings.TrimSuffix(pattern, ".")), strings.ToLower(text)
	if rest, ok := strings.CutPrefix(pattern, "*."); ok {
		_, parent, found := strings.Cut(text, ".")
		return found && parent == rest
	}
	return pattern == text
}

// isReservedName reports whether a node must not have the name, because certificates of the cluster's
// authority with this name would be those of the API server or of a service: pods trust the authority.
func isReservedName(name string) bool {
	_, notAddress := netip.ParseAddr(name)
	starts := func(prefix string) bool { return name == prefix || strings.HasPrefix(name, prefix+".") }
	ends := func(suffix string) bool { return strings.HasSuffix(name, "."+suffix) }
	return notAddress == nil || starts("localhost") || ends("localhost") || ends("svc") || ends("cluster.local") ||
		name == "kubernetes" || starts("kubernetes.default") || starts("kubernetes.svc") // also in another domain than cluster.local
}

// identityOf returns what the certificates of a node contain. apiAddress is the additional name or
// address of the API, at which a load balancer forwards to the agents of controllers, too.
func identityOf(r kube.NodeRecord, apiAddress string) nodecert.Identity {
	return nodecert.Identity{Node: r.Node, UID: r.UID, Role: r.Role, Address: r.Address, API: apiAddress}
}

// readAuthority returns the cluster's certificate authority.
func (d joinServer) readAuthority() (ca pki.Pair, err error) {
	var errs [2]error
	ca.Cert, errs[0] = d.Host.ReadFile(k0s.CACertPath)
	ca.Key, errs[1] = d.Host.ReadFile(k0s.CAKeyPath)
	return ca, errors.Join(errs[:]...)
}

// signNode signs the certificates of an admitted host. key is the one of its connection, which
// the agent's certificate must be for.
func (d joinServer) signNode(id nodecert.Identity, key string, r agent.JoinRequest) (a agent.JoinResponse, err error) {
	ca, err := d.readAuthority()
	if err != nil {
		return a, err
	}
	if a.AgentCert, err = d.signAgent(ca, id, key, r.AgentRequest); err != nil {
		return a, err
	}
	for _, q := range []struct {
		kind    nodecert.Kind
		request []byte
		into    *[]byte
	}{{nodecert.KubeletClient, r.ClientRequest, &a.ClientCert}, {nodecert.KubeletServing, r.ServingRequest, &a.ServingCert}} {
		csr, err := nodecert.CheckRequest(q.kind, id, q.request)
		if err == nil && token.KeyPin(csr.RawSubjectPublicKeyInfo) == key {
			err = errors.New("it is for the key of the agent")
		}
		if err != nil {
			return a, badRequest(q.kind, err)
		}
		if *q.into, err = nodecert.Sign(q.kind, id, q.request, ca, d.Now()); err != nil {
			return a, badRequest(q.kind, err)
		}
	}
	return a, nil
}

// signAgent signs a certificate for the agent of a node, whose connection shows the key.
func (d joinServer) signAgent(ca pki.Pair, id nodecert.Identity, key string, request []byte) ([]byte, error) {
	csr, err := nodecert.CheckRequest(nodecert.Agent, id, request)
	if err != nil {
		return nil, badRequest(nodecert.Agent, err)
	}
	if token.KeyPin(csr.RawSubjectPublicKeyInfo) != key {
		return nil, badRequest(nodecert.Agent, errors.New("it is for another key than that of the connection"))
	}
	cert, err := nodecert.Sign(nodecert.Agent, id, request, ca, d.Now())
	if err != nil {
		return nil, badRequest(nodecert.Agent, err)
	}
	return cert, nil
}

// badRequest refuses a certificate request.
func badRequest(kind nodecert.Kind, err error) error {
	return &agent.StatusError{Reason: fmt.Sprintf("the request for the %s's certificate is refused: %v", kind, err), Status: http.StatusConflict}
}

// Renew returns a new certificate for the agent of a node, for the key that it has.
func (d joinServer) Renew(ctx context.Context, c agent.Caller, r agent.RenewRequest) (a agent.RenewResponse, err error) {
	record, err := d.currentRecord(ctx, c.NodeID)
	if err != nil {
		return a, err
	}
	ca, err := d.readAuthority()
	if err != nil {
		return a, agent.ExplainError(err)
	}
	receipt, _, err := journal.ReadReceipt(d.Host, d.DataDir)
	if err != nil {
		return a, agent.ExplainError(err)
	}
	a.AgentCert, err = d.signAgent(ca, identityOf(record, receipt.API), c.Key, r.AgentRequest)
	return a, err
}

// currentRecord returns the record of the node whose agent has shown a certificate. It is a
// *agent.StatusError if the node was removed, or admitted again, since it got the certificate.
func (d joinServer) currentRecord(ctx context.Context, p nodecert.NodeID) (kube.NodeRecord, error) {
	client, err := d.KubeClient()
	if err != nil {
		return kube.NodeRecord{}, err
	}
	records, err := client.NodeRecords(ctx)
	if err != nil {
		return kube.NodeRecord{}, err
	}
	return findRecord(records, p)
}

// findRecord returns the record of a node whose certificate is of its current admission.
func findRecord(records kube.NodeRecords, p nodecert.NodeID) (kube.NodeRecord, error) {
	if p.Node == "" {
		return kube.NodeRecord{}, &agent.StatusError{Reason: "the client shows no certificate of a node's agent", Status: http.StatusUnauthorized}
	}
	r, err := records.FindAdmission(p.Node, p.UID)
	if err == nil && r.Role != p.Role {
		err = fmt.Errorf("this certificate of node %s is for a %s, but it is a %s", p.Node, p.Role, r.Role)
	}
	if err != nil {
		return r, &agent.StatusError{Reason: err.Error(), Status: http.StatusUnauthorized}
	}
	return r, nil
}

// CheckNode returns an error unless the node still belongs to the cluster, with the admission
// that its certificate is of.
func (d joinServer) CheckNode(ctx context.Context, p nodecert.NodeID) error {
	_, err := d.currentRecord(ctx, p)
	return err
}

// CheckJoiningController returns the record of the client if it may have the keys of the cluster
// now: an admitted controller that is not a member of etcd yet, holds the join lock, and whose token
// was not revoked.
func (d joinServer) CheckJoiningController(ctx context.Context, c agent.Caller) (kube.NodeRecord, error) {
	refuse := func(why string) error { return &agent.StatusError{Reason: why, Status: http.StatusUnauthorized} }
	r, err := d.currentRecord(ctx, c.NodeID)
	switch {
	case err != nil:
		return r, err
	case r.Role != token.Controller:
		return r, refuse("node " + r.Node + " is a worker")
	case r.Joined:
		return r, refuse("controller " + r.Node + " has joined already")
	}
	client, err := d.KubeClient()
	if err != nil {
		return r, err
	}
	holder, err := (JoinLock{Core: client.Core(), Now: d.Now}).Holder(ctx)
	if err != nil {
		return r, err
	}
	if holder != r.Node {
		return r, refuse("controller " + r.Node + " does not hold the lock of the controller that joins")
	}
	rec, err := token.Store{Core: client.Core(), Now: d.Now}.Find(ctx, r.Token)
	switch {
	case errors.Is(err, token.ErrNotFound):
		return r, refuse("the token of controller " + r.Node + " is gone")
	case err != nil:
		return r, err
	case rec.Revoked != nil:
		return r, refuse("the token of controller " + r.Node + " was revoked")
	}
	return r, nil
}

// recordVoters records that controllers have joined, once their members of etcd vote: from then on
// they get no keys, and other hosts use them as controllers.
func recordVoters(ctx context.Context, client *kube.Client, members []etcd.Member) (joined []string, err error) {
	records, err := client.NodeRecords(ctx)
	if err != nil {
		return nil, err
	}
	votes := func(r kube.NodeRecord) bool { // a member at another address is of a host that had the name before
		return slices.ContainsFunc(members, func(m etcd.Member) bool { return m.Name == r.Node && m.Address == r.Address && !m.Learner })
	}
	pending := func(r kube.NodeRecord) bool { return r.Role == token.Controller && !r.Joined && votes(r) }
	for _, r := range records {
		if pending(r) {
			joined = append(joined, r.Node)
		}
	}
	if len(joined) == 0 {
		return nil, nil
	}
	return joined, client.UpdateNodeRecords(ctx, func(all kube.NodeRecords) error {
		for name, r := range all {
			if pending(r) {
				r.Joined = true
				all[name] = r
			}
		}
		return nil
	})
}
