// Package tokens creates, lists and revokes join tokens on a controller.
// The secret of a token is shown once and not stored.
package tokens

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/agent"
	"github.com/plinthdev/plinth/internal/action/desired"
	agentapi "github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/token"
)

// MaxTTL is the maximum lifetime of a token.
const MaxTTL = 30 * 24 * time.Hour

// Record describes one token, without its secret.
type Record = token.Record

// Request describes a token to create.
type Request struct {
	Role string        // token.Controller or token.Worker
	TTL  time.Duration // 0 < TTL <= MaxTTL
	Uses int           // number of hosts that can join with it
}

// CreatedToken is a new token. Its JSON format is public.
type CreatedToken struct {
	ID           string    `json:"id"`
	Role         string    `json:"role"`
	Expires      time.Time `json:"expires"`
	Uses         int       `json:"uses"`
	JoinCommand  string    `json:"join"`            // shell command for the new host, which may lack plinth: FetchCommand, then the join
	Token        string    `json:"token"`           // secret
	FetchCommand string    `json:"fetch,omitempty"` // shell command that downloads plinth from this node; contains the token's secret
}

// Create creates a token and stores its record in the cluster.
func Create(ctx context.Context, env *action.Env, req Request) (CreatedToken, error) {
	const doing = "create a join token"
	if err := req.validate(doing); err != nil {
		return CreatedToken{}, err
	}
	c, err := readController(ctx, env, doing)
	if err != nil {
		return CreatedToken{}, err
	}
	t, err := newToken(ctx, env, c, req)
	if err != nil {
		return CreatedToken{}, problem.New(problem.ExitStep, doing, err, "check whether the cluster is up: plinth status")
	}
	now := env.Now().UTC().Truncate(time.Second)
	rec := token.Record{ID: t.ID, Role: t.Role, Created: now, Expires: t.Expires, Uses: req.Uses, Hash: token.HashSecret(t.Secret)}
	if err := tokenStore(env, c).Add(ctx, rec); err != nil {
		return CreatedToken{}, problem.New(problem.ExitStep, doing, err, "check whether the cluster is up: plinth status")
	}
	text, err := t.Encode()
	if err != nil {
		return CreatedToken{}, err
	}
	fetch := fetchCommand(env, t)
	return CreatedToken{ID: t.ID, Role: t.Role, Expires: t.Expires, Uses: req.Uses, Token: text, FetchCommand: fetch, JoinCommand: joinCommand(fetch, text)}, nil
}

// joinCommand returns the shell command by which a new host joins: with the plinth that the command
// fetch downloads into the current directory, or with its own one if fetch is "".
func joinCommand(fetch, token string) string {
	if fetch == "" {
		return "echo " + token + " | sudo plinth join -"
	}
	return fetch + " && echo " + token + " | sudo ./plinth join -"
}

func (req Request) validate(doing string) error {
	switch {
	case req.Role != token.Controller && req.Role != token.Worker:
		return problem.Newf(problem.ExitUsage, doing, "use --role worker or --role controller", "unknown role %q", req.Role)
	case req.TTL <= 0 || req.TTL > MaxTTL:
		return problem.Newf(problem.ExitUsage, doing, "use a --ttl such as 1h", "a token cannot be valid for %s; the maximum is %s", req.TTL, MaxTTL)
	case req.Uses < 1 || req.Uses > 1000:
		return problem.Newf(problem.ExitUsage, doing, "use --uses with a number from 1 to 1000", "%d hosts cannot join with one token", req.Uses)
	}
	return nil
}

// List returns the tokens of the cluster, newest first.
func List(ctx context.Context, env *action.Env) ([]token.Record, error) {
	const doing = "list the join tokens"
	c, err := readController(ctx, env, doing)
	if err != nil {
		return nil, err
	}
	all, err := tokenStore(env, c).List(ctx)
	if err != nil {
		return nil, problem.New(problem.ExitStep, doing, err, "check whether the cluster is up: plinth status")
	}
	return all, nil
}

// Revoke revokes the token id with immediate effect and returns its record.
func Revoke(ctx context.Context, env *action.Env, id string) (token.Record, error) {
	doing := "revoke the join token " + id
	c, err := readController(ctx, env, doing)
	if err != nil {
		return token.Record{}, err
	}
	rec, err := tokenStore(env, c).Revoke(ctx, id)
	switch {
	case errors.Is(err, token.ErrNotFound):
		return rec, problem.New(problem.ExitUsage, doing, err, "list the ids with: plinth token list")
	case err != nil:
		return rec, problem.New(problem.ExitStep, doing, err, "check whether the cluster is up: plinth status")
	}
	env.Audit(ctx, agentapi.AuditEvent{Event: agentapi.AuditRevocation, Token: id, Result: "token revoked"})
	ended, err := endAdmissions(ctx, c.Client, id)
	if err != nil {
		return rec, problem.New(problem.ExitStep, doing, fmt.Errorf("the token is revoked, but a host that was admitted with it may still join: %w", err), "run the command again")
	}
	for _, name := range ended {
		env.Audit(ctx, agentapi.AuditEvent{Event: agentapi.AuditRevocation, Node: name, Token: id, Result: "admission ended, because its token was revoked"})
	}
	return rec, nil
}

