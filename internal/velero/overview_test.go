package velero

import (
	"reflect"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/testkit"
)

// overviewTime is the time of the newest snapshot of the tests.
var overviewTime = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// putBackup adds a full snapshot of the namespace kotsadm, taken hours before overviewTime, with what change changes.
func putBackup(api *kubetest.Server, name, phase string, hours int, change func(obj map[string]any)) {
	obj := map[string]any{"apiVersion": "velero.io/v1", "kind": "Backup",
		"metadata": map[string]any{"name": name, "namespace": "velero", "annotations": map[string]any{"kots.io/instance": "true"}},
		"spec": map[string]any{"includedNamespaces": []any{"kotsadm"},
			"orLabelSelectors": []any{map[string]any{"matchLabels": map[string]any{"kots.io/backup": "velero"}}}},
		"status": map[string]any{"phase": phase, "errors": 2, "startTimestamp": overviewTime.Add(-time.Duration(hours) * time.Hour).Format(time.RFC3339)}}
	if change != nil {
		change(obj)
	}
	api.Put("/apis/velero.io/v1/namespaces/velero/backups/"+name, obj)
}

// putVolumeBackup adds the data of the claim kotsadm/CLAIM to a snapshot.
func putVolumeBackup(api *kubetest.Server, backup, claim, phase, message string) {
	api.Put("/apis/velero.io/v1/namespaces/velero/podvolumebackups/"+backup+"-"+claim, map[string]any{"apiVersion": "velero.io/v1", "kind": "PodVolumeBackup",
		"metadata": map[string]any{"name": backup + "-" + claim, "namespace": "velero", "annotations": map[string]any{"velero.io/pvc-name": claim}},
		"spec":     map[string]any{"pod": map[string]any{"namespace": "kotsadm", "name": "pod"}, "volume": "data", "tags": map[string]any{"backup": backup}},
		"status":   map[string]any{"phase": phase, "message": message}})
}

// putWorkload adds what starts pods with the labels in a namespace, which mark the volume data.
func putWorkload(api *kubetest.Server, kind, plural, namespace, name string, created time.Time, labels, spec map[string]any) {
	pods := map[string]any{"spec": spec,
		"metadata": map[string]any{"labels": labels, "annotations": map[string]any{"backup.velero.io/backup-volumes": "cache,data"}}}
	all := map[string]any{"template": pods}
	if kind == "StatefulSet" {
		all["volumeClaimTemplates"] = []any{map[string]any{"metadata": map[string]any{"name": "data"}}}
	}
	api.Put("/apis/apps/v1/namespaces/"+namespace+"/"+plural+"/"+name, map[string]any{"apiVersion": "apps/v1", "kind": kind,
		"metadata": map[string]any{"name": name, "namespace": namespace, "creationTimestamp": created.Format(time.RFC3339)}, "spec": all})
}

// putClaim adds a claim.
func putClaim(api *kubetest.Server, namespace, name string, created time.Time) {
	api.Put("/api/v1/namespaces/"+namespace+"/persistentvolumeclaims/"+name, map[string]any{"apiVersion": "v1", "kind": "PersistentVolumeClaim",
		"metadata": map[string]any{"name": name, "namespace": namespace, "creationTimestamp": created.Format(time.RFC3339)}})
}

