package velero

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

const restorePath = "/apis/velero.io/v1/namespaces/velero/restores/s1.kotsadm"

// newOperator returns a Velero that ends each restore in a phase.
func newOperator(t *testing.T, phase string) (Operator, *kubetest.Server) {
	t.Helper()
	s, c := kubetest.New(t)
	s.SetAdmit(func(obj map[string]any) {
		if obj["kind"] == "Restore" {
			obj["status"] = map[string]any{"phase": phase, "errors": 2, "failureReason": "the store is full"}
		}
	})
	return Operator{Kube: c, Namespace: "velero"}, s
}

func quick() kube.Wait { return kube.Wait{Timeout: 2 * time.Second} }

func restoreObject(phase string) map[string]any {
	return map[string]any{"apiVersion": "velero.io/v1", "kind": "Restore", "metadata": map[string]any{"name": "s1.kotsadm", "namespace": "velero"}, "status": map[string]any{"phase": phase}}
}

func TestEnsureRestored_BeginsOnceAndRepeatsWhatFailed(t *testing.T) {
	for name, c := range map[string]struct {
		was     string // phase of an earlier restore; "" for none
		cleaned bool
		writes  []string
	}{
		"the first":         {"", false, []string{"PATCH"}},
		"done":              {"Completed", false, nil},
		"failed":            {"PartiallyFailed", true, []string{"DELETE", "PATCH"}},
		"failed validation": {"FailedValidation", true, []string{"DELETE", "PATCH"}},
	} {
		t.Run(name, func(t *testing.T) {
			o, s := newOperator(t, "Completed")
			if c.was != "" {
				s.Put(restorePath, restoreObject(c.was))
			}
			cleaned := false
			err := o.EnsureRestored(t.Context(), quick(), Restore{Name: "s1.kotsadm", Snapshot: "s1"}, func(context.Context) error { cleaned = true; return nil })
			var writes []string
			for _, w := range s.Writes() {
				verb, _, _ := strings.Cut(w, " ")
				writes = append(writes, verb)
			}
			if err != nil || cleaned != c.cleaned || !slices.Equal(writes, c.writes) {
				t.Errorf("%v, cleaned %v, %v", err, cleaned, writes)
			}
		})
	}
}

func TestEnsureRestored_NamesWhatVeleroReports(t *testing.T) {
	o, _ := newOperator(t, "PartiallyFailed")
	err := o.EnsureRestored(t.Context(), quick(), Restore{Name: "s1.kotsadm", Snapshot: "s1"}, nil)
	if err == nil || problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), "PartiallyFailed with 2 errors; the store is full") || problem.Hint(err) == "" {
		t.Errorf("%v → %s", err, problem.Hint(err))
	}
}

func TestEnsureRestored_WaitsForOneThatRuns(t *testing.T) {
	o, s := newOperator(t, "Completed")
	s.Put(restorePath, restoreObject("InProgress"))
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	if err := o.EnsureRestored(ctx, quick(), Restore{Name: "s1.kotsadm"}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if w := s.Writes(); len(w) > 0 {
		t.Errorf("%q", w)
	}
}

func TestWaitRestore_GivesUpOnlyWithoutProgress(t *testing.T) {
	for name, c := range map[string]struct {
		states string // one at each check, 20 minutes apart
		over   int    // the check after which it is given up; 0 for none
	}{
		"nothing restored":          {"000", 3},
		"a volume that ends":        {"012222", 5},
		"slow progress":             {"0112233445", 0},
		"as before, but in between": {"01010101", 0},
	} {
		t.Run(name, func(t *testing.T) {
			now, over := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC), 0
			s := stall{now: func() time.Time { return now }}
			for i, state := range c.states {
				if over == 0 && s.isOver(string(state)) {
					over = i + 1
				}
				now = now.Add(20 * time.Minute)
			}
			if over != c.over {
				t.Errorf("given up after %d checks, want %d", over, c.over)
			}
		})
	}
	t.Run("by the clock", func(t *testing.T) {
		o, s := newOperator(t, "Completed")
		s.Put(restorePath, restoreObject("InProgress"))
		now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
		o.Now = func() time.Time { now = now.Add(20 * time.Minute); return now }
		err := o.EnsureRestored(t.Context(), quick(), Restore{Name: "s1.kotsadm", Snapshot: "s1"}, nil)
		if err == nil || problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), "nothing has changed for 30m0s: it is being restored: InProgress") || problem.Hint(err) == "" {
			t.Errorf("%v → %s", err, problem.Hint(err))
		}
	})
}

