package kots

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/wait"
)

// ConsoleLabels are the labels of the objects of a console in a snapshot (KOTS 1.131.2, pkg/kotsadm/types/constants.go).
func ConsoleLabels() map[string]string { return map[string]string{"kots.io/kotsadm": "true"} }

// SlugLabel is the label of the objects of an application; its value is the slug.
const SlugLabel = "kots.io/app-slug"

// ConsoleRestoreName returns the name of the restore of the console from a snapshot, which is also KOTS's (KOTS 1.131.2,
// pkg/snapshot/restore.go).
func ConsoleRestoreName(snapshot string) string { return snapshot + ".kotsadm" }

// AppRestoreName returns the name that KOTS gives the restore of an application from a snapshot (KOTS 1.131.2,
// pkg/kotsadmsnapshot/restore.go).
func AppRestoreName(snapshot, slug string) string { return snapshot + "." + slug }

// RestoreAnnotations returns the annotations by which KOTS lists a restore of the console.
func (k *Client) RestoreAnnotations() map[string]string {
	return map[string]string{"kots.io/instance": "true", "kots.io/kotsadm-deploy-namespace": k.Namespace}
}

// RestoredNeeded returns the reason why FinishRestore is needed for a console whose objects Velero has restored, or "".
func (k *Client) RestoredNeeded(ctx context.Context) (string, error) {
	n, err := DatastoreReplicas(ctx, k.Kube, k.Namespace)
	if err != nil {
		return "", err
	}
	if n > 1 {
		ready, err := k.countControllers(ctx)
		if err != nil {
			return "", err
		}
		if int64(ready) < n {
			return fmt.Sprintf("the console's datastore has %d replicas, which need as many controllers", n), nil
		}
	}
	s, err := k.ConsoleState(ctx)
	return s.Reason, err
}

// FinishRestore waits until a console whose objects Velero has restored is ready. Its datastore gets one replica: each
// further one needs a controller of its own, and HANeeded asks for them when those have joined. was is the version of the
// console in the snapshot. If c has another one, whose images the objects have got already, the schema of the database is
// that of the snapshot: the console is started again, so that it migrates it, and the CLI brings its objects up to date.
//
// A pod that still loads the data of the snapshot must not be deleted: they are in a volume of that pod.
func (k *Client) FinishRestore(ctx context.Context, c ConsoleSpec, was string, w kube.Wait) error {
	n, err := DatastoreReplicas(ctx, k.Kube, k.Namespace)
	if err == nil && n > 1 {
		rqlite, _, _ := k.consoleObjects()
		err = k.Kube.Patch(ctx, rqlite, []byte(`{"spec":{"replicas":1}}`))
	}
	if err != nil {
		return err
	}
	if was == c.Version {
		return k.finishProblem(ctx, k.waitConsole(ctx, w))
	}
	if err := k.waitLoaded(ctx, w); err != nil {
		return k.finishProblem(ctx, err)
	}
	if err := k.RestartConsole(ctx, w); err != nil {
		return k.finishProblem(ctx, err)
	}
	return k.finishProblem(ctx, k.upgradeConsole(ctx, c, w))
}

// waitLoaded waits until the console's pod has loaded the data of the snapshot, which its init containers do.
func (k *Client) waitLoaded(ctx context.Context, w kube.Wait) error {
	o := wait.Options{What: "the console to load its data", Timeout: w.Timeout, Interval: time.Second, NextCommand: "sudo plinth kubectl get pods -n " + k.Namespace,
		Diagnose: func(ctx context.Context) string { return k.Kube.Diagnose(ctx, k.Namespace, "") }}
	return wait.Until(ctx, o, func(ctx context.Context) (bool, string, error) {
		pod, err := k.Kube.Get(ctx, kube.Object{APIVersion: "v1", Kind: "Pod", Namespace: k.Namespace, Name: ConsolePod})
		if err != nil {
			return false, err.Error(), nil
		}
		phase, _, _ := unstructured.NestedString(pod.Object, "status", "phase")
		return phase == "Running", "the phase of pod " + ConsolePod + " is " + phase, nil
	})
}

