package velero

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/wait"
)

// Operator is a running Velero.
type Operator struct {
	Kube      *kube.Client
	Namespace string
	Now       func() time.Time // the clock; nil for time.Now
}

const apiVersion = "velero.io/v1"

// Restore is a restore of a part of a snapshot.
type Restore struct {
	Name       string
	Snapshot   string
	Labels     map[string]string // of the objects to restore; nil for all
	Namespaces []string          // nil for all
	Resources  []string          // kinds to restore, in the plural; nil for all
	Rules      []ModifierRule    // how objects are changed
	// Annotations are those of the Restore object.
	Annotations map[string]string
}

// ModifierRule is how objects are changed when they are restored.
type ModifierRule struct {
	On    ModifierConditions
	Patch any // a strategic merge patch
}

// ModifierConditions are the objects to which a rule applies: those of a kind with a name.
type ModifierConditions struct{ GroupResource, Namespace, Name string }

// rulesKey is the key of the ConfigMap with the rules of a restore. Any name will do.
const rulesKey = "rules.yaml"

// marshalRules returns rules in the format of Velero's resource modifiers (Velero 1.18.3, internal/resourcemodifiers).
func marshalRules(rules []ModifierRule) (string, error) {
	var all []any
	for _, r := range rules {
		patch, err := json.Marshal(r.Patch)
		if err != nil {
			return "", err
		}
		all = append(all, map[string]any{
			"conditions": map[string]any{"groupResource": r.On.GroupResource, "namespaces": []string{r.On.Namespace},
				"resourceNameRegex": "^" + strings.ReplaceAll(r.On.Name, ".", `\.`) + "$"},
			"strategicPatches": []any{map[string]any{"patchData": string(patch)}}})
	}
	raw, err := json.Marshal(map[string]any{"version": "v1", "resourceModifierRules": all}) // JSON is YAML
	return string(raw), err
}

func (o Operator) object(kind, name string) kube.Object {
	return kube.Object{APIVersion: apiVersion, Kind: kind, Namespace: o.Namespace, Name: name}
}

// SnapshotReason returns why a snapshot cannot be restored yet, or "" if it can.
func (o Operator) SnapshotReason(ctx context.Context, name string) (string, error) {
	have, err := o.Kube.Get(ctx, o.object("Backup", name))
	if errors.Is(err, kube.ErrNotFound) {
		return "Velero has not found the snapshot " + name + " in the store yet", nil
	}
	if err != nil {
		return "", err
	}
	if phase, _, _ := unstructured.NestedString(have.Object, "status", "phase"); phase != phaseCompleted {
		return fmt.Sprintf("the phase of the snapshot %s is %q", name, phase), nil
	}
	return "", nil
}

// FindSnapshots waits until SnapshotReason is "" for all names. Velero lists a store when it starts, and then once a minute
// (Velero 1.18.3, pkg/controller/backup_sync_controller.go): it is started again if it has not found them.
func (o Operator) FindSnapshots(ctx context.Context, w kube.Wait, names ...string) error {
	for _, name := range names {
		if _, err := o.Kube.Get(ctx, o.object("Backup", name)); errors.Is(err, kube.ErrNotFound) {
			if err := o.restartServer(ctx); err != nil {
				return err
			}
			break
		}
	}
	return o.wait(ctx, w, "Velero to find the snapshot", func(ctx context.Context) (bool, string, error) {
		for _, name := range names {
			reason, err := o.SnapshotReason(ctx, name)
			if err != nil {
				return false, err.Error(), nil
			}
			if reason != "" {
				return false, reason, nil
			}
		}
		return true, "", nil
	})
}

// restartServer deletes the pod of Velero's server; its Deployment starts another one.
func (o Operator) restartServer(ctx context.Context) error {
	pods, err := o.Kube.Pods(ctx, o.Namespace, "deploy=velero")
	for _, name := range pods {
		err = errors.Join(err, o.Kube.Delete(ctx, kube.Object{APIVersion: "v1", Kind: "Pod", Namespace: o.Namespace, Name: name}))
	}
	return err
}

// WaitStarted waits until restores exist that the console creates.
func (o Operator) WaitStarted(ctx context.Context, w kube.Wait, names ...string) error {
	return o.wait(ctx, w, "the restore of the application to begin", func(ctx context.Context) (bool, string, error) {
		for _, name := range names {
			s, err := o.RestoreState(ctx, name)
			if err != nil {
				return false, err.Error(), nil
			}
			if !s.Exists {
				return false, "the console has not begun the restore " + name, nil
			}
		}
		return true, "", nil
	})
}