func TestStart_WritesWhatVeleroReads(t *testing.T) {
	o, s := newOperator(t, "Completed")
	testkit.Must(t, o.Start(t.Context(), Restore{Name: "s1.kotsadm", Snapshot: "s1", Labels: map[string]string{"a": "b"}, Namespaces: []string{"n"}, Resources: []string{"pods"},
		Annotations: map[string]string{"c": "d"}, Rules: []ModifierRule{{ModifierConditions{"pods", "n", "kotsadm-0"}, map[string]any{"spec": "x"}}}}))
	have := s.Object(restorePath)
	for want, got := range map[string]any{
		"s1": field(have, "spec", "backupName"), "b": field(have, "spec", "labelSelector", "matchLabels", "a"), "d": field(have, "metadata", "annotations", "c"),
		"s1.kotsadm": field(have, "spec", "resourceModifier", "name"),
	} {
		if got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
	text, _ := field(s.Object("/api/v1/namespaces/velero/configmaps/s1.kotsadm"), "data", rulesKey).(string)
	var rules struct {
		Version               string
		ResourceModifierRules []struct {
			Conditions struct {
				GroupResource, ResourceNameRegex string
				Namespaces                       []string
			}
			StrategicPatches []struct{ PatchData string }
		}
	}
	testkit.Must(t, json.Unmarshal([]byte(text), &rules))
	if r := rules.ResourceModifierRules; rules.Version != "v1" || len(r) != 1 || r[0].Conditions.ResourceNameRegex != "^kotsadm-0$" || r[0].StrategicPatches[0].PatchData != `{"spec":"x"}` {
		t.Errorf("%+v", rules)
	}
}

func TestFindSnapshots_NamesTheOneThatIsMissing(t *testing.T) {
	o, s := newOperator(t, "Completed")
	backup := func(phase string) map[string]any {
		return map[string]any{"apiVersion": "velero.io/v1", "kind": "Backup", "metadata": map[string]any{"name": "s1", "namespace": "velero"}, "status": map[string]any{"phase": phase}}
	}
	path := "/apis/velero.io/v1/namespaces/velero/backups/"
	s.Put(path+"s1", backup("Completed"))
	s.Put(path+"s2", backup("Deleting"))
	testkit.Must(t, o.FindSnapshots(t.Context(), quick(), "s1"))
	for name, want := range map[string]string{"s2": `"Deleting"`, "s3": "has not found the snapshot s3"} {
		t.Run(name, func(t *testing.T) {
			if err := o.FindSnapshots(t.Context(), kube.Wait{Timeout: 100 * time.Millisecond}, "s1", name); err == nil || !strings.Contains(err.Error(), want) {
				t.Error(err)
			}
		})
	}
}

func TestFindSnapshots_StartsVeleroAgainIfOneIsMissing(t *testing.T) {
	for name, restarted := range map[string]bool{"s1": false, "s2": true} {
		t.Run(name, func(t *testing.T) {
			o, s := newOperator(t, "Completed")
			s.Put("/apis/velero.io/v1/namespaces/velero/backups/s1", map[string]any{"apiVersion": "velero.io/v1", "kind": "Backup", "metadata": map[string]any{"name": "s1"}, "status": map[string]any{"phase": "Completed"}})
			server := "/api/v1/namespaces/velero/pods/velero-1"
			s.Put(server, map[string]any{"metadata": map[string]any{"name": "velero-1", "labels": map[string]any{"deploy": "velero"}}})
			err := o.FindSnapshots(t.Context(), kube.Wait{Timeout: 100 * time.Millisecond}, name)
			if (err != nil) != restarted || (s.Object(server) == nil) != restarted {
				t.Errorf("%v; the pod is %v", err, s.Object(server))
			}
		})
	}
}

func TestRestoredBytes_CountsTheVolumesOfOneRestore(t *testing.T) {
	o, s := newOperator(t, "Completed")
	for i, name := range []string{"s1.kotsadm", "other"} {
		s.Put("/apis/velero.io/v1/namespaces/velero/podvolumerestores/"+name, map[string]any{"apiVersion": "velero.io/v1", "kind": "PodVolumeRestore",
			"metadata": map[string]any{"name": name, "namespace": "velero", "labels": map[string]any{"velero.io/restore-name": name}},
			"status":   map[string]any{"progress": map[string]any{"totalBytes": 10 + i, "bytesDone": 4}}})
	}
	if done, total := o.restoredBytes(t.Context(), "s1.kotsadm"); done != 4 || total != 10 {
		t.Errorf("%d of %d", done, total)
	}
}

func TestLocation_IsThatOfTheCustomersStore(t *testing.T) {
	_, s := newStore(t, "Available")
	l := Location{Kube: kubetest.NewClient(t, s), Namespace: "velero", URL: "https://store:9000", Region: "r", Bucket: "b", Prefix: "p", CA: []byte("pem"), Cloud: Credentials("id", "secret"), ReadOnly: true}
	if reason, err := l.CredentialsNeeded(t.Context()); err != nil || reason == "" {
		t.Errorf("%q %v", reason, err)
	}
	testkit.Must(t, l.PutCredentials(t.Context()), l.Ensure(t.Context(), quick()))
	for _, needed := range []func(context.Context) (string, error){l.CredentialsNeeded, l.Needed} {
		if reason, err := needed(t.Context()); err != nil || reason != "" {
			t.Errorf("%q %v", reason, err)
		}
	}
	have := s.Object(locationPath)
	if field(have, "spec", "objectStorage", "prefix") != "p" || field(have, "spec", "config", "s3Url") != l.URL || field(have, "spec", "accessMode") != "ReadOnly" {
		t.Errorf("%v", have)
	}
	testkit.Must(t, AllowWrites(t.Context(), l.Kube, "velero"))
	if only, err := IsReadOnly(t.Context(), l.Kube, "velero"); err != nil || only {
		t.Errorf("read-only %v, %v", only, err)
	}
	for name, change := range map[string]func(*Location){"another bucket": func(l *Location) { l.Bucket = "c" }, "other credentials": func(l *Location) { l.Cloud = nil },
		"another authority": func(l *Location) { l.CA = nil }, "another URL": func(l *Location) { l.URL = "" }} {
		t.Run(name, func(t *testing.T) {
			other := l
			change(&other)
			if reason, err := other.Needed(t.Context()); err != nil || reason == "" {
				t.Errorf("%q %v", reason, err)
			}
		})
	}
}
