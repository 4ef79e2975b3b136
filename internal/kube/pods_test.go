package kube

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type podOption func(*corev1.Pod)

func newPod(name string, options ...podOption) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.PodStatus{Phase: corev1.PodPending}}
	for _, o := range options {
		o(&p)
	}
	return p
}

func podReady(p *corev1.Pod) {
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
}

func withContainer(cs corev1.ContainerStatus) podOption {
	return func(p *corev1.Pod) { p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, cs) }
}

// ofDaemonSet makes a pod one of DaemonSet a at a revision.
func ofDaemonSet(revision string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		controls := true
		p.Labels = map[string]string{"controller-revision-hash": revision}
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "DaemonSet", Name: "a", Controller: &controls}}
	}
}

func TestPodsReason_NamesPodThatIsNotUp(t *testing.T) {
	pulling := withContainer(corev1.ContainerStatus{Name: "main", State: corev1.ContainerState{
		Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "no route to host"},
	}})
	tests := []struct {
		name   string
		pods   []corev1.Pod
		expect []string
		want   string
	}{
		{"none", nil, nil, "no pods yet"},
		{"all up", []corev1.Pod{newPod("a-1", podReady), newPod("job", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })}, nil, ""},
		{"expected one missing", []corev1.Pod{newPod("a-1", podReady)}, []string{"a", "coredns"}, "no pod of coredns yet"},
		{"pulling", []corev1.Pod{newPod("a-1", podReady), newPod("b-1", pulling)}, nil, "1 of 2 pods Ready; pod b-1: main ErrImagePull: no route to host"},
		{"init container failed", []corev1.Pod{newPod("b-1", pulling, func(p *corev1.Pod) {
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "wait", State: corev1.ContainerState{
				Terminated: &corev1.ContainerStateTerminated{ExitCode: 3, Reason: "Error"},
			}}}
		})}, nil, "0 of 1 pods Ready; pod b-1: wait exited with code 3 (Error)"},
		{"not scheduled", []corev1.Pod{newPod("b-1", func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/1 nodes are available"}}
		})}, nil, "0 of 1 pods Ready; pod b-1: not scheduled: 0/1 nodes are available"},
		{"restarting", []corev1.Pod{newPod("b-1", withContainer(corev1.ContainerStatus{Name: "main", RestartCount: 4}))}, nil,
			"0 of 1 pods Ready; pod b-1: main is running but not Ready, 4 restarts"},
		{"evicted and terminating pods do not count", []corev1.Pod{
			newPod("a-1", podReady),
			newPod("a-0", func(p *corev1.Pod) { p.Status.Phase, p.Status.Reason = corev1.PodFailed, "Evicted" }),
			newPod("a-2", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }),
		}, nil, ""},
		{"rolling update between two pods", []corev1.Pod{newPod("a-1", podReady, ofDaemonSet("1")), newPod("a-2", podReady, ofDaemonSet("2"))},
			[]string{"a"}, "DaemonSet a replaces its pods"},
		{"updated pods", []corev1.Pod{newPod("a-1", podReady, ofDaemonSet("2")), newPod("a-2", podReady, ofDaemonSet("2"))}, []string{"a"}, ""},
		{"another's DaemonSet", []corev1.Pod{newPod("a-1", podReady, ofDaemonSet("1")), newPod("a-2", podReady, ofDaemonSet("2"))}, nil, ""},
		{"failed pod counts", []corev1.Pod{newPod("a-0", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })}, nil, "0 of 1 pods Ready; pod a-0: Failed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := podsReason(tt.pods, tt.expect); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFindFailingPod_PrefersCrashingPod(t *testing.T) {
	pods := []corev1.Pod{
		newPod("waits"), newPod("up", podReady),
		newPod("crashes", withContainer(corev1.ContainerStatus{Name: "main", RestartCount: 3})),
	}
	if p := findFailingPod(pods); p == nil || p.Name != "crashes" {
		t.Errorf("got %v", p)
	}
	if p := findFailingPod(pods[1:2]); p != nil {
		t.Errorf("returned %s, which is up", p.Name)
	}
}