// endAdmissions ends the admission of the hosts that the token has admitted and that are no nodes
// yet, and returns their names.
func endAdmissions(ctx context.Context, client *kube.Client, id string) (ended []string, err error) {
	registered, err := client.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	err = client.UpdateNodeRecords(ctx, func(all kube.NodeRecords) error {
		ended = nil
		for name, r := range all {
			if r.Token == id && !r.Joined && !slices.ContainsFunc(registered, func(n kube.Node) bool { return n.Name == name }) {
				delete(all, name)
				ended = append(ended, name)
			}
		}
		return nil
	})
	slices.Sort(ended)
	return ended, err
}

// readController returns what this controller knows about its cluster. It is a usage
// problem on any other host.
func readController(ctx context.Context, env *action.Env, doing string) (agent.ClusterState, error) {
	receipt, err := env.RequireInstalled(doing)
	if err != nil {
		return agent.ClusterState{}, err
	}
	if receipt.Role != token.Controller {
		return agent.ClusterState{}, problem.New(problem.ExitUsage, doing, errors.New("this host is a worker"), "run it on a controller of the cluster")
	}
	c, err := agent.ReadClusterState(ctx, env)
	if err != nil {
		return c, problem.New(problem.ExitStep, doing, err, "check whether the cluster is up: plinth status")
	}
	return c, nil
}

func tokenStore(env *action.Env, c agent.ClusterState) token.Store {
	return token.Store{Core: c.Client.Core(), Now: env.Now}
}

// newToken returns a token with a new secret. It contains the addresses of the Ready
// controllers, this one first.
func newToken(ctx context.Context, env *action.Env, c agent.ClusterState, req Request) (token.Token, error) {
	ca, err := readCertificate(env, k0s.CACertPath)
	if err != nil {
		return token.Token{}, err
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return token.Token{}, err
	}
	vendor, err := desired.ReadVendorSignature(env.Host, env.DataDir)
	if err != nil {
		return token.Token{}, err
	}
	// Hosts that join compare what an agent answers with these values, so they come from what agents answer with.
	t := token.Token{Cluster: c.Receipt.Name, Pin: token.PublicKeyPin(ca), Role: req.Role, Bundle: c.Bundle.String(), VendorKey: vendor.Key.Fingerprint(),
		Expires: env.Now().UTC().Add(req.TTL).Truncate(time.Second), SharedConfig: desired.SharedConfigDigest(c.Fields)}
	t.ID, t.Secret = token.NewSecret()
	addresses := []string{c.Receipt.Address}
	for _, n := range nodes {
		if n.Controller && n.Ready && !slices.Contains(n.Addresses, c.Receipt.Address) {
			addresses = append(addresses, n.Addresses...)
		}
	}
	if c.Receipt.API != "" { // last: an external load balancer may forward the agent's port, too
		addresses = append(addresses, c.Receipt.API)
	}
	for _, a := range addresses {
		t.Addresses = append(t.Addresses, net.JoinHostPort(a, strconv.Itoa(agentapi.Port)))
	}
	for _, secret := range []string{t.Secret, t.Bearer()} {
		env.Secrets.Hide(secret)
	}
	return t, nil
}

func readCertificate(env *action.Env, path string) (*x509.Certificate, error) {
	raw, err := env.Host.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, errors.New(path + " is not PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// fetchCommand returns the shell command with which a host without plinth downloads it
// from this node: curl accepts only a server with the agent's key, reads the token from
// stdin, and the checksum is verified before the file becomes executable. It returns ""
// if this node's agent has no key yet and does not answer.
func fetchCommand(env *action.Env, t token.Token) string {
	identity, err := env.Host.ReadFile(node.IdentityPath(env.DataDir))
	if err != nil {
		if err := ensureAgentIdentity(t.Addresses[0]); err != nil {
			return ""
		}
		if identity, err = env.Host.ReadFile(node.IdentityPath(env.DataDir)); err != nil {
			return ""
		}
	}
	pair, err := tls.X509KeyPair(identity, identity)
	if err != nil {
		return ""
	}
	self, err := env.AgentArtifact()
	if err != nil {
		return ""
	}
	pin := sha256.Sum256(pair.Leaf.RawSubjectPublicKeyInfo)
	var b bytes.Buffer
	fmt.Fprintf(&b, "echo 'Authorization: Bearer %s' | curl -fsSk --pinnedpubkey 'sha256//%s' -H @- -o plinth 'https://%s%s/blobs/%s'",
		t.ReadOnlyBearer(), base64.StdEncoding.EncodeToString(pin[:]), t.Addresses[0], agentapi.BlobPath, self.Digest)
	fmt.Fprintf(&b, " && echo '%s  plinth' | sha256sum -c --quiet && chmod +x plinth", self.Digest.Encoded())
	return strings.TrimSpace(b.String())
}

// ensureAgentIdentity makes the agent create its key, which it does at the first
// connection.
func ensureAgentIdentity(address string) error {
	d := &net.Dialer{Timeout: 2 * time.Second}
	conn, err := tls.DialWithDialer(d, "tcp", address, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // no data is sent
	if err != nil {
		return err
	}
	return conn.Close()
}
