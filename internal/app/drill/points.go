// Package drill kills commands at failpoints and verifies that they resume or can be reset.
package drill

import (
	"errors"
	"os"
	"strings"
	"time"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/failpoint"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/node/leftover"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/plan/entry"
	"github.com/plinthdev/plinth/internal/plan/leave"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

// verbSteps is one command that changes a host and the steps that it can have, in order.
type verb struct {
	name    string
	steps   []step.Step
	receipt bool // writes a receipt
}

// allVerbSteps returns the commands that change a host.
func verbs() ([]verb, error) {
	parts, err := addons.Every()
	if err != nil {
		return nil, err
	}
	cluster := plan.Cluster{AddOns: parts, KotsFile: node.Artifact{Path: kots.Binary}, Agent: node.Artifact{Path: "plinth"}, Console: plan.Console{App: &kots.App{}}}
	install, join := plan.Install(cluster), plan.Join(cluster, nil, &entry.Way{})
	reset := append(leave.Own{Kube: &kube.Client{}}.Steps(), plan.Reset(node.Leftovers(host.Host{}, leftover.Default()))...)
	reset = append(reset, step.Step{ID: "data-dir"})
	return []verb{{"install", install, true}, {"join", join, true}, {"reset", reset, false}}, nil
}

// Points returns all failpoints in the order in which a run can reach them.
func Points() ([]failpoint.Point, error) {
	all, err := verbs()
	if err != nil {
		return nil, err
	}
	var points []failpoint.Point
	for _, v := range all {
		objects := []string{failpoint.Run, failpoint.Journal}
		for _, s := range v.steps {
			objects = append(objects, s.ID)
		}
		if v.receipt {
			objects = append(objects, failpoint.Receipt)
		}
		for _, object := range objects {
			for _, m := range failpoint.Moments(object) {
				points = append(points, failpoint.Point{Verb: v.name, Object: object, Moment: m})
			}
		}
	}
	return points, nil
}

// PointNames returns the names of Points.
func Names() ([]string, error) {
	points, err := Points()
	return names(points), err
}

func names(points []failpoint.Point) []string {
	all := make([]string, 0, len(points))
	for _, p := range points {
		all = append(all, p.String())
	}
	return all
}

// ArmFromEnviron returns the failpoints that the variable failpoint.Variable in
// environ (KEY=VALUE) arms. It returns nil if the variable is not set or this
// process does not run as root. A value that cannot be parsed is a usage problem;
// near suggests the name that was probably meant, or "". say receives a message
// before a failpoint kills this process.
func Armed(environ []string, near func(name string, names []string) string, say func(string)) (*failpoint.Set, error) {
	text := ""
	for _, kv := range environ {
		if value, ok := strings.CutPrefix(kv, failpoint.Variable+"="); ok {
			text = value
		}
	}
	if text == "" || run.NeedRoot("") != nil {
		return nil, nil
	}
	points, err := Points()
	if err != nil {
		return nil, err
	}
	rules, err := failpoint.Parse(text, points)
	if err == nil {
		return failpoint.Arm(rules, effects(say)), nil
	}
	hint := "list the failpoints with: plinth drill list; nothing was changed"
	var unknown *failpoint.UnknownError
	if errors.As(err, &unknown) {
		if name := near(unknown.Name, names(points)); name != "" {
			hint = "did you mean " + name + "?\n" + hint
		}
	}
	return nil, problem.New(problem.ExitUsage, "arm the failpoints in "+failpoint.Variable, err, hint)
}

// processEffects returns the effects of failpoints on this process.
func effects(say func(string)) failpoint.Effects {
	return failpoint.Effects{
		Say:   say,
		Kill:  func() { _ = host.Local("/").Kill(os.Getpid()); select {} },
		Pause: func(d time.Duration) { <-time.After(d) },
	}
}
