package join

import (
	"context"
	"net/netip"
	"time"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/app/preflight"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/probe/peer"
)

// others are the nodes that this host and the cluster try the ways between them
// with: controllers, which have agents. A host that is a node already has tried
// them, and one that is refused anyhow need not.
func (a job) others(s site, found facts.Facts, offset time.Duration) preflight.Others {
	claim := a.claimOf(s, found)
	if !claim.Fresh || agent.Taken(s.offer.Nodes, claim) != "" || judgeClock(offset) != nil {
		return preflight.Others{}
	}
	return preflight.Others{Addresses: asked(s.offer.Nodes, claim.MachineID), Ask: func(ctx context.Context, at netip.Addr, ask peer.Ask) (peer.Answer, error) {
		var answer peer.Answer
		err := a.cluster.Peer(ctx, at, ask, &answer)
		if err == nil {
			err = answer.Check()
		}
		return answer, err
	}}
}

// asked are the addresses of the controllers that are up, without this host's own.
func asked(nodes []agent.Node, machineID string) (all []string) {
	for _, n := range nodes {
		if n.Controller && n.Ready && n.MachineID != machineID && len(n.Addresses) > 0 {
			all = append(all, n.Addresses[0])
		}
	}
	return all
}
