package reset

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/host/hosttest/sim"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/loadbalancer"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
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

// admitAll admits every host, with the same certificates: each state that a run leaves has to be
// the same as that of another run which came as far.
type admitAll struct{ issued }

func (a admitAll) Admit(context.Context, step.Report) (plan.Admission, error) {
	admitted := plan.Admission{Identity: a.identity, Kubelet: a.kubelet, Files: map[string][]byte{k0s.RegistryDir + "/registry/hosts.toml": []byte("server")}}
	if a.id.Role == token.Controller {
		admitted.K0sToken, admitted.EncryptionKeys = []byte("token"), a.encryption
	}
	return admitted, nil
}

// issued is what a cluster has issued for the simulated host.
type issued struct {
	id       nodecert.Identity
	ca       pki.Pair
	identity node.Identity
	kubelet  k0s.KubeletIdentity

	encryption []k0s.EncryptionKey
}

// newIssued returns new certificates of a node with the role.
func newIssued(t *testing.T, role string) (i issued) {
	t.Helper()
	i.id = nodecert.Identity{Node: "n1", UID: "uid", Role: role, Address: "10.0.0.5"}
	i.encryption = []k0s.EncryptionKey{{Name: "key1", Secret: bytes.Repeat([]byte("k"), 32)}}
	var err error
	i.ca, err = pki.NewClusterCA(sim.Now())
	testkit.Must(t, err)
	i.identity, err = node.NewIdentity(sim.Now())
	testkit.Must(t, err)
	i.identity, err = i.identity.Issue(i.id, i.ca, sim.Now())
	testkit.Must(t, err)
	i.kubelet = k0s.KubeletIdentity{Node: i.id.Node, CA: i.ca.Cert}
	issue := func(kind nodecert.Kind) (cert, key []byte) {
		request, key, err := plan.NewKeyAndRequest(kind, i.id)
		testkit.Must(t, err)
		cert, err = nodecert.Sign(kind, i.id, request, i.ca, sim.Now())
		testkit.Must(t, err)
		return cert, key
	}
	i.kubelet.ClientCert, i.kubelet.ClientKey = issue(nodecert.KubeletClient)
	i.kubelet.ServingCert, i.kubelet.ServingKey = issue(nodecert.KubeletServing)
	return i
}

// identityStep returns the step identity of an install, s, with the same keys and certificates in
// each run. It writes them as the real one does.
func (i issued) identityStep(s step.Step, h k0s.Machine) step.Step {
	s.Apply = func(context.Context, step.Report) error {
		why, err := k0s.CANeeded(h)
		if err == nil && why != "" {
			err = k0s.PlaceCA(h, i.ca)
		}
		if err != nil {
			return err
		}
		if why, err = k0s.EncryptionKeysNeeded(h); err == nil && why != "" {
			err = k0s.WriteEncryptionKeys(h, i.encryption)
		}
		if err != nil {
			return err
		}
		if err := i.identity.Write(h, dataDir); err != nil {
			return err
		}
		return k0s.PlaceKubeletIdentity(h, i.kubelet, sim.Now())
	}
	return s
}

// steps returns the real steps of the scenario. The steps that need a real cluster are
// simulated: each starts a pod.
func (s *simulation) steps(env *action.Env, m *sim.Machine, j *journal.Journal) []step.Step {
	joins := s.scenario.verb == "join"
	service := k0s.Service{Host: env.Host, Settings: k0s.NewSettings(s.in, "10.0.0.5", "n1"), Worker: s.scenario.worker, JoinsCluster: joins}
	c := plan.Cluster{Host: env.Host, StateStore: j, Now: env.Now, DataDir: dataDir, NodeName: "n1", AddOns: s.parts, K0s: service,
		K0sFile: fakeProgram(k0s.BinaryPath), ProgramFile: fakeProgram(node.ProgramPath), CleanupScope: env.CleanupScope(), Console: plan.Console{Namespace: "kotsadm", App: &kots.App{}}}
	if !s.scenario.worker {
		c.KotsFile = fakeProgram(kots.BinaryPath)
		c.BackupTimer = node.NewBackupTimer(node.AgentBinary, dataDir, node.BackupSchedule{Calendar: "daily", To: "/mnt/backup", Keep: 1})
	}
	steps := plan.Install(c)
	if joins {
		c.AgentFile = fakeProgram(node.AgentBinary)
		c.BundleCache = plan.BundleCache{Dir: dataDir + "/bundle", Files: map[string][]byte{"index.json": []byte("{}")}}
		steps = plan.Join(c, admitAll{s.issued}, s.apiAccess(env))
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
	realSteps := []string{"kots-binary", "forget-token", plan.BackupScheduleID}
	simulated := []string{"images-boot", "console", "kotsadm-ha"}
	up := slices.IndexFunc(steps, func(s step.Step) bool { return s.ID == "k0s-start" })
	all := slices.Clone(steps[:up+1])
	if own := slices.IndexFunc(all, func(s step.Step) bool { return s.ID == "identity" }); own >= 0 {
		all[own] = s.issued.identityStep(all[own], service.Host)
	}
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
		if why, err := service.DownReason(ctx); err != nil || why != "" {
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
