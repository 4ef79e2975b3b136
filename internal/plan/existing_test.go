package plan

import (
	"context"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
)

// absentImages is a registry without any image.
type absentImages struct{}

func (absentImages) Missing(context.Context) ([]string, error) {
	return []string{"registry.example.com/kotsadm:v1.131.2", "registry.example.com/rqlite:10.2.7"}, nil
}

func (absentImages) Upload(context.Context, func(done, total int64)) error { return nil }

func TestInstallInExisting_OnAnEmptyClusterMatchesGolden(t *testing.T) {
	_, client := kubetest.New(t)
	k := &kots.Client{Machine: hosttest.New(t).Host(), Kube: client, Namespace: "kotsadm", AnyNode: true, Registry: &kots.Registry{Address: "registry.example.com"}}
	c := Cluster{Now: func() time.Time { return time.Unix(0, 0) }, External: k, Console: Console{Namespace: "kotsadm", App: &kots.App{Slug: "my-app"}}}
	goldenPlan(t, "testdata/existing.golden", c, InstallInExisting(c, absentImages{}, func(string) {}))
}