func TestReadOverview_NamesWhatFailedAndWhatIsMissing(t *testing.T) {
	const day = 24 * time.Hour
	old, marked := overviewTime.Add(-30*day), map[string]any{"kots.io/backup": "velero"}
	withClaim := func(claim string) map[string]any {
		return map[string]any{"volumes": []any{map[string]any{"name": "data", "persistentVolumeClaim": map[string]any{"claimName": claim}}}}
	}
	good := EndedSnapshot{Name: "good", TakenAt: overviewTime.Add(-time.Hour), InConsole: true}
	for name, c := range map[string]struct {
		put  func(api *kubetest.Server)
		want Overview
	}{
		"none":        {func(*kubetest.Server) {}, Overview{}},
		"in progress": {func(api *kubetest.Server) { putBackup(api, "new", "InProgress", 0, nil) }, Overview{}},
		"a good one after a failure": {func(api *kubetest.Server) {
			putBackup(api, "failed", "Failed", 3, nil)
			putBackup(api, "good", "Completed", 1, nil)
			putBackup(api, "new", "InProgress", 0, nil)
		}, Overview{Last: good}},
		"a failure after a good one": {func(api *kubetest.Server) {
			putBackup(api, "good", "Completed", 1, nil)
			putBackup(api, "failed", "Failed", 0, func(obj map[string]any) {
				obj["status"].(map[string]any)["failureReason"] = "found a backup with status \"InProgress\" during the server starting"
			})
		}, Overview{Last: good, Failed: []EndedSnapshot{{"failed", overviewTime, `Failed: found a backup with status "InProgress" during the server starting`, true}}}},
		"the store was full": {func(api *kubetest.Server) {
			putBackup(api, "full", "PartiallyFailed", 0, nil)
			putVolumeBackup(api, "full", "other", "Completed", "")
			putVolumeBackup(api, "full", "hello", "Failed", "unable to write:\n no space left on device")
		}, Overview{Failed: []EndedSnapshot{{"full", overviewTime,
			"PartiallyFailed: the volume data of pod kotsadm/pod: unable to write: no space left on device", true}}}},
		"errors without a volume": {func(api *kubetest.Server) { putBackup(api, "failed", "PartiallyFailed", 0, nil) },
			Overview{Failed: []EndedSnapshot{{"failed", overviewTime, "PartiallyFailed: errors in its log: 2", true}}}},
		"the store cannot be reached": {func(api *kubetest.Server) {
			putBackup(api, "refused", "FailedValidation", 0, func(obj map[string]any) {
				obj["metadata"].(map[string]any)["creationTimestamp"] = overviewTime.Format(time.RFC3339)
				obj["status"] = map[string]any{"phase": "FailedValidation", "validationErrors": []any{"the location is Unavailable"}}
			})
		}, Overview{Failed: []EndedSnapshot{{"refused", overviewTime, "FailedValidation: the location is Unavailable", true}}}},
		"one of an application does not hide a failure": {func(api *kubetest.Server) {
			putBackup(api, "full", "Failed", 2, nil)
			putBackup(api, "good", "Completed", 1, func(obj map[string]any) {
				obj["metadata"].(map[string]any)["annotations"] = map[string]any{"kots.io/app-id": "1"}
			})
		}, Overview{Last: good, Failed: []EndedSnapshot{{"full", overviewTime.Add(-2 * time.Hour), "Failed: errors in its log: 2", true}}}},
		"one of the registry": {func(api *kubetest.Server) {
			putBackup(api, "good", "Completed", 1, nil)
			putBackup(api, "good-registry", "Completed", 0, func(obj map[string]any) {
				obj["metadata"].(map[string]any)["annotations"] = map[string]any{"plinth.dev/registry-of": "good"}
			})
		}, Overview{Last: good}},
		"one of the registry that failed": {func(api *kubetest.Server) {
			putBackup(api, "good", "Completed", 1, nil)
			putBackup(api, "good-registry", "Failed", 0, func(obj map[string]any) {
				obj["metadata"].(map[string]any)["annotations"] = map[string]any{"plinth.dev/registry-of": "good"}
			})
		}, Overview{Last: good, Failed: []EndedSnapshot{{"good-registry", overviewTime, "Failed: errors in its log: 2", false}}}},
		"pods that did not run": {func(api *kubetest.Server) {
			putBackup(api, "good", "Completed", 1, nil)
			for _, claim := range []string{"hello", "backed-up", "failed", "data-db-0", "data-db-x", "unmarked"} {
				putClaim(api, "kotsadm", claim, old)
			}
			putWorkload(api, "Deployment", "deployments", "kotsadm", "hello", old, marked, withClaim("hello"))
			putWorkload(api, "Deployment", "deployments", "kotsadm", "ok", old, marked, withClaim("backed-up"))
			putWorkload(api, "Deployment", "deployments", "kotsadm", "bad", old, marked, withClaim("failed"))
			putWorkload(api, "StatefulSet", "statefulsets", "kotsadm", "db", old, marked, map[string]any{})
			putVolumeBackup(api, "good", "backed-up", "Completed", "")
			putVolumeBackup(api, "good", "failed", "Failed", "")
			putVolumeBackup(api, "another", "hello", "Completed", "")
		}, Overview{Last: good, Missing: []string{"kotsadm/data-db-0", "kotsadm/failed", "kotsadm/hello"}}},
		"a space in the list of volumes": {func(api *kubetest.Server) {
			putBackup(api, "good", "Completed", 1, nil)
			putClaim(api, "kotsadm", "hello", old)
			putWorkload(api, "Deployment", "deployments", "kotsadm", "hello", old, marked, withClaim("hello"))
			hello := api.Object("/apis/apps/v1/namespaces/kotsadm/deployments/hello")
			hello["spec"].(map[string]any)["template"].(map[string]any)["metadata"].(map[string]any)["annotations"] = map[string]any{"backup.velero.io/backup-volumes": "cache, data"}
			api.Put("/apis/apps/v1/namespaces/kotsadm/deployments/hello", hello)
		}, Overview{Last: good, Missing: []string{"kotsadm/hello"}}},
		"what does not belong in it": {func(api *kubetest.Server) {
			putBackup(api, "good", "Completed", 1, nil)
			putClaim(api, "kotsadm", "new", overviewTime)
			putClaim(api, "kotsadm", "hello", old)
			putClaim(api, "other", "hello", old)
			putWorkload(api, "Deployment", "deployments", "kotsadm", "new-claim", old, marked, withClaim("new"))
			putWorkload(api, "Deployment", "deployments", "kotsadm", "new", overviewTime, marked, withClaim("hello"))
			putWorkload(api, "Deployment", "deployments", "kotsadm", "other-labels", old, map[string]any{"app": "x"}, withClaim("hello"))
			putWorkload(api, "Deployment", "deployments", "other", "hello", old, marked, withClaim("hello"))
			putWorkload(api, "Deployment", "deployments", "kotsadm", "no-claim", old, marked, withClaim("gone"))
		}, Overview{Last: good}},
		"of all namespaces but one": {func(api *kubetest.Server) {
			putBackup(api, "good", "Completed", 1, func(obj map[string]any) {
				obj["spec"] = map[string]any{"includedNamespaces": []any{"*"}, "excludedNamespaces": []any{"kotsadm"}}
			})
			for _, namespace := range []string{"kotsadm", "other"} {
				putClaim(api, namespace, "hello", old)
				putWorkload(api, "Deployment", "deployments", namespace, "hello", old, nil, withClaim("hello"))
			}
		}, Overview{Last: good, Missing: []string{"other/hello"}}},
		"of one application": {func(api *kubetest.Server) {
			putBackup(api, "good", "Completed", 1, func(obj map[string]any) {
				obj["spec"] = map[string]any{"includedNamespaces": []any{"kotsadm"},
					"labelSelector": map[string]any{"matchLabels": map[string]any{"kots.io/app-slug": "a"}}}
			})
			for _, app := range []string{"a", "b"} {
				putClaim(api, "kotsadm", app, old)
				putWorkload(api, "Deployment", "deployments", "kotsadm", app, old, map[string]any{"kots.io/app-slug": app}, withClaim(app))
			}
		}, Overview{Last: good, Missing: []string{"kotsadm/a"}}},
	} {
		t.Run(name, func(t *testing.T) {
			api, client := kubetest.New(t)
			c.put(api)
			got, err := ReadOverview(t.Context(), client, "velero")
			testkit.Must(t, err)
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}
