// Package plan returns the list of steps for each command that changes a host. Creating a list changes nothing.
package plan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/images"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/step"
)

// Cluster is the input of the steps: the host, the desired cluster, and the files to install.
type Cluster struct {
	Host         host.Host
	StateStore   StateStore
	DataDir      string      // data folder of Plinth
	PointerFile  string      // file that stores DataDir for later commands; "" for none
	NodeName     string      // Kubernetes node name of this host
	K0s          k0s.Service // service and its configuration
	K0sFile      node.Artifact
	KotsFile     node.Artifact    // zero if the cluster has no console
	AgentFile    node.Artifact    // this program, for the agent; zero if the node runs no agent
	ProgramFile  node.Artifact    // this program, for the PATH; zero to leave it out
	BackupTimer  node.BackupTimer // schedule of backups; without one, an earlier one is removed
	BundleCache  BundleCache      // documents of the bundle to keep on the host
	CleanupScope cleanup.Scope    // what this cluster may create on the host
	Images       Images
	Firewall     FirewallState  // rules for the firewalls of the host; zero to leave them alone
	AddOns       []addons.AddOn // in order of installation
	Console      Console
	External     *kots.Client      // of the console in a cluster that Plinth did not create; nil for the cluster on this host
	Restored     *SnapshotRestore  // what an install restores; nil for a new cluster
	Now          func() time.Time  // clock
	Warn         func(text string) // receives what failed and is tolerated; nil for none

	SkipNodes  []string                         // names of nodes that an upgrade or a rollback leaves out: their system pods do not count
	OnlyNode   bool                             // the pods of all other nodes do not count: they may be away
	APIAnswers func(ctx context.Context) string // returns why the API server does not answer, or ""; nil to ask it
}

// StateStore stores the state that a step found on the host and that reset has to restore. The journal implements it.
type StateStore interface {
	SaveState(step string, v any) error
	LoadState(step string, v any) (bool, error)
	// States returns every state that the step saved, oldest first.
	States(step string) []json.RawMessage
}

// Images are the images of the cluster: Boot are those that a node needs to become
// Ready and run the system pods, Rest are all others.
type Images struct {
	Source     images.Source
	Boot, Rest []images.Image
}

// Install returns the steps from a bare host to a running console.
func Install(c Cluster) []step.Step {
	steps := []step.Step{
		c.recordHostState(),
		c.createDataDir(),
	}
	steps = append(steps, c.programSteps()...)
	steps = append(steps, c.firewallSteps()...)
	steps = append(steps,
		c.BundleCache.storeStep(c.Host),
		c.prepareKernel(),
		c.placeK0s(),
		c.writeK0sConfig(),
		c.createIdentity(),
		c.registerK0s(),
		c.startK0s(),
		c.importImages("images-boot", "Import the images the node boots with", c.Images.Boot),
		c.waitNodeReady(),
		c.waitSystemPodsStarted(),
		c.useCoreDNSEarly(),
		// The next steps use the half minute in which the system pods run but
		// kubelet does not yet check whether they are Ready.
		c.importImages("images-rest", "Import the images of the add-ons", c.Images.Rest),
	)
	if c.KotsFile.Path != "" {
		steps = append(steps, c.placeFile("kots-binary", "Put the kots CLI in place", c.KotsFile))
	}
	steps = append(steps, c.applyNodePolicies(), c.secureNamespaces())
	// Storage, the registry and the console start while kubelet does not check yet whether CoreDNS is Ready. Of the vendor's
	// charts, and of what comes after them, nothing is known.
	all := c.addOnSteps()
	late := slices.IndexFunc(all, func(s step.Step) bool {
		return s.ID == ApplicationID || slices.ContainsFunc(c.AddOns, func(a addons.AddOn) bool { return a.External && s.ID == stepID(a) })
	})
	if late < 0 {
		late = len(all)
	}
	for i := range all[:late] {
		all[i] = c.namingSystemPods(all[i])
	}
	steps = append(append(steps, slices.Insert(all, late, c.waitSystemPodsReady(), c.useCoreDNSWhenReady())...), c.agentSteps()...)
	return append(steps, c.scheduleSteps()...)
}

// RecordHostStateID is the id of the step that saves the state of the host before the first change,
// which reset restores.
const RecordHostStateID = "record-host"

