package velero

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/plinthdev/plinth/internal/kube"
)

// Overview is what is known of the snapshots of a cluster.
type Overview struct {
	Last   EndedSnapshot   // the newest complete one; zero for none
	Failed []EndedSnapshot // the newest of each kind, if it failed
	// Missing are the claims, as NAMESPACE/NAME, whose data Last should have and does not have, sorted. Velero leaves out the
	// volumes of a pod that does not run, with a mere warning in its log, and those of markedNames.
	Missing []string
}

// EndedSnapshot is a snapshot that has ended.
type EndedSnapshot struct {
	Name      string
	TakenAt   time.Time // when it was started
	Failure   string    // why it is not complete; "" if it is
	InConsole bool      // the console lists it, with its log
}

// markAnnotation is the annotation of pods with the names of the volumes to back up, separated by commas.
const markAnnotation = "backup.velero.io/backup-volumes"

// markedNames returns the names that annotations of a pod mark for backups, without the spaces around them. Velero keeps those
// spaces, and knows no volume " b" of "a, b" (Velero 1.18.3, pkg/util/podvolume/pod_volume.go: GetVolumesToBackup): it leaves
// out that volume without a word, so that it is missing in each snapshot.
func markedNames(annotations map[string]string) (names []string) {
	for name := range strings.SplitSeq(annotations[markAnnotation], ",") {
		names = append(names, strings.TrimSpace(name))
	}
	return names
}

// clusterBackup is the part of a Backup of Velero that is read.
type clusterBackup struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		IncludedNamespaces []string                `json:"includedNamespaces"`
		ExcludedNamespaces []string                `json:"excludedNamespaces"`
		LabelSelector      *metav1.LabelSelector   `json:"labelSelector"`
		OrLabelSelectors   []*metav1.LabelSelector `json:"orLabelSelectors"`
	} `json:"spec"`
	Status struct {
		Phase            string      `json:"phase"`
		Errors           int         `json:"errors"`
		FailureReason    string      `json:"failureReason"`
		ValidationErrors []string    `json:"validationErrors"`
		StartTimestamp   metav1.Time `json:"startTimestamp"`
	} `json:"status"`
}

// volumeBackup is the part of a PodVolumeBackup of Velero that is read.
type volumeBackup struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Pod    corev1.ObjectReference `json:"pod"`
		Volume string                 `json:"volume"`
		Tags   map[string]string      `json:"tags"`
	} `json:"spec"`
	Status struct {
		Phase   string `json:"phase"`
		Message string `json:"message"`
	} `json:"status"`
}

// claimAnnotation is the annotation of a PodVolumeBackup with the name of the claim (Velero 1.18.3,
// pkg/podvolume/configs/configs.go).
const claimAnnotation = "velero.io/pvc-name"

// workload is what starts pods with volumes.
type workload struct {
	metav1.ObjectMeta
	pods   corev1.PodTemplateSpec
	claims []string // prefixes of the names of claims of a StatefulSet, by their templates' names and its own
}

// clusterState is what Overview is made of.
type clusterState struct {
	backups   []clusterBackup
	volumes   []volumeBackup
	workloads []workload
	claims    []corev1.PersistentVolumeClaim
}

// ReadOverview returns what is known of the snapshots of the Velero in a namespace.
func ReadOverview(ctx context.Context, client *kube.Client, namespace string) (Overview, error) {
	var s clusterState
	var err error
	if s.backups, err = list[clusterBackup](ctx, client, "/apis/"+apiVersion+"/namespaces/"+namespace+"/backups"); err != nil || len(s.backups) == 0 {
		return Overview{}, err
	}
	if s.volumes, err = list[volumeBackup](ctx, client, "/apis/"+apiVersion+"/namespaces/"+namespace+"/podvolumebackups"); err != nil {
		return Overview{}, err
	}
	deployments, err := list[appsv1.Deployment](ctx, client, "/apis/apps/v1/deployments")
	if err != nil {
		return Overview{}, err
	}
	for _, d := range deployments {
		s.workloads = append(s.workloads, workload{ObjectMeta: d.ObjectMeta, pods: d.Spec.Template})
	}
	sets, err := list[appsv1.StatefulSet](ctx, client, "/apis/apps/v1/statefulsets")
	if err != nil {
		return Overview{}, err
	}
	for _, set := range sets {
		w := workload{ObjectMeta: set.ObjectMeta, pods: set.Spec.Template}
		for _, c := range set.Spec.VolumeClaimTemplates {
			w.claims = append(w.claims, c.Name)
		}
		s.workloads = append(s.workloads, w)
	}
	if s.claims, err = list[corev1.PersistentVolumeClaim](ctx, client, "/api/v1/persistentvolumeclaims"); err != nil {
		return Overview{}, err
	}
	return s.overview(), nil
}

// list returns a collection of objects.
func list[T any](ctx context.Context, client *kube.Client, path string) ([]T, error) {
	raw, err := client.ListRaw(ctx, path)
	if err != nil {
		return nil, err
	}
	var all struct {
		Items []T `json:"items"`
	}
	err = json.Unmarshal(raw, &all)
	return all.Items, err
}

