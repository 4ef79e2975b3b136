// Package entry owns the steps by which a host enters a cluster and lets others
// in: the admission, what is kept of the bundle, the agent. It refuses to know
// how the cluster is asked.
package entry

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/step"
)

// Door is the way into a cluster that is there.
type Door interface {
	// Admit gives k0s's own join token, and further files of a node by path.
	// It waits while the cluster is busy, and reports that.
	Admit(ctx context.Context, report step.Report) (token []byte, files map[string][]byte, err error)
}

// Way is how a worker reaches the API before and after it is a node.
type Way struct {
	Files  []string               // that Seed may write
	Needed func() (string, error) // why Seed is needed; "" when it is not
	Seed   func() error           // tells the node's balancer its first controllers
}

// Prepare has the node know the controllers; nil for a host that is one.
func (w *Way) Prepare() []step.Step {
	if w == nil {
		return nil
	}
	return []step.Step{{ID: "controllers", Title: "Remember the cluster's controllers", Touches: w.Files,
		Check: func(context.Context) (step.State, error) {
			return look(w.Needed())
		},
		Apply: func(context.Context, step.Report) error { return w.Seed() },
	}}
}

// Admission is how a host is let in.
type Admission struct {
	Host host.Host
	K0s  k0s.Service
	Door Door
	Now  func() time.Time
}

// tokenLife is how long an unused k0s token is trusted to be good: less than
// the cluster gives it.
const tokenLife = 10 * time.Minute

// Ask has the cluster let this host in. A host that is a member needs no
// token any more. A controller that is none asks in each run: what an attempt
// that died has left in etcd goes when it is let in.
func (a Admission) Ask() step.Step {
	asked := false
	return step.Step{ID: "admission", Title: "Ask the cluster to be let in", Touches: []string{k0s.TokenPath, k0s.RegistryDir, k0s.EtcdMember},
		Check: func(context.Context) (step.State, error) {
			if a.K0s.Joined() {
				return step.Done(), nil
			}
			info, err := a.Host.Lstat(k0s.TokenPath)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return step.Needed("this host has no token of k0s's"), nil
			case err != nil:
				return step.State{}, err
			case a.Now().After(info.ModTime().Add(tokenLife)):
				return step.Needed("the token of k0s's is too old"), nil
			case !a.K0s.Worker && !asked:
				return step.Needed("this host has a token, and is no member of etcd"), nil
			}
			return step.Done(), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			joined, err := a.K0s.Settle(ctx, report)
			if err != nil || joined {
				return err
			}
			token, files, err := a.Door.Admit(ctx, report)
			if err != nil {
				return err
			}
			for _, p := range slices.Sorted(maps.Keys(files)) {
				if err := a.Host.Write(p, bytes.NewReader(files[p]), 0o644); err != nil {
					return err
				}
			}
			asked = true
			return a.Host.Write(k0s.TokenPath, bytes.NewReader(token), 0o600)
		},
	}
}

// Forget removes k0s's token once the host is a member: k0s does not read
// it again.
func (a Admission) Forget() step.Step {
	return step.Step{ID: "forget-token", Title: "Forget the token", Touches: []string{k0s.TokenPath},
		Check: func(context.Context) (step.State, error) {
			if _, err := a.Host.Lstat(k0s.TokenPath); errors.Is(err, fs.ErrNotExist) {
				return step.Done(), nil
			}
			return step.Needed("it lies in " + k0s.TokenPath), nil
		},
		Apply: func(context.Context, step.Report) error { return a.Host.RemoveAll(k0s.TokenPath) },
	}
}

// Kept is what a node keeps of the bundle, besides what runs from it.
type Kept struct {
	Dir   string
	Files map[string][]byte // by path below Dir
}

// Keep keeps the bundle's documents: with the images and programs that
// the node holds anyway they are all that another host needs.
func (k Kept) Keep(h host.Host) step.Step {
	paths := slices.Sorted(maps.Keys(k.Files))
	return step.Step{ID: "keep-bundle", Title: "Keep the bundle's index", Touches: []string{k.Dir},
		Check: func(context.Context) (step.State, error) {
			for _, p := range paths {
				have, err := h.ReadFile(path.Join(k.Dir, p))
				if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(have, k.Files[p]) {
					return step.Needed(path.Join(k.Dir, p) + " is not as wanted"), nil
				}
				if err != nil {
					return step.State{}, err
				}
			}
			return step.Done(), nil
		},
		Apply: func(context.Context, step.Report) error {
			for _, p := range paths {
				if err := h.Write(path.Join(k.Dir, p), bytes.NewReader(k.Files[p]), 0o600); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// Agent starts Plinth's agent from binary.
func Agent(h host.Host, binary, dataDir string) step.Step {
	unit := node.AgentService(h, binary, dataDir)
	return step.Step{ID: "agent", Title: "Start Plinth's agent", Touches: []string{unit.Path(), node.AgentUnit},
		Check: func(ctx context.Context) (step.State, error) {
			return look(unit.Needed(ctx))
		},
		Apply: func(ctx context.Context, _ step.Report) error { return unit.Apply(ctx) },
	}
}
