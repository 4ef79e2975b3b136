package certificates

import (
	"fmt"
	"time"

	"github.com/plinthdev/plinth/internal/action/nodes"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/ports"
)

// requirement is what a restart of k0s on a controller requires of the other ones. Each includes the ones below.
type requirement int

const (
	requireNothing requirement = iota // an API server that does not answer is no reason to wait
	requireAnswer                     // the cluster answers; the restart may cost the quorum while it lasts
	requireQuorum                     // the others keep the quorum, if there are three voters or more
	requireHealthy                    // all others are healthy
)

// urgency is how a renewal proceeds from a share of life on.
type urgency struct {
	below    float64 // share of its life that a certificate has left
	requires requirement
	retry    time.Duration // after an attempt
}

// urgencies are sorted by share. A controller that is lost and was not removed must not let the certificates
// of the others end, which would stop the whole cluster: the requirements become weaker.
var urgencies = []urgency{
	{1.0 / 365, requireNothing, time.Hour}, // at its end the API server does not answer anyway
	{1.0 / 30, requireAnswer, time.Hour},
	{1.0 / 10, requireQuorum, 24 * time.Hour},
}

// urgencyOf returns how to renew a certificate with this share of its life left.
func urgencyOf(left float64) urgency {
	for _, u := range urgencies {
		if left < u.below {
			return u
		}
	}
	return urgency{pki.RenewBelow, requireHealthy, 24 * time.Hour}
}

// checkRestart returns why k0s on the controller self must not be restarted now, or "". v is the cluster, as
// self sees it, or viewErr; address is that of self, left the share of life of the certificates to renew.
func checkRestart(v nodes.ClusterView, viewErr error, self, address string, left float64) string {
	requires := urgencyOf(left).requires
	switch {
	case requires == requireNothing:
		return ""
	case viewErr != nil:
		return "the cluster does not answer: " + viewErr.Error()
	case requires == requireAnswer:
		return ""
	}
	if why := checkEtcd(v); why != "" {
		return why
	}
	others, ready := 0, 0
	for _, e := range v.API {
		if e.Address == address+":"+ports.APIText {
			continue
		}
		others++
		if e.Ready {
			ready++
			continue
		}
		if requires == requireHealthy {
			return fmt.Sprintf("the API server at %s is not ready: %s", e.Address, e.Reason)
		}
	}
	if requires == requireQuorum {
		if voters := countVoters(v); voters > 2 && ready < voters/2+1 {
			return fmt.Sprintf("only %d of the %d other controllers are ready, which is no quorum of %d", ready, others, voters)
		}
		return ""
	}
	return checkControllers(v, self, others)
}

// checkEtcd returns why etcd is not in a state in which a member may restart, or "".
func checkEtcd(v nodes.ClusterView) string {
	if len(v.Etcd) == 0 {
		return "etcd on this host does not answer"
	}
	hasLeader := false
	for _, m := range v.Etcd {
		hasLeader = hasLeader || m.Leader
		if m.Learner || m.Name == "" {
			return "the controller at " + m.Address + " is joining"
		}
	}
	if !hasLeader {
		return "etcd has no leader"
	}
	return ""
}

// checkControllers returns which controller but self is not healthy, or "". others is the number of API
// servers, all of which are ready.
func checkControllers(v nodes.ClusterView, self string, others int) string {
	for _, n := range v.Nodes {
		if n.Role == nodes.Controller && n.Name != self && !n.Ready {
			return fmt.Sprintf("controller %s is not Ready: %s", n.Name, n.Reason)
		}
	}
	if voters := countVoters(v); voters != others+1 {
		return fmt.Sprintf("etcd has %d members, but %d controllers have joined", voters, others+1)
	}
	return ""
}

func countVoters(v nodes.ClusterView) (n int) {
	for _, m := range v.Etcd {
		if !m.Learner {
			n++
		}
	}
	return n
}
