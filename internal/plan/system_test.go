package plan

import (
	"testing"
	"time"
)

func TestPodReplacer_ReplacesOneLatePodOfAWorkloadAndNetworkPodsNever(t *testing.T) {
	at := time.Unix(0, 0)
	n := podReplacer{now: func() time.Time { return at }}
	for _, check := range []struct { // in this order: each check depends on the ones before
		after time.Duration
		pod   string
		want  bool
	}{
		{0, "kube-router-a", false},
		{5 * time.Second, "kube-router-a", false},
		{time.Second, "metrics-server-a", false},
		{2 * time.Second, "metrics-server-a", false},
		{2 * time.Second, "metrics-server-a", true},
		{5 * time.Second, "metrics-server-a", false},
		{0, "metrics-server-b", false},
		{3 * time.Second, "metrics-server-b", false},
		{0, "coredns-a", false},
		{3 * time.Second, "coredns-a", true},
		{9 * time.Second, "", false},
	} {
		at = at.Add(check.after)
		if got := n.shouldReplace(check.pod); got != check.want {
			t.Errorf("%s at %s: %v", check.pod, at.UTC().Format("05s"), got)
		}
	}
}
