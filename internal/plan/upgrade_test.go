package plan

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/upgrade"
)

// sameHealth is a cluster that is always as healthy as before.
type sameHealth struct{}

func (sameHealth) Gather(context.Context) (json.RawMessage, error)          { return nil, nil }
func (sameHealth) Worse(context.Context, json.RawMessage) ([]string, error) { return nil, nil }

func TestUpgrade_MatchesGolden(t *testing.T) {
	c, f := example(t)
	c.AgentFile = node.Artifact{Path: node.AgentBinary}
	c.BundleCache = BundleCache{Dir: "/var/lib/plinth/bundle", Files: map[string][]byte{"index.json": nil}}
	c.Host = f.Host() // a plan must not change it, see the golden file of install
	steps := Upgrade(c, Transition{From: "sha256:0123456789abcdef", To: "sha256:fedcba9876543210", Receipt: "/var/lib/plinth/receipt.json", Health: sameHealth{},
		Dropped: []addons.AddOn{{Name: "velero", Title: "Velero", Namespace: "velero", Release: "velero"}}})
	goldenPlan(t, "testdata/upgrade.golden", c, steps)
}

func TestUpgradeNode_MatchesGolden(t *testing.T) {
	for role, worker := range map[string]bool{"controller": false, "worker": true} {
		t.Run(role, func(t *testing.T) {
			c, f := example(t)
			c.AgentFile = node.Artifact{Path: node.AgentBinary}
			c.BundleCache = BundleCache{Dir: "/var/lib/plinth/bundle", Files: map[string][]byte{"index.json": nil}}
			c.Host, c.K0s.Worker = f.Host(), worker
			if worker {
				c.KotsFile = node.Artifact{}
			}
			tr := Transition{From: "sha256:0123456789abcdef", To: "sha256:fedcba9876543210", Receipt: "/var/lib/plinth/receipt.json", Health: sameHealth{}, Follows: true}
			goldenPlan(t, "testdata/upgrade-"+role+".golden", c, UpgradeNode(c, tr))
			var delivered, own []string
			for _, s := range DeliverNode(c, tr, step.Step{ID: "stage"}) {
				delivered = append(delivered, s.ID)
			}
			for _, s := range UpgradeNode(c, tr) {
				own = append(own, s.ID)
			}
			if n := len(delivered); delivered[0] != "stage" || !slices.Equal(delivered[1:], own[:n-1]) || own[n-1] != UpgradeK0sID {
				t.Errorf("%q is not what %q needs before k0s is restarted", delivered, own)
			}
		})
	}
}

func TestUpgrade_HasTheStepsOfANodeInTheirOrder(t *testing.T) {
	c, _ := example(t)
	c.AgentFile = node.Artifact{Path: node.AgentBinary}
	tr := Transition{From: "sha256:0123456789abcdef", To: "sha256:fedcba9876543210", Health: sameHealth{}}
	rest := UpgradeNode(c, tr)
	for _, s := range Upgrade(c, tr) {
		if len(rest) > 0 && s.ID == rest[0].ID {
			rest = rest[1:]
		}
	}
	if len(rest) > 0 {
		t.Errorf("the coordinator has no step %s, or in another order", rest[0].ID)
	}
}

// The leader of k0s, any of the controllers, updates the system pods.
func TestUpgrade_WaitsForSystemImagesOnceAllControllersAreUpgraded(t *testing.T) {
	c, _ := example(t)
	tr := Transition{From: "sha256:0123456789abcdef", To: "sha256:fedcba9876543210", Health: sameHealth{}}
	tr.Others.Batches = []upgrade.Batch{{{Name: "c2", Controller: true}}, {{Name: "w1"}}}
	var order []string
	for _, s := range Upgrade(c, tr) {
		if strings.HasPrefix(s.ID, UpgradeNodePrefix) || slices.Contains([]string{UpgradeK0sID, "system-images"}, s.ID) {
			order = append(order, s.ID)
		}
	}
	if want := []string{UpgradeK0sID, "upgrade-node-c2", "upgrade-node-w1", "system-images"}; !slices.Equal(order, want) {
		t.Errorf("%v, want %v", order, want)
	}
}

func TestRollback_MatchesGolden(t *testing.T) {
	c, _ := example(t)
	c.Console = Console{Namespace: "kotsadm", URL: "https://10.0.0.5:8800", Desired: kots.ConsoleSpec{Version: "1.131.2"}}
	s := Snapshot{Dir: "/var/lib/plinth/upgrade/0123456789ab", Data: &SnapshotData{Etcd: &DataFile{}, Console: &DataFile{}},
		Files: node.FileSnapshot{Trees: []string{"/var/lib/plinth/bundle"}, Files: []node.SavedFile{{Path: "/usr/local/bin/k0s", Size: 1}, {Path: "/etc/k0s/new.yaml", Absent: true}}}}
	for name, withData := range map[string]bool{"rollback": false, "rollback-data": true} {
		t.Run(name, func(t *testing.T) {
			goldenPlan(t, "testdata/"+name+".golden", c, Rollback(c, Reversal{Snapshot: s, WithData: withData, Health: sameHealth{}}))
		})
	}
	for name, worker := range map[string]bool{"rollback-node": false, "rollback-worker": true} {
		t.Run(name, func(t *testing.T) {
			c := c
			c.K0s.Worker = worker
			goldenPlan(t, "testdata/"+name+".golden", c, RollbackNode(c, Reversal{Snapshot: s}))
		})
	}
}

func TestNeedsData_OnlyAfterTheClusterChanged(t *testing.T) {
	before := []string{"upgrade-lock", "snapshot-files", "plinth-binary", "images-rest", "snapshot-data"}
	for name, c := range map[string]struct {
		began []string
		minor bool
		want  bool
	}{
		"nothing began":           {nil, true, false},
		"before k0s":              {before, true, false},
		"k0s, the same minor":     {append(before, UpgradeK0sID, "node-ready", "system-pods"), false, false},
		"k0s, another minor":      {append(before, UpgradeK0sID), true, true},
		"an add-on":               {append(before, UpgradeK0sID, "local-path-storage"), false, true},
		"the console alone":       {append(before, "console"), false, true},
		"only this node's files":  {append(before, UpgradeK0sID, "kots-binary", "agent-binary", "agent", "keep-bundle", "health", "upgrade-end"), false, false},
		"metrics-server":          {append(before, UpgradeK0sID, removeMetricsServerID), false, false},
		"an add-on was removed":   {append(before, "remove-velero"), false, true},
		"the admission's records": {append(before, "trust"), false, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := NeedsData(c.began, c.minor); got != c.want {
				t.Errorf("%v", got)
			}
		})
	}
}