func (k *Client) finishProblem(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	return problem.New(problem.ExitStep, "start the restored console", err, "inspect its pods: sudo plinth kubectl get pods -n "+k.Namespace+"; then run the same command again")
}

// consoleKinds are the kinds of the objects of a console, in the order in which RemoveConsole removes them, with the
// names of their collections (KOTS 1.131.2, pkg/k8sutil/kotsadm.go: DeleteKotsadm).
var consoleKinds = []struct {
	apiVersion, kind, path string
	cluster                bool // not in a namespace
}{
	{"v1", "Service", "services", false},
	{"apps/v1", "Deployment", "deployments", false},
	{"apps/v1", "StatefulSet", "statefulsets", false},
	{"v1", "Pod", "pods", false},
	{"v1", "PersistentVolumeClaim", "persistentvolumeclaims", false},
	{"v1", "Secret", "secrets", false},
	{"v1", "ConfigMap", "configmaps", false},
	{"rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", true},
	{"rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", false},
	{"rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", true},
	{"rbac.authorization.k8s.io/v1", "Role", "roles", false},
	{"v1", "ServiceAccount", "serviceaccounts", false},
}

// removeTimeout is how long the removal of the objects of one kind may take.
const removeTimeout = 5 * time.Minute

// RemoveConsole removes what a failed restore has restored of a console, as the CLI does before a restore: with its
// volumes. Objects that exist would not be restored.
func (k *Client) RemoveConsole(ctx context.Context, report func(string, int64, int64)) error {
	for _, kind := range consoleKinds {
		path := "/api/" + kind.apiVersion
		if kind.apiVersion != "v1" {
			path = "/apis/" + kind.apiVersion
		}
		namespace := ""
		if !kind.cluster {
			namespace = k.Namespace
			path += "/namespaces/" + namespace
		}
		path += "/" + kind.path
		o := wait.Options{What: "the " + kind.path + " of the console to be removed", Timeout: removeTimeout, NextCommand: "sudo plinth kubectl get " + kind.path + " -n " + k.Namespace,
			OnReason: func(reason string) { report(reason, 0, 0) }}
		if err := wait.Until(ctx, o, func(ctx context.Context) (bool, string, error) {
			names, err := k.labeled(ctx, path)
			if err != nil || len(names) == 0 {
				return err == nil, "", err
			}
			for _, name := range names {
				err = errors.Join(err, k.Kube.Delete(ctx, kube.Object{APIVersion: kind.apiVersion, Kind: kind.kind, Namespace: namespace, Name: name}))
			}
			return false, names[0] + " still exists", err
		}); err != nil {
			return err
		}
	}
	return nil
}

// labeled returns the names of the objects of the console in a collection.
func (k *Client) labeled(ctx context.Context, path string) (names []string, err error) {
	raw, err := k.Kube.ListRawMetadata(ctx, path, "kots.io/kotsadm=true")
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []struct {
			Metadata struct{ Name string } `json:"metadata"`
		} `json:"items"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, i := range list.Items {
		names = append(names, i.Metadata.Name)
	}
	return names, nil
}

// StartAppRestore has the console restore its applications from a snapshot, in the background. The CLI does nothing, with
// exit code 0, for a snapshot that is not complete (KOTS up to 1.134.1, pkg/snapshot/restore.go): the caller has checked
// its phase.
func (k *Client) StartAppRestore(ctx context.Context, snapshot, veleroNamespace string, report func(string, int64, int64)) error {
	_, err := k.runCLI(ctx, nil, report, "restore", "--from-backup", snapshot, "--velero-namespace", veleroNamespace, "--exclude-admin-console", "--wait-for-apps=false")
	return err
}
