package spec_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/testkit"
)

// pairs returns pairs of versions; those without KOTS have none.
func pairs() []spec.Pair {
	return []spec.Pair{
		{K0s: "v1.33.8+k0s.1"}, {K0s: "v1.33.8+k0s.1", Kotsadm: "1.131.2"}, {K0s: "v1.33.8+k0s.1", Kotsadm: "1.130.4"},
		{K0s: "v1.33.6+k0s.0", Kotsadm: "1.130.9"}, {K0s: "v1.34.10+k0s.0", Kotsadm: "1.131.2"}, {K0s: "v1.35.7+k0s.0", Kotsadm: "1.131.2"},
		{K0s: "v1.35.99+k0s.0", Kotsadm: "1.130.4"}, {K0s: "v1.36.3+k0s.2", Kotsadm: "1.130.4"}, {K0s: "v1.36.3+k0s.2", Kotsadm: "1.124.18"},
		{K0s: "v1.36.3+k0s.2", Kotsadm: "1.999.0"}, {K0s: "v1.36.3+k0s.2", Kotsadm: "1.108.0"},
		{K0s: "v1.20.0+k0s.0"}, {K0s: "v1.32.13+k0s.0", Kotsadm: "1.131.2"}, {K0s: "v1.37.0+k0s.0"}, {K0s: "v9.99.0+k0s.0"}, {K0s: "v2.33.8+k0s.1"},
		{K0s: "v1.34.0-rc.1+k0s.0"}, {K0s: "v1.37.0-alpha.1+k0s.0"}, {K0s: "v1.33.8+k3s1"}, {K0s: "v1.33.8+rke2r1"}, {K0s: "v1.33.8"},
	}
}

// installPair returns an Installer with the versions of p.
func installPair(p spec.Pair) string {
	text := header + "spec:\n  k0s: {version: " + p.K0s + "}\n  localPathStorage: {version: 0.0.30}\n"
	if p.Kotsadm != "" {
		text += "  kotsadm: {version: " + p.Kotsadm + "}\n"
	}
	return text
}

func TestValidateVersions_MatchesGolden(t *testing.T) {
	var b strings.Builder
	for _, p := range pairs() {
		rep := spec.Lint([]spec.File{{Name: "i.yaml", Data: []byte(installPair(p))}}, spec.ValidateVersions)
		fmt.Fprintf(&b, "k0s %s, KOTS %q: exit %d\n", p.K0s, p.Kotsadm, problem.ExitCode(rep.Err("lint")))
		for _, f := range rep.Findings {
			fmt.Fprintf(&b, "  %s\n", f)
		}
	}
	testkit.Golden(t, "testdata/versions-matrix.txt", []byte(b.String()))
}

// veleroPairs returns versions of KOTS with versions of Velero.
func veleroPairs() [][2]string {
	return [][2]string{{"1.131.2", "1.18.3"}, {"1.130.9", "1.18.3"}, {"1.130.7", "1.18.3"}, {"1.130.6", "1.18.3"}, {"1.131.2", "1.19.0"}, {"1.131.2", "1.10.0"},
		{"1.131.2", "2.18.0"}, {"1.117.3", "1.14.1"}, {"1.117.3", "1.15.0"}, {"1.117.2", "1.11.0"}, {"", "1.19.0"}}
}

func TestValidateVersions_RefusesVeleroThatKOTSDoesNotSupport(t *testing.T) {
	var b strings.Builder
	for _, v := range veleroPairs() {
		text := installPair(spec.Pair{K0s: "v1.33.8+k0s.1", Kotsadm: v[0]}) + "  velero: {version: " + v[1] + "}\n"
		rep := spec.Lint([]spec.File{{Name: "i.yaml", Data: []byte(text)}}, spec.ValidateVersions)
		fmt.Fprintf(&b, "KOTS %q, Velero %s: exit %d\n", v[0], v[1], problem.ExitCode(rep.Err("lint")))
		for _, f := range rep.Findings {
			if f.Rule == "kots-velero" {
				fmt.Fprintf(&b, "  %s\n", f)
			}
		}
	}
	testkit.Golden(t, "testdata/versions-velero.txt", []byte(b.String()))
}

// A cluster of a k0s that this build no longer installs must still be read.
func TestParseInstaller_ReadsK0sThatIsNotInstallable(t *testing.T) {
	if in, findings := spec.ParseInstaller("old.yaml", []byte(installPair(spec.Pair{K0s: "v1.20.0+k0s.0"}))); in == nil || len(findings) > 0 {
		t.Errorf("%v", findings)
	}
}