// WaitGone waits until list returns no names. what names the objects in messages.
func (o Operator) WaitGone(ctx context.Context, w kube.Wait, what string, list func(context.Context) ([]string, error)) error {
	return o.wait(ctx, w, what+" to be removed", func(ctx context.Context) (bool, string, error) {
		names, err := list(ctx)
		if err != nil {
			return false, err.Error(), nil
		}
		if len(names) == 0 {
			return true, "", nil
		}
		return false, names[0] + " still exists", nil
	})
}

// RestoreState is the state of a restore. The zero value is that of one that does not exist.
type RestoreState struct {
	Exists bool
	Done   bool   // it has ended without an error
	Failed string // why it has failed; "" if it has not
	Phase  string // as Velero names it, or in words while Velero has not begun
}

// Reason returns why the restore is not done, or "".
func (s RestoreState) Reason() string {
	switch {
	case s.Done:
		return ""
	case s.Failed != "":
		return s.Failed
	case !s.Exists:
		return "it is not restored"
	}
	return "it is being restored: " + s.Phase
}

// RestoreState returns the state of the restore name.
func (o Operator) RestoreState(ctx context.Context, name string) (s RestoreState, err error) {
	have, err := o.Kube.Get(ctx, o.object("Restore", name))
	if errors.Is(err, kube.ErrNotFound) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	return parseRestoreState(have), nil
}

func parseRestoreState(restore *unstructured.Unstructured) RestoreState {
	phase, _, _ := unstructured.NestedString(restore.Object, "status", "phase")
	s := RestoreState{Exists: true, Done: phase == phaseCompleted, Phase: phase}
	if phase == "" {
		s.Phase = "Velero has not begun"
	}
	if strings.Contains(phase, "Failed") {
		s.Failed = "Velero reports " + phase
		if n, _, _ := unstructured.NestedInt64(restore.Object, "status", "errors"); n > 0 {
			s.Failed += fmt.Sprintf(" with %d errors", n)
		}
		reason, _, _ := unstructured.NestedString(restore.Object, "status", "failureReason")
		more, _, _ := unstructured.NestedStringSlice(restore.Object, "status", "validationErrors")
		for _, text := range append(more, reason) {
			if text != "" {
				s.Failed += "; " + text
			}
		}
	}
	return s
}

// RegistryResources returns the kinds of a registry's objects that have its content: a pod of it, by which Velero reads
// and writes the volume, and what the pod needs to start.
func RegistryResources() []string {
	return []string{"pods", "configmaps", "persistentvolumeclaims", "persistentvolumes"}
}

// Start begins a restore and returns without waiting for its end. One of that name that has failed must be removed before.
func (o Operator) Start(ctx context.Context, r Restore) error {
	spec := map[string]any{"backupName": r.Snapshot, "restorePVs": true, "includeClusterResources": true}
	if r.Labels != nil {
		spec["labelSelector"] = map[string]any{"matchLabels": stringMap(r.Labels)}
	}
	if r.Namespaces != nil {
		spec["includedNamespaces"] = stringList(r.Namespaces)
	}
	if r.Resources != nil {
		spec["includedResources"] = stringList(r.Resources)
	}
	if len(r.Rules) > 0 {
		rules, err := marshalRules(r.Rules)
		if err != nil {
			return err
		}
		if err := o.Kube.Apply(ctx, o.Namespace, &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap",
			"metadata": map[string]any{"name": r.Name}, "data": map[string]any{rulesKey: rules}}}); err != nil {
			return err
		}
		spec["resourceModifier"] = map[string]any{"kind": "ConfigMap", "name": r.Name}
	}
	meta := map[string]any{"name": r.Name, "namespace": o.Namespace}
	if r.Annotations != nil {
		meta["annotations"] = stringMap(r.Annotations)
	}
	return o.Kube.Apply(ctx, o.Namespace, &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": "Restore", "metadata": meta, "spec": spec}})
}

func stringMap(m map[string]string) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

func stringList(l []string) (out []any) {
	for _, v := range l {
		out = append(out, v)
	}
	return out
}

// Remove removes a restore and waits until it is gone: Velero removes its logs in the store first.
func (o Operator) Remove(ctx context.Context, w kube.Wait, name string) error {
	if err := o.Kube.Delete(ctx, o.object("Restore", name)); err != nil {
		return err
	}
	return o.wait(ctx, w, "Velero to remove the restore "+name, func(ctx context.Context) (bool, string, error) {
		s, err := o.RestoreState(ctx, name)
		if err != nil {
			return false, err.Error(), nil
		}
		return !s.Exists, "it still exists", nil
	})
}

// Limits of a restore. Volumes may be large, so that only one without any progress is given up.
const (
	restoreTimeout = 7 * 24 * time.Hour
	restoreStalled = 30 * time.Minute
)

// stall finds out that a state has not changed for longer than restoreStalled.
type stall struct {
	now   func() time.Time // nil for time.Now
	state string
	since time.Time
}

