package plan

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/step"
)

// Admission is what a host needs to become a node. Paths are not part of it: a server that answers as the
// cluster must not choose the files that are written.
type Admission struct {
	Identity node.Identity       // of the agent
	Kubelet  k0s.KubeletIdentity // certificates of the kubelet
	K0sToken []byte              // with which k0s on a controller gets the cluster's keys; nil for a worker; secret
	// EncryptionKeys encrypt Secrets in etcd; nil for a worker; secret.
	EncryptionKeys []k0s.EncryptionKey
	Files          map[string][]byte // files that make containerd trust the built-in registry, by path
}

// Admitter requests the admission of this host to an existing cluster.
type Admitter interface {
	// Admit returns the admission. It waits and reports that while the cluster is busy.
	Admit(ctx context.Context, report step.Report) (Admission, error)
}

// APIAccess is how a worker reaches the API servers before and after it is a node.
type APIAccess struct {
	Files     []string               // that Seed may write
	CheckSeed func() (string, error) // returns why Seed is needed, or ""
	Seed      func() error           // configures the first controllers of the node's load balancer
}

// seedSteps returns the step that stores the addresses of the controllers, or nil if w is nil, for a controller.
func (w *APIAccess) seedSteps() []step.Step {
	if w == nil {
		return nil
	}
	return []step.Step{{ID: "controllers", Title: "Remember the cluster's controllers", Affects: w.Files,
		Check: func(context.Context) (step.State, error) {
			return stepState(w.CheckSeed())
		},
		Apply: func(context.Context, step.Report) error { return w.Seed() },
	}}
}

// admission creates the steps that request the admission to the cluster and remove what only the join
// needs of it.
type admission struct {
	Host     host.Host
	DataDir  string
	K0s      k0s.Service
	Admitter Admitter
	Now      func() time.Time
}

// requestStep returns the step that requests admission to the cluster. A host that has already joined
// does not need it. A controller that has not joined requests it in each run, because the admission
// also removes the etcd member of an earlier attempt that died, and gives it the lock of the one that joins.
func (a admission) requestStep() step.Step {
	requested := false
	return step.Step{ID: "request-join", Title: "Request admission to the cluster",
		Affects: []string{node.IdentityPath(a.DataDir), k0s.TokenPath, k0s.RegistryDir, k0s.DataDir},
		Check: func(context.Context) (step.State, error) {
			switch why, err := k0s.KubeletIdentityNeeded(a.Host); {
			case err != nil:
				return step.State{}, err
			case why != "":
				return step.Needed(why), nil
			case !a.K0s.Worker && !a.K0s.Joined() && !requested:
				return step.Needed("this host is not a member of etcd"), nil
			}
			return step.Done(), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			joined, err := a.K0s.ResetFailedJoin(ctx, report)
			if err != nil {
				return err
			}
			if why, err := k0s.KubeletIdentityNeeded(a.Host); joined && why == "" {
				return err
			}
			admitted, err := a.Admitter.Admit(ctx, report)
			if err != nil {
				return err
			}
			requested = true
			return a.store(admitted)
		},
	}
}

// store writes what the cluster has issued for this host. The kubelet's kubeconfig comes last: with it,
// the host is admitted.
func (a admission) store(admitted Admission) error {
	if err := admitted.Identity.Write(a.Host, a.DataDir); err != nil {
		return err
	}
	for _, p := range slices.Sorted(maps.Keys(admitted.Files)) {
		if err := a.Host.Write(p, bytes.NewReader(admitted.Files[p]), 0o644); err != nil {
			return err
		}
	}
	if len(admitted.EncryptionKeys) > 0 {
		if err := k0s.WriteEncryptionKeys(a.Host, admitted.EncryptionKeys); err != nil {
			return err
		}
	}
	if len(admitted.K0sToken) > 0 {
		if err := a.Host.Write(k0s.TokenPath, bytes.NewReader(admitted.K0sToken), 0o600); err != nil {
			return err
		}
	}
	return k0s.PlaceKubeletIdentity(a.Host, admitted.Kubelet, a.Now())
}

// removeTokenStep returns the step that removes the token of k0s after the host has joined. k0s does not
// read it again.
func (a admission) removeTokenStep() step.Step {
	return step.Step{ID: "forget-token", Title: "Delete the token", Affects: []string{k0s.TokenPath},
		Check: func(context.Context) (step.State, error) {
			if _, err := a.Host.Lstat(k0s.TokenPath); errors.Is(err, fs.ErrNotExist) {
				return step.Done(), nil
			}
			return step.Needed("the token is stored in " + k0s.TokenPath), nil
		},
		Apply: func(context.Context, step.Report) error { return a.Host.RemoveAll(k0s.TokenPath) },
	}
}
