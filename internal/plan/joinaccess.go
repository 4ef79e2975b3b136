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
	"github.com/plinthdev/plinth/internal/step"
)

// Admitter requests the admission of this host to an existing cluster.
type Admitter interface {
	// Admit returns the join token of k0s, and additional files of the node by path.
	// It waits and reports that while the cluster is busy.
	Admit(ctx context.Context, report step.Report) (token []byte, files map[string][]byte, err error)
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

// joinToken creates the steps that request and remove the join token of k0s.
type joinToken struct {
	Host     host.Host
	K0s      k0s.Service
	Admitter Admitter
	Now      func() time.Time
}

// maxTokenAge is the age up to which an unused k0s token is used. It is less than the lifetime
// that the cluster gives the token.
const maxTokenAge = 10 * time.Minute

// requestStep returns the step that requests admission to the cluster. A host that has already joined
// does not need a token. A controller that has not joined requests one in each run, because the admission
// also removes the etcd member of an earlier attempt that died.
func (a joinToken) requestStep() step.Step {
	requested := false
	return step.Step{ID: "request-join", Title: "Ask the cluster to be let in", Affects: []string{k0s.TokenPath, k0s.RegistryDir, k0s.EtcdMemberDir},
		Check: func(context.Context) (step.State, error) {
			if a.K0s.Joined() {
				return step.Done(), nil
			}
			info, err := a.Host.Lstat(k0s.TokenPath)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return step.Needed("this host has no join token of k0s"), nil
			case err != nil:
				return step.State{}, err
			case a.Now().After(info.ModTime().Add(maxTokenAge)):
				return step.Needed("the join token of k0s is too old"), nil
			case !a.K0s.Worker && !requested:
				return step.Needed("this host has a join token but is not a member of etcd"), nil
			}
			return step.Done(), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			joined, err := a.K0s.ResetFailedJoin(ctx, report)
			if err != nil || joined {
				return err
			}
			token, files, err := a.Admitter.Admit(ctx, report)
			if err != nil {
				return err
			}
			for _, p := range slices.Sorted(maps.Keys(files)) {
				if err := a.Host.Write(p, bytes.NewReader(files[p]), 0o644); err != nil {
					return err
				}
			}
			requested = true
			return a.Host.Write(k0s.TokenPath, bytes.NewReader(token), 0o600)
		},
	}
}

// removeTokenStep returns the step that removes the token after the host has joined. k0s does not read
// it again.
func (a joinToken) removeTokenStep() step.Step {
	return step.Step{ID: "forget-token", Title: "Forget the token", Affects: []string{k0s.TokenPath},
		Check: func(context.Context) (step.State, error) {
			if _, err := a.Host.Lstat(k0s.TokenPath); errors.Is(err, fs.ErrNotExist) {
				return step.Done(), nil
			}
			return step.Needed("the token is stored in " + k0s.TokenPath), nil
		},
		Apply: func(context.Context, step.Report) error { return a.Host.RemoveAll(k0s.TokenPath) },
	}
}