func TestRolloutReason_IgnoresOutdatedStatus(t *testing.T) {
	object := func(kind string, generation int64, status map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"kind": kind, "metadata": map[string]any{"generation": generation},
			"spec": map[string]any{"replicas": int64(2)}, "status": status,
		}}
	}
	all := map[string]any{"observedGeneration": int64(3), "replicas": int64(2), "updatedReplicas": int64(2), "readyReplicas": int64(2)}
	with := func(key string, n int64) map[string]any {
		out := map[string]any{}
		for k, v := range all {
			out[k] = v
		}
		out[key] = n
		return out
	}
	tests := []struct {
		name string
		obj  *unstructured.Unstructured
		want string
	}{
		{"up", object("Deployment", 3, all), ""},
		{"status of an older generation", object("Deployment", 4, all), "has not observed the latest change yet"},
		{"half updated", object("StatefulSet", 3, with("updatedReplicas", 1)), "1 of 2 pods updated"},
		{"half ready", object("Deployment", 3, with("readyReplicas", 1)), "1 of 2 pods Ready"},
		{"old pod is terminating", object("Deployment", 3, with("replicas", 3)), "1 old pods are terminating"},
		{"daemon on no node", object("DaemonSet", 0, map[string]any{}), "not scheduled to any node yet"},
		{"daemon up", object("DaemonSet", 1, map[string]any{"observedGeneration": int64(1), "desiredNumberScheduled": int64(1), "updatedNumberScheduled": int64(1), "numberReady": int64(1)}), ""},
		{"not a workload", object("ConfigMap", 1, nil), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := rolloutReason(tt.obj); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("a: 1\n---\n---\nkind: X\n"))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		objects, err := Decode(b)
		for _, o := range objects {
			if err == nil && len(o.Object) == 0 {
				t.Error("an empty object was kept")
			}
		}
	})
}

func TestStartingPod_WaitsForPodsThatDoNotExistYet(t *testing.T) {
	running := withContainer(corev1.ContainerStatus{Name: "main", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})
	creating := withContainer(corev1.ContainerStatus{Name: "main", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}})
	refused := withContainer(corev1.ContainerStatus{Name: "main", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
		Reason: "CreateContainerConfigError", Message: "container has runAsNonRoot and image will run as root"}}})
	terminating := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }
	for name, c := range map[string]struct {
		pods        []corev1.Pod
		pod, reason string
	}{
		"none":           {nil, "", "no pod of coredns yet"},
		"all run":        {[]corev1.Pod{newPod("coredns-1", running), newPod("metrics-server-1", running)}, "", ""},
		"one is created": {[]corev1.Pod{newPod("coredns-1", running), newPod("metrics-server-1", creating)}, "metrics-server-1", "pod metrics-server-1 has not started"},
		"one is new":     {[]corev1.Pod{newPod("coredns-1", running), newPod("metrics-server-1")}, "metrics-server-1", "pod metrics-server-1 has not started"},
		"one cannot start": {[]corev1.Pod{newPod("coredns-1", refused), newPod("metrics-server-1", running)}, "coredns-1",
			"pod coredns-1 has not started: main CreateContainerConfigError: container has runAsNonRoot and image will run as root"},
		"one is missing":  {[]corev1.Pod{newPod("coredns-1", running)}, "", "no pod of metrics-server yet"},
		"one is replaced": {[]corev1.Pod{newPod("coredns-1", running), newPod("metrics-server-1", running, terminating)}, "", "no pod of metrics-server yet"},
	} {
		t.Run(name, func(t *testing.T) {
			if pod, reason := startingPod(c.pods, []string{"coredns", "metrics-server"}); pod != c.pod || reason != c.reason {
				t.Errorf("%q, %q, want %q, %q", pod, reason, c.pod, c.reason)
			}
		})
	}
}
