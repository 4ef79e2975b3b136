package reset

import (
	"context"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/host/hosttest/sim"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/loadbalancer"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/step"
)

// scenario is a command by which a host becomes a node.
type scenario struct {
	verb   string
	worker bool
}

func (w scenario) String() string {
	switch {
	case w.worker:
		return w.verb + " of a worker"
	case w.verb == "join":
		return w.verb + " of a controller"
	}
	return w.verb
}

// scenarios lists all scenarios.
func scenarios() []scenario {
	return []scenario{{verb: "install"}, {verb: "join", worker: true}, {verb: "join"}}
}

// admitAll admits every host.
type admitAll struct{}

func (admitAll) Admit(context.Context, step.Report) ([]byte, map[string][]byte, error) {
	return []byte("token"), map[string][]byte{k0s.RegistryDir + "/registry/hosts.toml": []byte("server")}, nil
}

// steps returns the real steps of the scenario. The steps that need a real cluster are
// simulated: each starts a pod.
func (s *simulation) steps(env *action.Env, m *sim.Machine, j *journal.Journal) []step.Step {
	joins := s.scenario.verb == "join"
	service := k0s.Service{Host: env.Host, Settings: k0s.NewSettings(s.in, "10.0.0.5", "n1"), Worker: s.scenario.worker, JoinsCluster: joins}
	c := plan.Cluster{Host: env.Host, StateStore: j, Now: env.Now, DataDir: dataDir, NodeName: "n1", AddOns: s.parts, K0s: service,
		K0sFile: fakeProgram(k0s.BinaryPath), CleanupScope: env.CleanupScope(), Console: plan.Console{Namespace: "kotsadm", App: &kots.App{}}}
	if !s.scenario.worker {
		c.KotsFile = fakeProgram(kots.BinaryPath)
	}
	steps := plan.Install(c)
	if joins {
		c.AgentFile = fakeProgram(node.AgentBinary)
		c.BundleCache = plan.BundleCache{Dir: dataDir + "/bundle", Files: map[string][]byte{"index.json": []byte("{}")}}
		steps = plan.Join(c, admitAll{}, s.apiAccess(env))
	}
	return s.simulateSteps(steps, service, m)
}

// apiAccess returns the access of a worker to the Kubernetes API; nil for a controller.
func (s *simulation) apiAccess(env *action.Env) *plan.APIAccess {
	if !s.scenario.worker {
		return nil
	}
	return &plan.APIAccess{Files: loadbalancer.SeedFiles(dataDir),
		CheckSeed: func() (string, error) { return loadbalancer.SeedNeeded(env.Host, dataDir) },
		Seed: func() error {
			return loadbalancer.SeedControllers(env.Host, dataDir, []byte("authority"), []netip.Addr{netip.MustParseAddr("10.0.0.1")})
		}}
}

// simulateSteps returns steps in which some of those after the start of k0s are simulated.
// The others that need k0s are left out, because they would show nothing new.
func (s *simulation) simulateSteps(steps []step.Step, service k0s.Service, m *sim.Machine) []step.Step {
	realSteps := []string{"kots-binary", "forget-token"}
	simulated := []string{"images-boot", "console", "kotsadm-ha"}
	up := slices.IndexFunc(steps, func(s step.Step) bool { return s.ID == "k0s-start" })
	all := slices.Clone(steps[:up+1])
	for _, later := range steps[up+1:] {
		if slices.Contains(simulated, later.ID) {
			later = podStep(later, service, m)
		} else if !slices.Contains(realSteps, later.ID) {
			continue
		}
		all = append(all, later)
	}
	return all
}

// podStep returns s as a step that starts a pod.
func podStep(s step.Step, service k0s.Service, m *sim.Machine) step.Step {
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
		m.StartPod(s.ID)
		return nil
	}
	return s
}

// fakeProgram returns a file of the bundle that takes more than one write.
func fakeProgram(path string) node.Artifact {
	content := strings.Repeat(path+"\n", 300)
	return node.Artifact{Path: path, Mode: 0o755, Size: int64(len(content)), Digest: digest.FromString(content),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }}
}
