package upgrade_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/upgrade"
)

func TestCheckVersions_K0s(t *testing.T) {
	for name, c := range map[string]struct {
		was, is string
		hops    []string
		path    []string
		refused []string // parts of the only refusal; empty if there is none
	}{
		"the same":                       {was: "v1.33.8+k0s.1", is: "v1.33.8+k0s.1"},
		"a patch":                        {was: "v1.33.4+k0s.0", is: "v1.33.8+k0s.1", path: []string{"v1.33.8+k0s.1"}},
		"a release of k0s only":          {was: "v1.33.8+k0s.0", is: "v1.33.8+k0s.1", path: []string{"v1.33.8+k0s.1"}},
		"a minor":                        {was: "v1.34.4+k0s.0", is: "v1.35.1+k0s.0", path: []string{"v1.35.1+k0s.0"}},
		"a minor, with a new etcd":       {was: "v1.33.8+k0s.1", is: "v1.34.1+k0s.0", path: []string{"v1.34.1+k0s.0"}},
		"a patch is refused downwards":   {was: "v1.33.8+k0s.1", is: "v1.33.4+k0s.0", refused: []string{"lower than the installed one", "v1.33.8+k0s.1 or later"}},
		"a release of k0s is, too":       {was: "v1.33.8+k0s.1", is: "v1.33.8+k0s.0", refused: []string{"does not support older programs"}},
		"a minor is, too":                {was: "v1.34.1+k0s.0", is: "v1.33.13+k0s.1", refused: []string{"lower"}},
		"two minors":                     {was: "v1.33.8+k0s.1", is: "v1.35.1+k0s.0", refused: []string{"1.33 cannot be upgraded to 1.35", "upgrade to Kubernetes 1.34 (such as k0s v1.34.10+k0s.0) first"}},
		"three minors":                   {was: "v1.33.8+k0s.1", is: "v1.36.1+k0s.0", refused: []string{"1.33 cannot be upgraded to 1.36", "Kubernetes 1.34 (such as k0s v1.34.10+k0s.0), then to Kubernetes 1.35 (such as k0s v1.35.7+k0s.0) first"}},
		"etcd 3.5.21 to 3.6":             {was: "v1.33.4+k0s.0", is: "v1.34.1+k0s.0", refused: []string{"etcd is older than 3.5.26", "upgrade to v1.33.8+k0s.1 first"}},
		"etcd 3.5.25 to 3.6":             {was: "v1.33.8+k0s.0", is: "v1.34.10+k0s.0", refused: []string{"upgrade to v1.33.8+k0s.1 first"}},
		"etcd 3.5.21 to 3.6, two minors": {was: "v1.33.4+k0s.0", is: "v1.35.1+k0s.0", refused: []string{"etcd", "v1.33.8+k0s.1, then to Kubernetes 1.34 (such as k0s v1.34.10+k0s.0) first"}},
		"a minor before all known":       {was: "v1.31.8+k0s.0", is: "v1.33.8+k0s.1", refused: []string{"upgrade to Kubernetes 1.32 first, with a plinth that knows it"}},
		"a hop": {was: "v1.33.8+k0s.1", is: "v1.35.1+k0s.0", hops: []string{"v1.34.4+k0s.0"},
			path: []string{"v1.34.4+k0s.0", "v1.35.1+k0s.0"}},
		"hops in any order, one for etcd": {was: "v1.33.4+k0s.0", is: "v1.35.1+k0s.0", hops: []string{"v1.34.4+k0s.0", "v1.33.13+k0s.0"},
			path: []string{"v1.33.13+k0s.0", "v1.34.4+k0s.0", "v1.35.1+k0s.0"}},
		"hops that are not needed": {was: "v1.34.4+k0s.0", is: "v1.35.1+k0s.0", hops: []string{"v1.33.8+k0s.1", "v1.34.10+k0s.0", "v1.36.1+k0s.0"},
			path: []string{"v1.35.1+k0s.0"}},
		"a hop that is missing": {was: "v1.33.4+k0s.0", is: "v1.35.1+k0s.0", hops: []string{"v1.34.4+k0s.0"}, refused: []string{"upgrade to v1.33.8+k0s.1, then"}},
		"no version":            {was: "v1.33.4+k0s.0", is: "latest", refused: []string{"cannot be compared"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := upgrade.CheckVersions(upgrade.Versions{"k0s": c.was}, upgrade.Versions{"k0s": c.is}, c.hops...)
			if !slices.Equal(got.K0s, c.path) {
				t.Errorf("path %q, want %q", got.K0s, c.path)
			}
			if len(got.Refusals) != min(len(c.refused), 1) {
				t.Fatalf("refusals %q", got.Refusals)
			}
			for _, part := range c.refused {
				r := got.Refusals[0]
				if r.Exit != problem.ExitConfig || !strings.HasPrefix(r.String(), "spec.k0s.version: was "+c.was+", is "+c.is+": ") || !strings.Contains(r.String(), part) {
					t.Errorf("exit %d, %q; want %q", r.Exit, r, part)
				}
			}
		})
	}
}