// overview returns the overview of s.
func (s clusterState) overview() (o Overview) {
	ended := slices.DeleteFunc(slices.Clone(s.backups), func(b clusterBackup) bool { return !b.hasFailed() && b.Status.Phase != phaseCompleted })
	slices.SortStableFunc(ended, func(a, b clusterBackup) int { return b.takenAt().Compare(a.takenAt()) })
	seen := map[string]bool{}
	for _, b := range ended {
		if b.hasFailed() && !seen[b.kind()] {
			o.Failed = append(o.Failed, EndedSnapshot{Name: b.Name, TakenAt: b.takenAt(), Failure: s.failure(b), InConsole: b.isInConsole()})
		}
		seen[b.kind()] = true
		if !b.hasFailed() && o.Last.Name == "" && b.Annotations[RegistryOfAnnotation] == "" {
			o.Last, o.Missing = EndedSnapshot{Name: b.Name, TakenAt: b.takenAt(), InConsole: b.isInConsole()}, s.missing(b)
		}
	}
	return o
}

// hasFailed reports whether b has ended without all that it should have.
func (b clusterBackup) hasFailed() bool {
	return slices.Contains([]string{"Failed", "PartiallyFailed", "FailedValidation"}, b.Status.Phase)
}

// takenAt returns when b was started. One that Velero has refused was never started.
func (b clusterBackup) takenAt() time.Time {
	if b.Status.StartTimestamp.IsZero() {
		return b.CreationTimestamp.UTC()
	}
	return b.Status.StartTimestamp.UTC()
}

// kind returns what b is of, so that a good snapshot of one application does not hide a failed one of everything (KOTS 1.131.2,
// pkg/kotsadmsnapshot/types/types.go).
func (b clusterBackup) kind() string {
	if b.Annotations[instanceAnnotation] == "true" {
		return "full"
	}
	if b.Annotations[RegistryOfAnnotation] != "" {
		return "registry"
	}
	return cmp.Or(b.Annotations[appAnnotation], b.Labels["velero.io/schedule-name"])
}

// isInConsole reports whether the console lists b: a full snapshot, or one of an application.
func (b clusterBackup) isInConsole() bool {
	return b.Annotations[instanceAnnotation] == "true" || b.Annotations[appAnnotation] != ""
}

// failure returns why b failed, in Velero's words.
func (s clusterState) failure(b clusterBackup) string {
	why := cmp.Or(b.Status.FailureReason, strings.Join(b.Status.ValidationErrors, "; "))
	for _, v := range s.volumes {
		if why == "" && v.isOf(b) && v.Status.Phase != phaseCompleted {
			why = fmt.Sprintf("the volume %s of pod %s/%s: %s", v.Spec.Volume, v.Spec.Pod.Namespace, v.Spec.Pod.Name, cmp.Or(v.Status.Message, v.Status.Phase))
		}
	}
	if why == "" {
		why = fmt.Sprintf("errors in its log: %d", b.Status.Errors)
	}
	return b.Status.Phase + ": " + strings.Join(strings.Fields(why), " ")
}

// isOf reports whether v is a volume in b. Its label is a part of the name only, if that is long.
func (v volumeBackup) isOf(b clusterBackup) bool {
	return v.Spec.Tags["backup"] == b.Name
}

// SkippedWarning returns the warning of claims on volumes of the type hostPath, "" for none.
func SkippedWarning(claims []kube.PVC) string {
	if len(claims) == 0 {
		return ""
	}
	var names []string
	for _, c := range claims {
		names = append(names, c.String())
	}
	return "snapshots leave out the data of volumes of the type hostPath, those of the claims " + strings.Join(names, ", ") +
		"; how to change their type: docs/guide/snapshots.md"
}

// missing returns the claims whose data should be in b, but is not: pods that b selects mark them for backups.
func (s clusterState) missing(b clusterBackup) (missing []string) {
	has := map[string]bool{}
	for _, v := range s.volumes {
		if v.isOf(b) && v.Status.Phase == phaseCompleted {
			has[v.Spec.Pod.Namespace+"/"+v.Annotations[claimAnnotation]] = true
		}
	}
	for _, w := range s.workloads {
		if w.CreationTimestamp.After(b.takenAt()) || !b.selects(w.Namespace, w.pods.Labels) {
			continue
		}
		for _, c := range s.claims {
			name := c.Namespace + "/" + c.Name
			if c.Namespace == w.Namespace && !c.CreationTimestamp.After(b.takenAt()) && w.marks(c.Name) && !has[name] {
				missing = append(missing, name)
			}
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}

// selects reports whether pods with these labels in a namespace belong in b.
func (b clusterBackup) selects(namespace string, pod map[string]string) bool {
	in := b.Spec.IncludedNamespaces
	if len(in) > 0 && !slices.Contains(in, "*") && !slices.Contains(in, namespace) || slices.Contains(b.Spec.ExcludedNamespaces, namespace) {
		return false
	}
	matches := func(selector *metav1.LabelSelector) bool {
		parsed, err := metav1.LabelSelectorAsSelector(selector)
		return err == nil && parsed.Matches(labels.Set(pod))
	}
	switch {
	case b.Spec.LabelSelector != nil:
		return matches(b.Spec.LabelSelector)
	case len(b.Spec.OrLabelSelectors) > 0:
		return slices.ContainsFunc(b.Spec.OrLabelSelectors, matches)
	}
	return true
}

// marks reports whether the pods of w mark the volume of a claim for backups.
func (w workload) marks(claim string) bool {
	for _, marked := range markedNames(w.pods.Annotations) {
		for _, v := range w.pods.Spec.Volumes {
			if v.Name == marked && v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim {
				return true
			}
		}
		if !slices.Contains(w.claims, marked) {
			continue
		}
		number, ok := strings.CutPrefix(claim, marked+"-"+w.Name+"-")
		if _, err := strconv.ParseUint(number, 10, 31); ok && err == nil {
			return true
		}
	}
	return false
}
