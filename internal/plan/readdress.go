package plan

import (
	"context"
	"fmt"
	"time"

	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/wait"
)

// Readdressing is the change of the address of the only controller of a cluster.
type Readdressing struct {
	Etcd func() (EtcdMembers, error) // nil for the etcd on this host
}

// EtcdMembers are the members of an etcd.
type EtcdMembers interface {
	Members(ctx context.Context) ([]etcd.Member, error)
	// SetPeerAddress tells the members at which IP address the others reach the one with this id.
	SetPeerAddress(ctx context.Context, id, address string) error
}

// readdress is the change of the address of one controller.
type readdress struct {
	Cluster
	Readdressing
}

// Readdress returns the steps that move the only controller of a cluster to the address of c. They first stop all pods on
// the host, which have read the former address, then run the steps of Install whose result depends on it, and wait for the
// pods. etcd keeps its data: its only member starts alone, and learns its new address when it runs. The pods of other nodes
// do not count: workers do not know the new address yet.
func Readdress(c Cluster, r Readdressing) []step.Step {
	c.OnlyNode = true
	a := readdress{c, r}
	if a.Etcd == nil {
		a.Etcd = func() (EtcdMembers, error) { return etcd.New(c.Host) }
	}
	steps := append(a.stop(),
		c.writeK0sConfig(),
		retitled(c.createIdentity(), "Issue the node's certificates for the new address"),
		c.registerK0s(),
		c.startK0s(),
		a.updateEtcd(),
		retitled(c.applyNodePolicies(), "Record the new address in the cluster"),
		a.waitNode(),
		c.waitPodsStartedAfter("repair-restarted", "k0s-start", c.K0s.UnitPath()),
		c.waitSystemPodsReady(),
	)
	if c.Console.URL != "" {
		steps = append(steps, c.ensureConsoleCertificate(c.K0s.Settings.Address), c.waitConsole(5*time.Minute)) // its database starts, too
	}
	return steps
}

// retitled returns s with a title that fits its purpose in another list.
func retitled(s step.Step, title string) step.Step {
	s.Title = title
	return s
}

// stop returns the steps that stop k0s and end the pods, which read the address only when they start. They are done once the
// unit of k0s has the new address: k0s and the pods that run then were started after that.
func (a readdress) stop() []step.Step {
	isDone := func() (bool, error) {
		why, err := a.K0s.RegisterNeeded()
		return why == "", err
	}
	return a.stopSteps(isDone, "repair-stop", "repair-pods")
}

// updateEtcd returns the step that tells etcd the address of its only member. k0s does not do it: etcd reads the address
// in its flags only when it has no data.
func (a readdress) updateEtcd() step.Step {
	return step.Step{ID: "etcd-address", Title: "Tell etcd the new address", Affects: []string{"the member of etcd"},
		Check: func(ctx context.Context) (step.State, error) {
			if why, err := a.K0s.DownReason(ctx); err != nil || why != "" {
				return step.Unknown("k0s-start"), err
			}
			_, m, err := a.onlyMember(ctx)
			if err != nil {
				return step.Needed(err.Error()), ctx.Err()
			}
			return stepState(a.memberReason(m), nil)
		},
		Apply: func(ctx context.Context, report step.Report) error {
			return wait.Until(ctx, wait.Options{What: "etcd to learn the new address", Timeout: 4 * time.Minute, Diagnose: a.K0s.Diagnose,
				NextCommand: "sudo journalctl -u " + a.K0s.Unit(), OnReason: func(reason string) { report(reason, 0, 0) }},
				func(ctx context.Context) (bool, string, error) {
					members, m, err := a.onlyMember(ctx)
					switch {
					case err != nil:
						return false, err.Error(), nil
					case a.memberReason(m) == "":
						return true, "", nil
					case !m.Leader:
						return false, "etcd has no leader yet", nil
					}
					if err := members.SetPeerAddress(ctx, m.ID, a.K0s.Settings.Address); err != nil {
						return false, err.Error(), nil
					}
					return true, "", nil
				})
		},
	}
}

// onlyMember returns the only member of etcd. Several are an error.
func (a readdress) onlyMember(ctx context.Context) (members EtcdMembers, m etcd.Member, err error) {
	if members, err = a.Etcd(); err != nil {
		return nil, m, err
	}
	all, err := members.Members(ctx)
	switch {
	case err != nil:
		return nil, m, fmt.Errorf("etcd does not answer: %w", err)
	case len(all) != 1:
		return nil, m, fmt.Errorf("etcd has %d members", len(all))
	}
	return members, all[0], nil
}

// memberReason returns why etcd must be told the address of its member m, or "".
func (a readdress) memberReason(m etcd.Member) string {
	if m.Address == a.K0s.Settings.Address {
		return ""
	}
	return "etcd knows its member by the address " + m.Address
}

// waitNode returns the step that waits until the node is Ready at its new address. A kubelet that reports this address runs
// with the new configuration, so its Ready condition is not one from before the repair.
func (a readdress) waitNode() step.Step {
	why := func(ctx context.Context) (string, error) {
		client, err := a.kubeClient(ctx)
		if err != nil {
			return "", err
		}
		n, err := client.Node(ctx, a.NodeName)
		switch {
		case err != nil:
			return "", err
		case n.Address != a.K0s.Settings.Address:
			return "kubelet still reports the address " + n.Address, nil
		case !n.Ready:
			return "node " + a.NodeName + " is not Ready: " + n.Reason, nil
		}
		return "", nil
	}
	return step.Step{ID: "node-address", Title: "Wait for the node to be Ready at the new address",
		Check: func(ctx context.Context) (step.State, error) {
			reason, err := why(ctx)
			if err != nil {
				return step.Unknown("k0s-start"), ctx.Err()
			}
			return stepState(reason, nil)
		},
		Apply: func(ctx context.Context, report step.Report) error {
			return wait.Until(ctx, wait.Options{What: "node " + a.NodeName + " to be Ready at " + a.K0s.Settings.Address, Timeout: 5 * time.Minute, Diagnose: a.K0s.Diagnose,
				NextCommand: "sudo plinth kubectl describe node " + a.NodeName, OnReason: func(reason string) { report(reason, 0, 0) }},
				func(ctx context.Context) (bool, string, error) {
					reason, err := why(ctx)
					if err != nil {
						return false, err.Error(), nil
					}
					return reason == "", reason, nil
				})
		},
	}
}