func TestCheckVersions_NamesEveryDowngrade(t *testing.T) {
	was := upgrade.Versions{"k0s": "v1.33.8+k0s.1", "kotsadm": "1.131.2", "localPathStorage": "0.0.30", "registry": "3.1.2", "velero": "1.18.3"}
	is := upgrade.Versions{"k0s": "v1.33.4+k0s.0", "kotsadm": "1.130.9", "localPathStorage": "0.0.29", "registry": "3.1.1", "velero": "1.18.2", "new": "1.0.0"}
	got := upgrade.CheckVersions(was, is)
	var fields []string
	for _, r := range got.Refusals {
		fields = append(fields, strings.TrimSuffix(strings.TrimPrefix(r.Subject, "spec."), ".version"))
		if want := map[bool]int{true: problem.ExitGate, false: problem.ExitConfig}[r.Subject == "spec.kotsadm.version"]; r.Exit != want {
			t.Errorf("%s: exit %d, want %d", r, r.Exit, want)
		}
	}
	if !slices.Equal(fields, []string{"k0s", "kotsadm", "localPathStorage", "registry", "velero"}) {
		t.Errorf("refused: %q", fields)
	}
	if got := upgrade.CheckVersions(is, was); len(got.Refusals) != 0 {
		t.Errorf("the same steps upwards are refused: %q", got.Refusals)
	}
	err := upgrade.RefusalError(got.Refusals)
	if problem.ExitCode(err) != problem.ExitConfig || !strings.Contains(err.Error(), "cannot upgrade this cluster: there are 5 reasons\n  spec.k0s.version: was") {
		t.Errorf("exit %d: %v", problem.ExitCode(err), err)
	}
	if err := upgrade.RefusalErrorOf("replace the console", got.Refusals[:1]); !strings.HasPrefix(err.Error(), "cannot replace the console: spec.k0s.version: was") {
		t.Errorf("%v", err)
	}
}

