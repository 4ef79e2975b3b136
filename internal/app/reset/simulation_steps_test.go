package reset

import (
	"context"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/app/gateway"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/host/hosttest/machine"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/plan/entry"
	"github.com/plinthdev/plinth/internal/step"
)

// way is one by which a host becomes a node.
type way struct {
	verb   string
	worker bool
}

func (w way) String() string {
	switch {
	case w.worker:
		return w.verb + " of a worker"
	case w.verb == "join":
		return w.verb + " of a controller"
	}
	return w.verb
}

// ways lists them all.
func ways() []way { return []way{{verb: "install"}, {verb: "join", worker: true}, {verb: "join"}} }

// porter lets everybody in.
type porter struct{}

func (porter) Admit(context.Context, step.Report) ([]byte, map[string][]byte, error) {
	return []byte("token"), map[string][]byte{k0s.RegistryDir + "/registry/hosts.toml": []byte("server")}, nil
}

// steps is the real list of the verb, in which the steps that need a real
// cluster are played: each starts a pod.
func (s *sim) steps(r *run.Run, m *machine.Machine, j *journal.Journal) []step.Step {
	joins := s.way.verb == "join"
	service := k0s.Service{Host: r.Host, Settings: k0s.SettingsFor(s.in, "10.0.0.5", "n1"), Worker: s.way.worker, Joins: joins}
	c := plan.Cluster{Host: r.Host, Memory: j, Now: r.Now, DataDir: dataDir, Node: "n1", AddOns: s.parts, K0s: service,
		K0sFile: program(k0s.Binary), Leftover: r.Leftover(), Console: plan.Console{Namespace: "kotsadm", App: &kots.App{}}}
	if !s.way.worker {
		c.KotsFile = program(kots.Binary)
	}
	steps := plan.Install(c)
	if joins {
		c.Agent = program(node.AgentBinary)
		c.Kept = entry.Kept{Dir: dataDir + "/bundle", Files: map[string][]byte{"index.json": []byte("{}")}}
		steps = plan.Join(c, porter{}, s.toAPI(r))
	}
	return s.played(steps, service, m)
}

// toAPI is a worker's way to the API; nil for a controller.
func (s *sim) toAPI(r *run.Run) *entry.Way {
	if !s.way.worker {
		return nil
	}
	return &entry.Way{Files: gateway.Files(dataDir),
		Needed: func() (string, error) { return gateway.SeedNeeded(r.Host, dataDir) },
		Seed: func() error {
			return gateway.Seed(r.Host, dataDir, []byte("authority"), []netip.Addr{netip.MustParseAddr("10.0.0.1")})
		}}
}

// played is steps in which some of those after the start of k0s are played and
// the others that need it left out, which would be more of the same.
func (s *sim) played(steps []step.Step, service k0s.Service, m *machine.Machine) []step.Step {
	real := []string{"kots-binary", "forget-token"}
	played := []string{"images-boot", "console", "console-copies"}
	up := slices.IndexFunc(steps, func(s step.Step) bool { return s.ID == "k0s-start" })
	all := slices.Clone(steps[:up+1])
	for _, later := range steps[up+1:] {
		if slices.Contains(played, later.ID) {
			later = pod(later, service, m)
		} else if !slices.Contains(real, later.ID) {
			continue
		}
		all = append(all, later)
	}
	return all
}

// pod is a step that starts a pod.
func pod(s step.Step, service k0s.Service, m *machine.Machine) step.Step {
	s.Check = func(ctx context.Context) (step.State, error) {
		if why, err := service.StartNeeded(ctx); err != nil || why != "" {
			return step.Unknown("k0s-start"), err
		}
		if !m.HasPod(s.ID) {
			return step.Needed("the pod is not there"), nil
		}
		return step.Done(), nil
	}
	s.Apply = func(_ context.Context, report step.Report) error {
		report("starting", 0, 0)
		m.Pod(s.ID)
		return nil
	}
	return s
}

// program is a file of the bundle that takes more than one write.
func program(path string) node.Artifact {
	content := strings.Repeat(path+"\n", 300)
	return node.Artifact{Path: path, Mode: 0o755, Size: int64(len(content)), Digest: digest.FromString(content),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }}
}