func (c Cluster) recordHostState() step.Step {
	return step.Step{ID: RecordHostStateID, Title: "Remember what stands on this host", Affects: []string{c.DataDir},
		Check: func(context.Context) (step.State, error) {
			known, err := c.StateStore.LoadState(RecordHostStateID, &cleanup.HostState{})
			if err != nil || known {
				return step.Done(), err
			}
			return step.Needed("the state of the host is not recorded"), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error {
			before, err := node.RecordHostState(ctx, c.Host, c.CleanupScope, c.DataDir)
			if err != nil {
				return err
			}
			return c.StateStore.SaveState(RecordHostStateID, before)
		},
	}
}

func (c Cluster) createDataDir() step.Step {
	dir := node.DataDir{Path: c.DataDir, Pointer: c.PointerFile}
	return step.Step{ID: "data-dir", Title: "Make Plinth's data folder", Affects: dir.Paths(),
		Check: func(context.Context) (step.State, error) { return stepState(dir.Check(c.Host)) },
		Apply: func(ctx context.Context, _ step.Report) error { return dir.Apply(ctx, c.Host) },
	}
}

func (c Cluster) prepareKernel() step.Step {
	k := node.DefaultKernel(c.Host)
	touches := []string{cleanup.ModulesFile, cleanup.SysctlFile}
	for _, s := range k.Sysctls {
		touches = append(touches, "sysctl:"+s.Key)
	}
	return step.Step{ID: "kernel", Title: "Prepare the kernel", Affects: touches,
		Check: func(ctx context.Context) (step.State, error) { return stepState(k.Check(ctx)) },
		Apply: func(ctx context.Context, _ step.Report) error { return k.Apply(ctx) },
	}
}

func (c Cluster) placeFile(id, title string, f node.Artifact) step.Step {
	return fileStep(c.Host, id, title, f)
}

// placeK0s returns the step that writes the program k0s. A k0s that runs the earlier one is restarted
// by the step that starts it.
func (c Cluster) placeK0s() step.Step {
	s := c.placeFile("k0s-binary", "Put k0s in place", c.K0sFile)
	write := s.Apply
	s.Apply = func(ctx context.Context, report step.Report) error {
		if err := c.K0s.RequireRestart(ctx); err != nil {
			return err
		}
		return write(ctx, report)
	}
	return s
}

func (c Cluster) writeK0sConfig() step.Step {
	return step.Step{ID: "k0s-config", Title: "Write k0s's configuration", Affects: c.K0s.ConfigPaths(),
		Check: func(context.Context) (step.State, error) { return stepState(c.K0s.ConfigNeeded()) },
		Apply: func(ctx context.Context, _ step.Report) error { return c.K0s.WriteConfig(ctx) },
	}
}

// createIdentity returns the step that makes the first host of a cluster a node: it creates the cluster's
// authority and the key that encrypts Secrets in etcd, and signs the host's certificates before k0s starts,
// because nothing else may sign them.
func (c Cluster) createIdentity() step.Step {
	i := clusterIdentity{c}
	return step.Step{ID: "identity", Title: "Create the cluster's authority and the node's certificates",
		Affects: []string{node.IdentityPath(c.DataDir), k0s.DataDir},
		Check:   func(context.Context) (step.State, error) { return stepState(i.needed()) },
		Apply:   func(context.Context, step.Report) error { return i.create() },
	}
}

func (c Cluster) registerK0s() step.Step {
	return step.Step{ID: "k0s-service", Title: "Register k0s with systemd", Affects: []string{"users of k0s", c.K0s.UnitPath()},
		Check: func(context.Context) (step.State, error) { return stepState(c.K0s.RegisterNeeded()) },
		Apply: func(ctx context.Context, _ step.Report) error {
			if !c.K0s.Worker {
				if err := node.AddUsersBesideGroups(ctx, c.Host, k0s.DataDir); err != nil {
					return err
				}
			}
			return c.K0s.Register(ctx)
		},
	}
}

func (c Cluster) startK0s() step.Step {
	return step.Step{ID: "k0s-start", Title: "Start k0s", Affects: []string{k0s.DataDir, "/run/k0s", c.K0s.Unit()},
		Check: func(ctx context.Context) (step.State, error) { return stepState(c.K0s.StartNeeded(ctx)) },
		Apply: func(ctx context.Context, _ step.Report) error { return c.K0s.Start(ctx) },
	}
}

func (c Cluster) importImages(id, title string, want []images.Image) step.Step {
	return step.Step{ID: id, Title: title, Affects: []string{k0s.DataDir + "/containerd"},
		Check: func(ctx context.Context) (step.State, error) {
			if why, err := c.K0s.DownReason(ctx); err != nil || why != "" {
				return step.Unknown("k0s-start"), nil
			}
			store, err := images.Open(ctx, k0s.ContainerdSocket, c.Host, 5*time.Second, c.K0s.Diagnose) // on a busy host containerd takes seconds to answer
			if err != nil {
				return step.Needed(err.Error()), ctx.Err()
			}
			defer func() { _ = store.Close() }()
			missing, err := store.MissingImages(ctx, want)
			switch {
			case err != nil:
				return step.Needed(err.Error()), ctx.Err()
			case len(missing) == 0:
				return step.Done(), nil
			}
			return step.Needed(missing[0].Ref + " is not in containerd" + moreSuffix(len(missing)-1)), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			report("waiting for containerd", 0, 0)
			store, err := c.openImageStore(ctx, 3*time.Minute)
			if err != nil {
				return c.explainDown(ctx, err)
			}
			defer func() { _ = store.Close() }()
			missing, err := store.MissingImages(ctx, want)
			if err != nil {
				return err
			}
			return store.Import(ctx, c.Images.Source, missing, images.DefaultParallelism, report)
		},
	}
}

// openImageStore opens the image store of containerd. It checks first whether k0s is running, because
// waiting for the socket of a stopped containerd takes the whole timeout.
func (c Cluster) openImageStore(ctx context.Context, timeout time.Duration) (*images.Store, error) {
	if why, err := c.K0s.DownReason(ctx); err != nil || why != "" {
		return nil, errors.Join(err, errors.New(why))
	}
	return images.Open(ctx, k0s.ContainerdSocket, c.Host, timeout, c.K0s.Diagnose)
}

// explainDown returns err or, if k0s does not run, the last error in its log, which is the cause.
func (c Cluster) explainDown(ctx context.Context, err error) error {
	if why, _ := c.K0s.DownReason(ctx); why != "" {
		return downError{c.K0s, c.K0s.Diagnose(ctx)}
	}
	return err
}

// downError says why k0s does not run. Its hint names the command that shows more.
type downError struct {
	k0s   k0s.Service
	cause string
}

// Error returns the cause.
func (e downError) Error() string { return e.cause }

// Hint returns the command that shows the log.
func (e downError) Hint() string { return "to see more: sudo journalctl -u " + e.k0s.Unit() }

// trustID is the id of the step after which only admitted hosts act as nodes.
const trustID = "trust"

// applyNodePolicies returns the step that records the first host as an admitted controller and lets only admitted
// hosts act as nodes.
func (c Cluster) applyNodePolicies() step.Step {
	i := clusterIdentity{c}
	return step.Step{ID: trustID, Title: "Let only admitted hosts act as nodes", Affects: []string{"ConfigMap plinth-nodes", "ValidatingAdmissionPolicies plinth-node-* and plinth-kube-router", "ClusterRole and Role plinth:nodes"},
		Check: func(ctx context.Context) (step.State, error) {
			client, err := c.kubeClient(ctx)
			if err != nil {
				return step.Unknown("k0s-start"), nil
			}
			why, err := i.policiesNeeded(ctx, client)
			if err != nil { // k0s is running, but the API server does not answer yet
				return step.Needed(err.Error()), ctx.Err()
			}
			return stepState(why, nil)
		},
		Apply: func(ctx context.Context, report step.Report) error {
			client, err := c.waitAPIServer(ctx, report)
			if err != nil {
				return err
			}
			return i.applyPolicies(ctx, client)
		},
	}
}

func (c Cluster) waitNodeReady() step.Step {
	return step.Step{ID: "node-ready", Title: "Wait for the node to be Ready",
		Check: func(ctx context.Context) (step.State, error) {
			client, err := c.kubeClient(ctx)
			if err != nil {
				return step.Unknown("k0s-start"), nil
			}
			n, err := client.Node(ctx, c.NodeName)
			switch {
			case err != nil:
				return step.Needed("node " + c.NodeName + ": " + err.Error()), nil
			case !n.Ready:
				return step.Needed("node " + c.NodeName + " is not Ready: " + n.Reason), nil
			}
			return step.Done(), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			client, err := c.waitAPIServer(ctx, report)
			if err != nil {
				return err
			}
			return client.WaitNode(ctx, kube.Wait{Timeout: 5 * time.Minute, Report: report, Diagnose: c.K0s.Diagnose}, c.NodeName)
		},
	}
}

// CountNeeded returns the number of steps in plan that are not done.
func CountNeeded(plan []step.Planned) (n int) {
	for _, p := range plan {
		if p.State != "done" {
			n++
		}
	}
	return n
}

// stepState returns the state of a step that is needed because of why, or done if why is "".
func stepState(why string, err error) (step.State, error) {
	if err != nil || why == "" {
		return step.Done(), err
	}
	return step.Needed(why), nil
}

// moreSuffix returns the end of the reason "X is not in containerd" for n further images.
func moreSuffix(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(", and %d more are missing", n)
}
