package plan

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

// TestSteps_TimeoutNamesTheReason lets each timeout pass in the fake clock of
// synctest, on a host on which the expected state is never reached.
func TestSteps_TimeoutNamesTheReason(t *testing.T) {
	running := host.UnitState{Load: "loaded", Active: "active", Sub: "running", Enable: "enabled"}
	failed := host.UnitState{Load: "loaded", Active: "failed", Sub: "failed", Enable: "enabled"}
	const log = "its last line: log of k0scontroller.service"
	for name, c := range map[string]struct {
		unit host.UnitState // of k0s
		of   func(Cluster) step.Step
		want []string // in this order
		next string
	}{
		"API server does not answer": {running, Cluster.waitNodeReady,
			[]string{"cannot wait for the node to be Ready: waited 4m0s for the Kubernetes API server to answer", "k0s has not written its kubeconfig yet", "k0scontroller.service is active (running)", log},
			"sudo journalctl -u k0scontroller.service"},
		"k0s has failed": {failed, Cluster.applyNodePolicies,
			[]string{"waited 4m0s for the Kubernetes API server to answer", "k0scontroller.service is failed (failed)", log},
			"sudo journalctl -u k0scontroller.service"},
		"containerd does not answer": {running, func(c Cluster) step.Step { return c.importImages("images-boot", "Import images", nil) },
			// The error of the dial varies, because the network poller does not use the fake clock.
			[]string{"waited 3m0s for containerd to answer on " + k0s.ContainerdSocket, "dial unix " + k0s.ContainerdSocket, "k0scontroller.service is active (running)", log},
			"sudo journalctl -u 'k0s*'"},
		"k0s has failed before containerd ran": {failed, func(c Cluster) step.Step { return c.importImages("images-boot", "Import images", nil) },
			[]string{"k0scontroller.service is failed (failed)", log}, "sudo journalctl -u k0scontroller.service"},
		"state of the system pods is unknown": {running, Cluster.waitSystemPodsStarted,
			[]string{"waited 5m0s for the system pods to start", k0s.AdminConf, log},
			"sudo plinth kubectl get pods,events -n kube-system"},
		"cluster does not remove the node": {running, func(Cluster) step.Step {
			busy := func(context.Context) (bool, error) { return true, errors.New("controller b is joining") }
			known := func(context.Context) (bool, error) { return true, nil }
			return LeaveSteps{Name: "n1", InCluster: known, RequestLeave: busy}.List()[0]
		},
			[]string{"waited 4m0s for the cluster to remove n1", "controller b is joining"},
			"sudo plinth node list"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cluster, fake := example(t)
				fake.Units[k0s.ControllerUnit] = c.unit
				r := step.Runner{Verb: "install", Now: time.Now, ResumeHint: "run the same command again"}
				s := c.of(cluster)
				s.Check = func(context.Context) (step.State, error) { return step.Needed("it is missing"), nil }
				_, err := r.Run(t.Context(), []step.Step{s})
				if problem.ExitCode(err) != problem.ExitStep {
					t.Fatalf("exit %d: %v", problem.ExitCode(err), err)
				}
				rest := err.Error()
				for _, part := range c.want {
					_, after, ok := strings.Cut(rest, part)
					if !ok {
						t.Errorf("%v\nlacks %q", err, part)
						continue
					}
					rest = after
				}
				if hint := problem.Hint(err); !strings.HasPrefix(hint, "to see more: "+c.next) || !strings.HasSuffix(hint, "\nrun the same command again") {
					t.Errorf("hint %q", hint)
				}
			})
		})
	}
}
