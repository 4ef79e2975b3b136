// Package tokens owns what an administrator does with join tokens on a
// controller: make, list, revoke. It refuses to keep a token's secret: it is
// shown once.
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

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/app/compose"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/app/serve"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/token"
	"github.com/plinthdev/plinth/internal/token/record"
)

// MaxLife is the longest that a token may count.
const MaxLife = 30 * 24 * time.Hour

// Record is what is known of one token.
type Record = record.Record

// Request is what a token is made for.
type Request struct {
	Role string        // token.Controller or token.Worker
	Life time.Duration // 0 < Life <= MaxLife
	Uses int           // how many hosts may join with it
}

// Made is a new token; its JSON form is public.
type Made struct {
	ID      string    `json:"id"`
	Role    string    `json:"role"`
	Expires time.Time `json:"expires"`
	Uses    int       `json:"uses"`
	Token   string    `json:"token"`           // secret
	Fetch   string    `json:"fetch,omitempty"` // shell line that fetches plinth from this node; holds the token's secret
}

// Create makes a token.
func Create(ctx context.Context, r *run.Run, req Request) (Made, error) {
	const doing = "make a join token"
	if err := req.check(doing); err != nil {
		return Made{}, err
	}
	c, err := controller(ctx, r, doing)
	if err != nil {
		return Made{}, err
	}
	t, err := newToken(ctx, r, c, req)
	if err != nil {
		return Made{}, problem.New(problem.ExitStep, doing, err, "is the cluster up? `plinth status` tells")
	}
	now := r.Now().UTC().Truncate(time.Second)
	rec := record.Record{ID: t.ID, Role: t.Role, Created: now, Expires: t.Expires, Uses: req.Uses, Hash: token.Hash(t.Secret)}
	if err := book(r, c).Add(ctx, rec); err != nil {
		return Made{}, problem.New(problem.ExitStep, doing, err, "is the cluster up? `plinth status` tells")
	}
	text, err := t.Encode()
	if err != nil {
		return Made{}, err
	}
	return Made{ID: t.ID, Role: t.Role, Expires: t.Expires, Uses: req.Uses, Token: text, Fetch: fetch(r, t)}, nil
}

func (req Request) check(doing string) error {
	switch {
	case req.Role != token.Controller && req.Role != token.Worker:
		return problem.Newf(problem.ExitUsage, doing, "say --role worker or --role controller", "there is no role %q", req.Role)
	case req.Life <= 0 || req.Life > MaxLife:
		return problem.Newf(problem.ExitUsage, doing, "give a --ttl such as 1h", "a token cannot count for %s; the most is %s", req.Life, MaxLife)
	case req.Uses < 1 || req.Uses > 1000:
		return problem.Newf(problem.ExitUsage, doing, "give --uses between 1 and 1000", "%d hosts cannot join with one token", req.Uses)
	}
	return nil
}

// List gives the tokens of the cluster, the newest first.
func List(ctx context.Context, r *run.Run) ([]record.Record, error) {
	const doing = "list the join tokens"
	c, err := controller(ctx, r, doing)
	if err != nil {
		return nil, err
	}
	all, err := book(r, c).List(ctx)
	if err != nil {
		return nil, problem.New(problem.ExitStep, doing, err, "is the cluster up? `plinth status` tells")
	}
	return all, nil
}

// Revoke ends a token at once.
func Revoke(ctx context.Context, r *run.Run, id string) (record.Record, error) {
	doing := "revoke the join token " + id
	c, err := controller(ctx, r, doing)
	if err != nil {
		return record.Record{}, err
	}
	rec, err := book(r, c).Revoke(ctx, id)
	switch {
	case errors.Is(err, record.ErrUnknown):
		return rec, problem.New(problem.ExitUsage, doing, err, "`plinth token list` shows the ids")
	case err != nil:
		return rec, problem.New(problem.ExitStep, doing, err, "is the cluster up? `plinth status` tells")
	}
	return rec, nil
}