func TestCheckVersions_Notes(t *testing.T) {
	for name, c := range map[string]struct {
		k0s, kots [2]string
		want      []string
	}{
		"nothing changes":                       {[2]string{"v1.34.4+k0s.0", "v1.34.4+k0s.0"}, [2]string{"1.128.0", "1.128.0"}, nil},
		"both fit":                              {[2]string{"v1.34.10+k0s.0", "v1.35.1+k0s.0"}, [2]string{"1.130.9", "1.131.2"}, nil},
		"an unknown KOTS":                       {[2]string{"v1.34.10+k0s.0", "v1.35.1+k0s.0"}, [2]string{"1.9.0", "1.9.0"}, nil},
		"no KOTS":                               {[2]string{"v1.34.10+k0s.0", "v1.35.1+k0s.0"}, [2]string{}, nil},
		"the old KOTS does not know the minor":  {[2]string{"v1.34.10+k0s.0", "v1.35.1+k0s.0"}, [2]string{"1.128.3", "1.131.2"}, []string{"KOTS 1.128.3 supports Kubernetes 1.31 to 1.34; it runs on 1.35 until KOTS is upgraded, after k0s"}},
		"the new KOTS does not know it anymore": {[2]string{"v1.33.4+k0s.0", "v1.33.8+k0s.1"}, [2]string{"1.130.4", "1.131.2"}, []string{"KOTS 1.131.2 supports Kubernetes 1.34 to 1.36; it runs on 1.33 after the upgrade"}},
		"not the newest patch": {[2]string{"v1.34.4+k0s.0", "v1.35.1+k0s.0"}, [2]string{}, []string{
			"k0s recommends the newest release of Kubernetes 1.34, v1.34.10+k0s.0, before the next minor; installed is v1.34.4+k0s.0"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := upgrade.CheckVersions(upgrade.Versions{"k0s": c.k0s[0], "kotsadm": c.kots[0]}, upgrade.Versions{"k0s": c.k0s[1], "kotsadm": c.kots[1]})
			if !slices.Equal(got.Notes, c.want) {
				t.Errorf("%q", got.Notes)
			}
		})
	}
}

func TestRules_AreConsistent(t *testing.T) {
	rules := upgrade.Rules()
	known := []string{"k0s"}
	in := spec.Installer{Spec: spec.Spec{Kotsadm: &spec.Kotsadm{}, LocalPathStorage: &spec.AddOn{}, Registry: &spec.AddOn{}, Velero: &spec.Velero{}}}
	for _, pin := range in.AddOns() {
		known = append(known, pin.Key)
	}
	if rules.MinorsPerStep != 1 {
		t.Errorf("%d minors in one step", rules.MinorsPerStep)
	}
	for _, r := range rules.Intermediate {
		if !slices.Contains(known, r.Component) || r.Reason == "" {
			t.Errorf("%+v: unknown component or no reason", r)
		}
		// The release to install must not need another step to itself, nor be reached by the rule.
		before := upgrade.CheckVersions(upgrade.Versions{r.Component: r.Install}, upgrade.Versions{r.Component: r.Target})
		if len(before.Refusals) != 0 {
			t.Errorf("%+v: from the release to install, the target is refused: %q", r, before.Refusals)
		}
	}
	for _, key := range known {
		if !slices.ContainsFunc(rules.Downgrades, func(d upgrade.Downgrade) bool { return d.Component == key && d.Reason != "" }) {
			t.Errorf("no reason why %s cannot get a lower version", key)
		}
	}
}

// Every release of the matrix can be upgraded to every later one, step by step, if the bundle contains all releases.
func TestCheckVersions_ReachesEveryLaterRelease(t *testing.T) {
	var all []string
	for _, k := range spec.Versions().Kubernetes {
		all = append(all, k.K0s...)
	}
	for i, from := range all {
		for _, to := range all[i+1:] {
			got := upgrade.CheckVersions(upgrade.Versions{"k0s": from}, upgrade.Versions{"k0s": to}, all...)
			if len(got.Refusals) != 0 || len(got.K0s) == 0 || got.K0s[len(got.K0s)-1] != to {
				t.Errorf("%s to %s: %q %q", from, to, got.K0s, got.Refusals)
			}
		}
	}
}

func FuzzCheckVersions(f *testing.F) {
	f.Add("v1.33.4+k0s.0", "v1.35.1+k0s.0", "v1.34.4+k0s.0")
	f.Add("v1.33.8+k0s.1", "v1.1000.0+k0s.0", "x")
	f.Fuzz(func(t *testing.T, was, is, hop string) {
		got := upgrade.CheckVersions(upgrade.Versions{"k0s": was}, upgrade.Versions{"k0s": is}, hop)
		if was != is && len(got.Refusals) == 0 && (len(got.K0s) == 0 || got.K0s[len(got.K0s)-1] != is) {
			t.Errorf("%q to %q by %q: %q", was, is, hop, got.K0s)
		}
	})
}