// isOver reports whether nothing has changed for too long, after the state was read again.
func (s *stall) isOver(state string) bool {
	now := time.Now
	if s.now != nil {
		now = s.now
	}
	at := now()
	if s.since.IsZero() || state != s.state {
		s.state, s.since = state, at
	}
	return at.Sub(s.since) > restoreStalled
}

// WaitRestore waits until a restore is done, as long as it makes progress, and reports the bytes of the volumes.
func (o Operator) WaitRestore(ctx context.Context, w kube.Wait, name string) error {
	w.Timeout = restoreTimeout
	progress := stall{now: o.Now}
	return o.wait(ctx, w, "Velero to restore "+name, func(ctx context.Context) (bool, string, error) {
		s, err := o.RestoreState(ctx, name)
		if err != nil {
			return false, err.Error(), nil
		}
		if s.Failed != "" {
			return false, "", &FailedError{Name: name, Reason: s.Failed}
		}
		if s.Done {
			return true, "", nil
		}
		done, total := o.restoredBytes(ctx, name)
		if w.Report != nil && total > 0 {
			w.Report("restoring volumes", done, total)
		}
		state := fmt.Sprintf("%s %d", s.Reason(), done)
		if progress.isOver(state) {
			return false, "", &FailedError{Name: name, Reason: fmt.Sprintf("nothing has changed for %s: %s", restoreStalled, s.Reason())}
		}
		return false, s.Reason(), nil
	})
}

// FailedError is a restore that Velero has ended with errors.
type FailedError struct{ Name, Reason string }

// Error returns the reason.
func (e *FailedError) Error() string { return "the restore " + e.Name + " failed: " + e.Reason }

// Hint names the commands that show more.
func (e *FailedError) Hint() string {
	return "see the log: sudo plinth kubectl logs -n velero deployment/velero; then run the same command again"
}

// restoredBytes returns how many bytes of the volumes of a restore are restored, and how many they have, as far as
// Velero has counted them.
func (o Operator) restoredBytes(ctx context.Context, name string) (done, total int64) {
	raw, err := o.Kube.GetRaw(ctx, "/apis/"+apiVersion+"/namespaces/"+o.Namespace+"/podvolumerestores")
	if err != nil {
		return 0, 0
	}
	var list struct {
		Items []struct {
			Metadata struct {
				Labels map[string]string `json:"labels"`
			} `json:"metadata"`
			Status struct {
				Progress struct {
					TotalBytes int64 `json:"totalBytes"`
					BytesDone  int64 `json:"bytesDone"`
				} `json:"progress"`
			} `json:"status"`
		} `json:"items"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return 0, 0
	}
	for _, i := range list.Items {
		if i.Metadata.Labels["velero.io/restore-name"] == name {
			done, total = done+i.Status.Progress.BytesDone, total+i.Status.Progress.TotalBytes
		}
	}
	return done, total
}

func (o Operator) wait(ctx context.Context, w kube.Wait, what string, cond wait.Condition) error {
	opts := wait.Options{What: what, Timeout: w.Timeout, Interval: time.Second, Diagnose: func(ctx context.Context) string {
		if cause := o.Kube.Diagnose(ctx, o.Namespace, ""); cause != "" || w.Diagnose == nil {
			return cause
		}
		return w.Diagnose(ctx)
	}, NextCommand: "sudo plinth kubectl logs -n " + o.Namespace + " deployment/velero"}
	if w.Report != nil {
		opts.OnReason = func(reason string) { w.Report(reason, 0, 0) }
	}
	return wait.Until(ctx, opts, cond)
}

// EnsureRestored has Velero restore r, unless that is done: it waits for a restore that has begun. One that has failed is
// removed and begun again; clean is called before and removes what it has restored, nil for nothing.
func (o Operator) EnsureRestored(ctx context.Context, w kube.Wait, r Restore, clean func(context.Context) error) error {
	s, err := o.RestoreState(ctx, r.Name)
	if err != nil {
		return err
	}
	if s.Failed != "" {
		w := w
		w.Timeout = removeTimeout
		if err := o.Remove(ctx, w, r.Name); err != nil {
			return err
		}
		if clean != nil {
			if err := clean(ctx); err != nil {
				return err
			}
		}
		s.Exists = false
	}
	if !s.Exists {
		if err := o.Start(ctx, r); err != nil {
			return err
		}
	}
	err = o.WaitRestore(ctx, w, r.Name)
	var failed *FailedError
	if errors.As(err, &failed) {
		return problem.New(problem.ExitStep, "restore the snapshot "+r.Snapshot, err, failed.Hint())
	}
	return err
}

// removeTimeout is how long the removal of a failed restore may take.
const removeTimeout = 5 * time.Minute