// controller is what a controller knows; a usage problem on every other host.
func controller(ctx context.Context, r *run.Run, doing string) (serve.Cluster, error) {
	receipt, err := r.Installed(doing)
	if err != nil {
		return serve.Cluster{}, err
	}
	if receipt.Role != token.Controller {
		return serve.Cluster{}, problem.New(problem.ExitUsage, doing, errors.New("this host is a worker"), "run it on a controller of the cluster")
	}
	c, err := serve.Look(ctx, r)
	if err != nil {
		return c, problem.New(problem.ExitStep, doing, err, "is the cluster up? `plinth status` tells")
	}
	return c, nil
}

func book(r *run.Run, c serve.Cluster) record.Book {
	return record.Book{Core: c.Client.Core(), Now: r.Now}
}

func newToken(ctx context.Context, r *run.Run, c serve.Cluster, req Request) (token.Token, error) {
	ca, err := certificate(r, k0s.CACert)
	if err != nil {
		return token.Token{}, err
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return token.Token{}, err
	}
	t := token.Token{Cluster: c.Receipt.Name, Pin: token.Pin(ca), Role: req.Role, Bundle: c.Receipt.Bundle,
		Expires: r.Now().UTC().Add(req.Life).Truncate(time.Second), Agreement: compose.AgreementDigest(c.Fields)}
	t.ID, t.Secret = token.NewSecret()
	addresses := []string{c.Receipt.Address}
	for _, n := range nodes {
		if n.Controller && n.Ready && !slices.Contains(n.Addresses, c.Receipt.Address) {
			addresses = append(addresses, n.Addresses...)
		}
	}
	if c.Receipt.API != "" { // last: who balances agents, too, makes it a further way in
		addresses = append(addresses, c.Receipt.API)
	}
	for _, a := range addresses {
		t.Addresses = append(t.Addresses, net.JoinHostPort(a, strconv.Itoa(agent.Port)))
	}
	for _, secret := range []string{t.Secret, t.Bearer()} {
		r.Secrets.Hide(secret)
	}
	return t, nil
}

func certificate(r *run.Run, path string) (*x509.Certificate, error) {
	raw, err := r.Host.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, errors.New(path + " is not PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// fetch is the line by which a host without plinth gets it from this node: curl
// talks to nobody but the holder of the agent's key, the token goes in by
// stdin, and what came is compared before it may run. "" when this node's agent
// has not been asked yet, and so has no key.
func fetch(r *run.Run, t token.Token) string {
	kept, err := r.Host.ReadFile(serve.IdentityPath(r))
	if err != nil {
		if err := wake(t.Addresses[0]); err != nil {
			return ""
		}
		if kept, err = r.Host.ReadFile(serve.IdentityPath(r)); err != nil {
			return ""
		}
	}
	pair, err := tls.X509KeyPair(kept, kept)
	if err != nil {
		return ""
	}
	self, err := r.Self()
	if err != nil {
		return ""
	}
	pin := sha256.Sum256(pair.Leaf.RawSubjectPublicKeyInfo)
	var b bytes.Buffer
	fmt.Fprintf(&b, "echo 'Authorization: Bearer %s' | curl -fsSk --pinnedpubkey 'sha256//%s' -H @- -o plinth 'https://%s%s/blobs/%s'",
		t.Reader(), base64.StdEncoding.EncodeToString(pin[:]), t.Addresses[0], agent.BlobPath, self.Digest)
	fmt.Fprintf(&b, " && echo '%s  plinth' | sha256sum -c --quiet && chmod +x plinth", self.Digest.Encoded())
	return strings.TrimSpace(b.String())
}

// wake has the agent make its key, which it does when the first caller comes.
func wake(address string) error {
	d := &net.Dialer{Timeout: 2 * time.Second}
	conn, err := tls.DialWithDialer(d, "tcp", address, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // nothing is said
	if err != nil {
		return err
	}
	return conn.Close()
}