func TestHasChange_HoldsFromItsRelease(t *testing.T) {
	changes := []spec.Change{spec.UpdateProberComponent, spec.KubeletRefusesCgroupV1, "k0s-refuses-cgroup-v1", spec.Containerd2, "pause-by-tag", "etcd-learners"}
	for version, want := range map[string]string{
		"v1.20.0+k0s.0": "......", "v1.33.4+k0s.0": "......", "v1.33.6+k0s.0": "x.....", "v1.33.8+k0s.1": "x.....", "v1.34.10+k0s.0": "x.....",
		"v1.35.0-dev+k0s.0": "xx....", "v1.35.3+k0s.0": "xx....", "v1.35.4+k0s.0": "xxx...", "v1.35.7+k0s.0": "xxx...",
		"v1.36.0-dev+k0s.0": "xx.xx.", "v1.36.1+k0s.0": "xxxxxx", "v1.36.3+k0s.2": "xxxxxx", "v1.37.0+k0s.0": "xxxxxx",
		"": "......", "1.36.3+k0s.2": "......", "v1.36.3+k3s1": "......", "v1.36": "......",
	} {
		t.Run(version, func(t *testing.T) {
			got := ""
			for _, change := range changes {
				got += map[bool]string{true: "x", false: "."}[spec.HasChange(version, change)]
			}
			if got != want {
				t.Errorf("got %s, want %s, of %v", got, want, changes)
			}
		})
	}
	if spec.HasChange("v1.36.3+k0s.2", "no-such-change") {
		t.Error("an unknown change holds")
	}
}

func TestKubernetesMinor_IsZeroForOtherTexts(t *testing.T) {
	for version, want := range map[string]int{"v1.33.8+k0s.1": 33, "v1.36.0-dev+k0s.0": 36, "": 0, "v1": 0, "v1.x.0+k0s.0": 0, "v1.33.8": 0, "v1.33.8+k3s1": 0, "v2.33.8+k0s.1": 0} {
		t.Run(version, func(t *testing.T) {
			if got := spec.KubernetesMinor(version); got != want {
				t.Errorf("got %d, want %d", got, want)
			}
		})
	}
}

func TestVersions_AreConsistent(t *testing.T) {
	m := spec.Versions()
	for i, k := range m.Kubernetes {
		if i > 0 && (k.Minor != m.Kubernetes[i-1].Minor+1 || !k.EndOfLife.After(m.Kubernetes[i-1].EndOfLife)) {
			t.Errorf("1.%d does not follow 1.%d", k.Minor, m.Kubernetes[i-1].Minor)
		}
		for _, release := range k.K0s {
			if message, _ := spec.CheckValue("version-exact/k0s", release); message != "" || spec.KubernetesMinor(release) != k.Minor || !m.IsInstallable(release) {
				t.Errorf("%s: %s", release, message)
			}
		}
		checkAscending(t, k.K0s)
		if m.NewestKOTS(k.Minor) == "" {
			t.Errorf("no KOTS supports 1.%d", k.Minor)
		}
	}
	checkAscending(t, m.KOTSReleases())
	for _, r := range m.KOTS {
		for _, release := range r.Releases {
			if got, ok := m.SupportedKubernetes(release); !ok || got != r.Kubernetes || got[0] > got[1] {
				t.Errorf("KOTS %s supports %v, want %v", release, got, r.Kubernetes)
			}
		}
	}
	for _, p := range m.Tried {
		i := slices.IndexFunc(m.Kubernetes, func(k spec.MinorReleases) bool { return slices.Contains(k.K0s, p.K0s) })
		if i < 0 || !slices.Contains(m.KOTSReleases(), p.Kotsadm) {
			t.Errorf("the pair %v is not among the known releases", p)
		}
	}
	var ids []string
	for _, c := range m.Changes {
		checkAscending(t, c.Since)
		ids = append(ids, string(c.ID))
	}
	for _, used := range []spec.Change{spec.UpdateProberComponent, spec.Containerd2, spec.KubeletRefusesCgroupV1} {
		if !slices.Contains(ids, string(used)) {
			t.Errorf("no change %s", used)
		}
	}
	if m.AsOf.IsZero() || m.AsOf.After(time.Now().AddDate(0, 0, 1)) {
		t.Errorf("as of %s", m.AsOf)
	}
}

