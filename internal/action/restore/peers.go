package restore

import (
	"context"
	"fmt"

	format "github.com/plinthdev/plinth/internal/backup"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/ports"
)

// identifyFunc returns what listens on etcd's port at an address; ca is the authority of the cluster's etcd.
type identifyFunc func(ctx context.Context, address string, ca []byte) etcd.Peer

// peerVerdict returns why a restore must not begin, because controller n of the cluster runs or may run, or else a note about
// what answers at its address; both are "" if nothing does.
func peerVerdict(n format.Node, found etcd.Peer) (refusal, note string) {
	where := fmt.Sprintf("port %s of controller %s (%s)", ports.EtcdPeerText, n.Name, n.Address)
	switch found {
	case etcd.OwnPeer:
		return fmt.Sprintf("etcd on controller %s (%s) answers", n.Name, n.Address), ""
	case etcd.SilentPeer:
		return "a program accepts connections at " + where + " and does not say what it is: it may be the etcd of that controller, which does not answer", ""
	case etcd.ForeignPeer:
		return "", "what answers at " + where + " is of another cluster: this controller is not there any more"
	case etcd.OtherPeer:
		return "", "what answers at " + where + " is not etcd: this controller is not there any more"
	}
	return "", ""
}
