// Package plan owns the step lists: each verb is a list that reads on one
// screen, and each step pairs a look with an act of a domain package. It
// refuses to do anything itself; making a list changes nothing.
package plan

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/images"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/member"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/node/leftover"
	"github.com/plinthdev/plinth/internal/plan/entry"
	"github.com/plinthdev/plinth/internal/step"
)

// Cluster is what the steps of a controller work with; the composition root
// fills it.
type Cluster struct {
	Host     host.Host
	Memory   Memory
	DataDir  string      // Plinth's own folder
	Pointer  string      // file that names DataDir to later commands; "" for none
	Node     string      // Kubernetes name of this host
	K0s      k0s.Service // the service and its configuration
	K0sFile  node.Artifact
	KotsFile node.Artifact    // zero for a cluster without a console
	Agent    node.Artifact    // this program, for the agent; zero for a node that runs none
	Kept     entry.Kept       // what is kept of the bundle
	Leftover leftover.Cluster // what this cluster may leave on the host
	Images   Images
	AddOns   []addons.AddOn // in the order of installation
	Console  Console
	Now      func() time.Time // the clock
}

// Memory keeps what a step found and has to be put back later; a journal.
type Memory interface {
	Before(step string, v any) error
	Found(step string, v any) (bool, error)
}

// Images are the images of the cluster: those that a node needs to become
// Ready and run the system pods, and the rest.
type Images struct {
	Source     images.Source
	Boot, Rest []images.Image
}

// Install is the main job: from a bare host to a running console.
func Install(c Cluster) []step.Step {
	steps := []step.Step{
		c.remember(),
		c.dataDir(),
		c.Kept.Keep(c.Host),
		c.kernel(),
		c.file("k0s-binary", "Put k0s in place", c.K0sFile),
		c.k0sConfig(),
		c.k0sService(),
		c.k0sStart(),
		c.importImages("images-boot", "Import the images the node boots with", c.Images.Boot),
		c.nodeReady(),
		c.systemPodsStart(),
		// What follows fills the half minute in which the system pods run but
		// are not asked yet whether they are Ready.
		c.importImages("images-rest", "Import the images of the add-ons", c.Images.Rest),
	}
	if c.KotsFile.Path != "" {
		steps = append(steps, c.file("kots-binary", "Put the kots CLI in place", c.KotsFile))
	}
	return append(append(append(steps, c.systemPods(), c.nodeAccess()), c.addOns()...), c.agent()...)
}

// RememberID is the step whose finding reset needs: what stood on the host
// before the first change.
const RememberID = "remember"