// checkAscending checks that versions are in ascending order; build parts count as numbers.
func checkAscending(t *testing.T, versions []string) {
	t.Helper()
	if len(versions) == 0 {
		t.Error("no versions")
	}
	for i := 1; i < len(versions); i++ {
		was, is := semver.MustParse(versions[i-1]), semver.MustParse(versions[i])
		if is.LessThan(was) || is.Equal(was) && is.Metadata() <= was.Metadata() {
			t.Errorf("%s comes before %s", versions[i-1], versions[i])
		}
	}
}

func TestVersions_IncludeTheRootInstallerAsTried(t *testing.T) {
	in, _ := spec.ParseInstaller("installer.yaml", readFile(t, "../../installer.yaml").Data)
	if in == nil || !slices.Contains(spec.Versions().Tried, spec.Pair{K0s: in.Spec.K0s.Version, Kotsadm: in.Spec.Kotsadm.Version}) {
		t.Error("the end-to-end tests install the root Installer, and the matrix does not list it as tried")
	}
}

// wrap returns words separated by commas in lines of at most 118 columns.
func wrap(words []string) string {
	var b strings.Builder
	column := 0
	for i, w := range words {
		if i < len(words)-1 {
			w += ","
		}
		switch {
		case column == 0:
		case column+1+len(w) > 118:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(w)
		column += len(w)
	}
	return b.String()
}

func TestVersionReference_IsUpToDate(t *testing.T) {
	m := spec.Versions()
	day := func(d time.Time) string { return d.Format(time.DateOnly) }
	var b strings.Builder
	fmt.Fprintf(&b, `# Versions

<!-- Generated by the tests of internal/spec; refresh with: go test ./internal/spec -update -->

What this build of Plinth knows about versions, as of %s. The data and their sources are in
[versions.yaml](../../internal/spec/versions.yaml). `+"`plinth lint`"+` checks an Installer against them:

| Installer | result |
|---|---|
| k0s of a Kubernetes minor that is not in the table below, or a pre-release of k0s | error `+"`k0s-version`"+`, exit code 3 |
| k0s of another distribution, such as v1.33.8+k3s1 | error `+"`version-exact`"+`, exit code 3 |
| a Kubernetes minor past its end of life | warning `+"`k0s-end-of-life`"+` |
| KOTS on a Kubernetes minor that it does not support | warning `+"`kots-kubernetes`"+` |
| a version of Velero that KOTS does not support | error `+"`kots-velero`"+`, exit code 3 |
| a pair of versions that the end-to-end tests do not install | warning `+"`version-untried`"+` |

The end of life is judged by the day of the data, %[1]s, and not by the clock: the same build of Plinth gives the
same findings for the same file at any time, on any machine. A newer Plinth has newer data.

## Choose versions

1. KOTS: one that this build installs ([spec.kotsadm](../guide/installer.md#speckotsadm)) and that your Application's
   minKotsVersion and targetKotsVersion allow.
2. k0s: the newest release of a minor that this KOTS supports and that is not past its end of life, from the tables below.
3. A pair that was not tried gets the warning `+"`version-untried`"+`: install it on a host of your own before you ship it.

The images of k0s's own components, such as kube-proxy and CoreDNS, follow the release of k0s: they come from a
[table](images.md), or from that k0s itself.

## Kubernetes and k0s

| Kubernetes | end of life | newest k0s | newest KOTS for it |
|---|---|---|---|
`, day(m.AsOf))
	for _, k := range m.Kubernetes {
		fmt.Fprintf(&b, "| 1.%d | %s | %s | %s |\n", k.Minor, day(k.EndOfLife), k.K0s[len(k.K0s)-1], m.NewestKOTS(k.Minor))
	}
	b.WriteString(`
Any release of k0s whose minor is in the table is accepted, also a patch that is not listed below: a newer one, or one
that does not exist. Whether it exists shows when its bundle is built, which downloads it. The known ones:

` + "```text\n")
	for _, k := range m.Kubernetes {
		fmt.Fprintln(&b, wrap(k.K0s))
	}
	b.WriteString("```\n\nTried end to end with this build:\n\n")
	for _, p := range m.Tried {
		fmt.Fprintf(&b, "- k0s %s with KOTS %s\n", p.K0s, p.Kotsadm)
	}
	b.WriteString(`
## KOTS

The Kubernetes minors that KOTS supports, from its release notes. Which versions of KOTS this build can install is
another question: rule ` + "`add-on-known`" + ` reports it.

| KOTS | Kubernetes |
|---|---|
`)
	for i, r := range slices.Backward(m.KOTS) {
		upTo := " to " + r.Releases[len(r.Releases)-1]
		if i == len(m.KOTS)-1 {
			upTo = " and later; newest known " + r.Releases[len(r.Releases)-1]
		}
		fmt.Fprintf(&b, "| %s%s | 1.%d to 1.%d |\n", r.Releases[0], upTo, r.Kubernetes[0], r.Kubernetes[1])
	}
	b.WriteString(`
## Velero

The versions of Velero that KOTS supports. Its page of snapshots and its commands do not work with others: error
` + "`kots-velero`" + `.

| KOTS | Velero |
|---|---|
`)
	for i, r := range slices.Backward(m.Velero) {
		upTo := " and later"
		if i < len(m.Velero)-1 {
			upTo = " and later, before " + m.Velero[i+1].Since
		}
		fmt.Fprintf(&b, "| %s%s | 1.%d to 1.%d |\n", r.Since, upTo, r.Minors[0], r.Minors[1])
	}
	b.WriteString("\n## What differs between releases of k0s\n\n| since Kubernetes | change |\n|---|---|\n")
	for _, c := range m.Changes {
		fmt.Fprintf(&b, "| %s | %s |\n", strings.ReplaceAll(strings.Join(c.Since, ", "), "v", ""), c.Text)
	}
	testkit.Golden(t, "../../docs/reference/versions.md", []byte(b.String()))
}

func TestCompareK0s(t *testing.T) {
	ordered := []string{"v1.33.4+k0s.0", "v1.33.8-rc.0+k0s.0", "v1.33.8+k0s.0", "v1.33.8+k0s.1", "v1.33.8+k0s.10", "v1.33.10+k0s.0", "v1.34.0+k0s.0"}
	for i, a := range ordered {
		for j, b := range ordered {
			t.Run(a+" and "+b, func(t *testing.T) {
				if got, ok := spec.CompareK0s(a, b); !ok || got != cmp.Compare(i, j) {
					t.Errorf("%d %v, want %d", got, ok, cmp.Compare(i, j))
				}
			})
		}
	}
	for _, bad := range []string{"", "1.33.8+k0s.1", "v1.33.8", "v1.33.8+k3s1", "v1.33+k0s.0"} {
		t.Run("no version "+bad, func(t *testing.T) {
			_, first := spec.CompareK0s(bad, ordered[0])
			_, second := spec.CompareK0s(ordered[0], bad)
			if first || second {
				t.Error("it is compared")
			}
		})
	}
}

func FuzzKubernetesMinor(f *testing.F) {
	for _, k := range spec.Versions().Kubernetes {
		f.Add(k.K0s[0])
	}
	f.Add("v1.18446744073709551615.0+k0s.0")
	f.Fuzz(func(t *testing.T, version string) {
		minor := spec.KubernetesMinor(version)
		if minor < 0 || minor > 1000 || minor > 0 && !strings.HasPrefix(version, fmt.Sprintf("v1.%d.", minor)) {
			t.Errorf("%q is Kubernetes 1.%d", version, minor)
		}
		spec.HasChange(version, spec.Containerd2)
		spec.Versions().IsInstallable(version)
		spec.Versions().SupportedKubernetes(version)
	})
}

func TestKubernetesRefusal_KnowsWhatKOTSSupports(t *testing.T) {
	for _, c := range []struct{ kots, kubernetes, want string }{
		{"1.131.2", "v1.34.2", ""},
		{"1.131.2", "v1.36.0-eks-7f9249a", ""},
		{"1.131.2", "v1.33.8+k0s.1", ""}, // tried
		{"1.131.2", "v1.32.9", "it is Kubernetes 1.32, and KOTS 1.131.2 supports 1.34 to 1.36"},
		{"1.131.3", "v1.33.8", "it is Kubernetes 1.33, and KOTS 1.131.3 supports 1.34 to 1.36"},
		{"1.131.2", "v1.37.0", "it is Kubernetes 1.37, and KOTS 1.131.2 supports 1.34 to 1.36"},
		{"1.50.0", "v1.20.0", ""}, // before the matrix
		{"1.131.2", "main", `"main" is not a version of Kubernetes 1`},
	} {
		t.Run(c.kots+" on "+c.kubernetes, func(t *testing.T) {
			if got := spec.Versions().KubernetesRefusal(c.kots, c.kubernetes); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
