package join

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/ports"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/token"
)

// TokenPrefix is the beginning of every join token.
const TokenPrefix = token.Prefix

// HideCommandLineToken overwrites token in the command line of this process and returns
// a copy of it. A join takes minutes, and ps shows the command line to all users.
func HideCommandLineToken(token string) string { return host.HideArgument(token) }

// Limits for the offset of the host's clock from the cluster's. etcd warns at 1 s. A
// host whose clock is behind rejects new certificates as not valid yet.
const (
	clockWarnOffset = 2 * time.Second
	maxClockOffset  = time.Minute
)

// hiddenNodes returns a sentence for each node that this host cannot reach, because one of
// its own interfaces that is up has the node's address: the kernel delivers packets to it
// locally. self is this host's name, chosen the address that it joins with, which
// agent.Conflict compares.
func hiddenNodes(nodes []agent.Node, network facts.Network, self string, chosen netip.Addr) (all []string) {
	for _, n := range nodes {
		for _, text := range n.Addresses {
			at, err := netip.ParseAddr(text)
			if err != nil || n.Name == self || at.Unmap() == chosen || !network.HasLiveAddress(at.Unmap()) {
				continue
			}
			all = append(all, fmt.Sprintf("an interface of this host has the address %s of node %s, which it could not reach", at.Unmap(), n.Name))
		}
	}
	return all
}

// clockOffset returns by how much this host's clock is ahead of the cluster's. sent and
// answered are the times of a request and its answer on this host, cluster is the time
// in the answer.
func clockOffset(sent, answered, cluster time.Time) time.Duration {
	middle := sent.Add(answered.Sub(sent) / 2)
	return middle.Sub(cluster)
}

// checkClock returns an error when the clock offset is more than maxClockOffset.
func checkClock(offset time.Duration) error {
	if offset.Abs() <= maxClockOffset {
		return nil
	}
	side := "ahead of"
	if offset < 0 {
		side = "behind"
	}
	return refuseJoin(fmt.Errorf("this host's clock is %s %s the cluster's; the limit is %s", offset.Abs().Round(time.Second), side, maxClockOffset),
		"synchronize the clock: sudo timedatectl set-ntp true")
}

// checkOtherCluster returns an error when this host belongs to another cluster, has
// started to join one, or has another role.
func (o *operation) checkOtherCluster(env *action.Env) error {
	r := o.receipt
	const hint = "remove this host from that cluster with `plinth reset node`, or with `plinth reset cluster` if it is the only host of it"
	if r.Role != "" && r.Role != o.token.Role {
		return refuseJoin(fmt.Errorf("this host is a %s of %s, but the token is for a %s", r.Role, r.Name, o.token.Role), hint)
	}
	raw, err := env.Host.ReadFile(k0s.CACertPath)
	if err != nil || isAuthority(raw, o.token.Pin) { // no cluster on this host, or the same one
		return nil
	}
	return refuseJoin(fmt.Errorf("this host belongs to another cluster than %s, for which the token is valid", o.token.Cluster), hint)
}

// checkEarlierRuns returns an error when an earlier run on env's host must be finished or removed first, or when the
// last one is an unfinished join for which the token t is not valid.
func checkEarlierRuns(env *action.Env, t token.Token) error {
	if why, fix := desired.JoinRefusal(env.Host, env.DataDir, env.Journal()); why != "" {
		return refuseJoin(errors.New(why), fix)
	}
	last, ok := env.Journal().LastUnfinished()
	if !ok || last.Verb != "join" {
		return nil
	}
	started := last.StartedAt.Format(time.RFC3339)
	const hint = "use a token for the unfinished join, or remove it first: plinth reset cluster"
	if was := last.Args.Role; was != "" && was != t.Role {
		return refuseJoin(fmt.Errorf("this host started to join as a %s at %s, but the token is for a %s", was, started, t.Role), hint)
	}
	if was := last.Args.CAPin; was != "" && was != t.Pin {
		return refuseJoin(fmt.Errorf("the token is not valid for the cluster that this host started to join at %s, %s", started, last.Args.Cluster), hint)
	}
	return nil
}

// explainFailure returns the problem that explains why no controller accepted this host.
func (o *operation) explainFailure(ctx context.Context, env *action.Env, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	again := "create a new token on a controller: sudo plinth token create --role " + o.token.Role
	var denied *agent.DeniedError
	switch {
	case errors.As(err, &denied):
		return refuseJoin(denied, again)
	case errors.Is(err, agent.ErrPinMismatch):
		return refuseJoin(fmt.Errorf("the server at %s is not the cluster for which the token is valid: %w", strings.Join(o.token.Addresses, ", "), agent.ErrPinMismatch), again)
	case env.Now().After(o.token.Expires):
		err = fmt.Errorf("no controller answers, and the token expired at %s: %w", o.token.Expires.Format(time.RFC3339), err)
		return refuseJoin(err, again)
	}
	return refuseJoin(fmt.Errorf("no controller answers: %w", err),
		fmt.Sprintf("this host must reach port %d/tcp of a controller; on the controller: systemctl status plinth-agent", ports.Agent))
}

// openBundle opens the bundle of --bundle, or without it the one that the nodes of the
// cluster store, verifies it, and reads its Installer.
func (o *operation) openBundle(ctx context.Context) (err error) {
	if o.opts.Bundle != "" {
		if o.bundle, err = airgap.Open(ctx, o.opts.Bundle); err == nil {
			err = o.verifyBundle(o.bundle.RawIndex())
		}
	} else {
		o.bundle, err = o.openFromCluster(ctx)
	}
	if err != nil {
		return err
	}
	raw, err := o.bundle.Installer(ctx)
	if err != nil {
		return err
	}
	var findings []spec.Finding
	if o.installer, findings = spec.ParseInstaller("installer.yaml in the bundle", raw); o.installer == nil {
		return spec.FindingsError("use the bundle", findings)
	}
	return nil
}

// openFromCluster verifies and opens the bundle whose blobs the nodes of the cluster store.
func (o *operation) openFromCluster(ctx context.Context) (*airgap.Bundle, error) {
	o.cluster.UseNodes(o.clusterInfo.Nodes)
	index, err := o.cluster.ReadDocument(ctx, digest.Digest(o.token.Bundle), limit.Document)
	if err != nil {
		return nil, problem.New(problem.ExitBundle, "fetch the bundle's index from the cluster", err, "copy the bundle to this host and pass it with --bundle; nothing on this host was changed")
	}
	if err := o.verifyBundle(index); err != nil {
		return nil, err
	}
	return airgap.OpenFromStore(ctx, index, o.cluster, "the bundle of cluster "+o.clusterInfo.Cluster)
}

// checkSharedConfig returns an error when this host's configuration differs from the
// cluster's. Such differences would only show once the node is up, or never.
func (o *operation) checkSharedConfig(env *action.Env) error {
	here := desired.SharedConfig(o.installer, o.bundle.Digest().String(), env.DataDir, env.Version)
	o.mismatches = desired.Diff(here, o.clusterInfo.Fields)
	if len(o.mismatches) == 0 {
		return nil
	}
	var names []string
	for _, d := range o.mismatches {
		names = append(names, d[0])
	}
	return refuseJoin(fmt.Errorf("this host's configuration differs from the cluster's in %s", strings.Join(names, ", ")),
		"omit --bundle to use the bundle of the cluster, or use the bundle, the plinth version and the --data-dir with which the cluster was installed")
}