func (c Cluster) remember() step.Step {
	return step.Step{ID: RememberID, Title: "Remember what stands on this host", Touches: []string{c.DataDir},
		Check: func(context.Context) (step.State, error) {
			known, err := c.Memory.Found(RememberID, &leftover.Before{})
			if err != nil || known {
				return step.Done(), err
			}
			return step.Needed("the host has not been looked at"), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error {
			before, err := node.Record(ctx, c.Host, c.Leftover, c.DataDir)
			if err != nil {
				return err
			}
			return c.Memory.Before(RememberID, before)
		},
	}
}

func (c Cluster) dataDir() step.Step {
	dir := node.DataDir{Path: c.DataDir, Pointer: c.Pointer}
	return step.Step{ID: "data-dir", Title: "Make Plinth's data folder", Touches: dir.Paths(),
		Check: func(context.Context) (step.State, error) { return look(dir.Check(c.Host)) },
		Apply: func(context.Context, step.Report) error { return dir.Apply(c.Host) },
	}
}

func (c Cluster) kernel() step.Step {
	k := node.DefaultKernel(c.Host)
	touches := []string{leftover.ModulesFile, leftover.SysctlFile}
	for _, s := range k.Sysctls {
		touches = append(touches, "sysctl:"+s.Key)
	}
	return step.Step{ID: "kernel", Title: "Prepare the kernel", Touches: touches,
		Check: func(ctx context.Context) (step.State, error) { return look(k.Check(ctx)) },
		Apply: func(ctx context.Context, _ step.Report) error { return k.Apply(ctx) },
	}
}

func (c Cluster) file(id, title string, f node.Artifact) step.Step {
	return entry.File(c.Host, id, title, f)
}

func (c Cluster) k0sConfig() step.Step {
	return step.Step{ID: "k0s-config", Title: "Write k0s's configuration", Touches: c.K0s.ConfigPaths(),
		Check: func(context.Context) (step.State, error) { return look(c.K0s.ConfigNeeded()) },
		Apply: func(context.Context, step.Report) error { return c.K0s.WriteConfig() },
	}
}

func (c Cluster) k0sService() step.Step {
	return step.Step{ID: "k0s-service", Title: "Register k0s with systemd", Touches: []string{"users of k0s", c.K0s.UnitPath()},
		Check: func(context.Context) (step.State, error) { return look(c.K0s.RegisterNeeded()) },
		Apply: func(ctx context.Context, _ step.Report) error { return c.K0s.Register(ctx) },
	}
}

func (c Cluster) k0sStart() step.Step {
	return step.Step{ID: "k0s-start", Title: "Start k0s", Touches: []string{k0s.DataDir, "/run/k0s", c.K0s.Unit()},
		Check: func(ctx context.Context) (step.State, error) { return look(c.K0s.StartNeeded(ctx)) },
		Apply: func(ctx context.Context, _ step.Report) error { return c.K0s.Start(ctx) },
	}
}

func (c Cluster) importImages(id, title string, want []images.Image) step.Step {
	return step.Step{ID: id, Title: title, Touches: []string{k0s.DataDir + "/containerd"},
		Check: func(ctx context.Context) (step.State, error) {
			store, err := c.imageStore(ctx, 2*time.Second)
			if err != nil {
				return step.Unknown("k0s-start"), nil
			}
			defer func() { _ = store.Close() }()
			missing, err := store.Missing(ctx, want)
			switch {
			case err != nil:
				return step.Needed(err.Error()), ctx.Err()
			case len(missing) == 0:
				return step.Done(), nil
			}
			return step.Needed(missing[0].Ref + " is not in containerd" + more(len(missing)-1)), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			report("waiting for containerd", 0, 0)
			store, err := c.imageStore(ctx, 3*time.Minute)
			if err != nil {
				return err
			}
			defer func() { _ = store.Close() }()
			missing, err := store.Missing(ctx, want)
			if err != nil {
				return err
			}
			return store.Import(ctx, c.Images.Source, missing, images.Width, report)
		},
	}
}

// imageStore opens containerd. A check looks at the service first: a socket
// that was left behind by a stopped one would only cost time.
func (c Cluster) imageStore(ctx context.Context, timeout time.Duration) (*images.Store, error) {
	if why, err := c.K0s.StartNeeded(ctx); err != nil || why != "" {
		return nil, errors.Join(err, errors.New(why))
	}
	return images.Open(ctx, k0s.Socket, c.Host, timeout, c.K0s.Culprit)
}

func (c Cluster) nodeAccess() step.Step {
	return step.Step{ID: "node-access", Title: "Let nodes see each other", Touches: []string{"ClusterRole plinth:nodes"},
		Check: func(ctx context.Context) (step.State, error) {
			client, err := c.kube(ctx)
			if err != nil {
				return step.Unknown("k0s-start"), nil
			}
			why, err := member.AccessNeeded(ctx, client)
			if err != nil { // k0s runs, its API does not answer yet
				return step.Needed(err.Error()), ctx.Err()
			}
			return look(why, nil)
		},
		Apply: func(ctx context.Context, report step.Report) error {
			client, err := c.waitKube(ctx, report)
			if err != nil {
				return err
			}
			return member.GrantAccess(ctx, client)
		},
	}
}

func (c Cluster) nodeReady() step.Step {
	return step.Step{ID: "node-ready", Title: "Wait for the node to be Ready",
		Check: func(ctx context.Context) (step.State, error) {
			client, err := c.kube(ctx)
			if err != nil {
				return step.Unknown("k0s-start"), nil
			}
			n, err := client.Node(ctx, c.Node)
			switch {
			case err != nil:
				return step.Needed("node " + c.Node + ": " + err.Error()), nil
			case !n.Ready:
				return step.Needed("node " + c.Node + " is not Ready: " + n.Reason), nil
			}
			return step.Done(), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			client, err := c.waitKube(ctx, report)
			if err != nil {
				return err
			}
			return client.WaitNode(ctx, kube.Wait{Timeout: 5 * time.Minute, Report: report, Culprit: c.K0s.Culprit}, c.Node)
		},
	}
}

// Needed counts the steps that have something to do.
func Needed(plan []step.Planned) (n int) {
	for _, p := range plan {
		if p.State != "done" {
			n++
		}
	}
	return n
}

// look turns a domain package's answer into a step's: "" is done.
func look(why string, err error) (step.State, error) {
	if err != nil || why == "" {
		return step.Done(), err
	}
	return step.Needed(why), nil
}

// more says how many others there are.
func more(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(", nor are %d more", n)
}
