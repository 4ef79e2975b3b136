package helm_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/plinthdev/plinth/internal/helm"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/testkit"
)

// killAfter returns a context that is canceled when the server has stored n objects, as if the run were killed there.
func killAfter(t *testing.T, s *kubetest.Server, n int) context.Context {
	ctx, kill := context.WithCancel(t.Context())
	t.Cleanup(kill)
	s.SetAdmit(func(obj map[string]any) {
		kubetest.MarkReady(obj)
		if n--; n <= 0 {
			kill()
		}
	})
	return ctx
}

// objectsOf are the paths of the objects of the example chart, with the cache.
var objectsOf = []string{
	"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/greetings.example.com", "/api/v1/namespaces/a/services/toy", "/apis/apps/v1/namespaces/a/deployments/toy",
	"/apis/example.com/v1/namespaces/a/greetings/toy", "/apis/apps/v1/namespaces/a/statefulsets/toy-cache",
}

// Whatever the object after which a run is killed, the next run finishes it, and no object of it is left over.
func TestInstallOrUpgrade_ResumesAtEveryKillPoint(t *testing.T) {
	const killPoints = 9 // namespace, record, CRD, Job, 4 objects, record
	for n := 1; n <= killPoints; n++ {
		t.Run(fmt.Sprintf("an install, after object %d", n), func(t *testing.T) {
			s, c := kubetest.New(t)
			r := example(t)
			killed := helm.InstallOrUpgrade(killAfter(t, s, n), c, r, longWait())
			if killed == nil && n < killPoints {
				t.Fatal("it was not killed")
			}
			if in, err := helm.GetInstalled(t.Context(), c, "a", "toy"); n > 1 && (err != nil || in.Revision != 1) {
				t.Errorf("objects without a record: %+v, %v", in, err)
			}
			s.SetAdmit(kubetest.MarkReady)
			testkit.Must(t, helm.InstallOrUpgrade(t.Context(), c, r, longWait()))
			checkDeployed(t, s, objectsOf)
			s.Writes()
			testkit.Must(t, helm.InstallOrUpgrade(t.Context(), c, r, longWait()))
			if got := s.Writes(); len(got) > 0 {
				t.Errorf("a converged release was written: %q", got)
			}
		})
		t.Run(fmt.Sprintf("an upgrade, after object %d", n), func(t *testing.T) {
			s, c := kubetest.New(t)
			r := example(t)
			testkit.Must(t, helm.InstallOrUpgrade(t.Context(), c, r, longWait()))
			r.Values = map[string]any{"cache": map[string]any{"enabled": false}}
			_ = helm.InstallOrUpgrade(killAfter(t, s, n), c, r, longWait())
			s.SetAdmit(kubetest.MarkReady)
			testkit.Must(t, helm.InstallOrUpgrade(t.Context(), c, r, longWait()))
			checkDeployed(t, s, objectsOf[:4])
			if s.Object(objectsOf[4]) != nil {
				t.Error("an object that the new revision does not have remains")
			}
		})
	}
}

// checkDeployed checks that the release is deployed and the server has the objects at these paths.
func checkDeployed(t *testing.T, s *kubetest.Server, paths []string) {
	t.Helper()
	for _, path := range paths {
		if s.Object(path) == nil {
			t.Errorf("%s does not exist", path)
		}
	}
	if s.Object("/apis/batch/v1/namespaces/a/jobs/toy-migrate") != nil {
		t.Error("a hook that is deleted when it has succeeded remains")
	}
}

// A removal that was killed is finished by the next run: the record goes last.
func TestUninstall_ResumesAtEveryKillPoint(t *testing.T) {
	for n := range 4 {
		t.Run(fmt.Sprint("after object ", n), func(t *testing.T) {
			s, c := kubetest.New(t)
			testkit.Must(t, helm.InstallOrUpgrade(t.Context(), c, example(t), longWait()))
			for _, path := range objectsOf[1 : 1+n] { // a killed run has deleted some
				s.Remove(path)
			}
			testkit.Must(t, helm.Uninstall(t.Context(), c, "a", "toy", longWait()))
			for _, path := range objectsOf[1:] {
				if s.Object(path) != nil {
					t.Errorf("%s remains", path)
				}
			}
			if s.Object(objectsOf[0]) == nil || s.Object("/api/v1/namespaces/a/secrets/sh.helm.release.v1.toy.v1") != nil {
				t.Error("the CRD is gone, or the record remains")
			}
		})
	}
}
