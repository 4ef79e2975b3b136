package bundle

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/pull/pulltest"
	"github.com/plinthdev/plinth/internal/charts"
	"github.com/plinthdev/plinth/internal/lockfile"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/testkit"
)

// chartImages are the images of the example chart, and one that its Installer adds.
var chartImages = []string{"docker.io/library/nginx:1.29.1", "docker.io/library/busybox:1.37.0", "docker.io/library/memcached:1.6.39", "docker.io/library/later:1.0.0"}

// chartInstaller returns the path of the documented Installer with the example chart beside it, and a layout with
// all its images except for those whose name contains without.
func chartInstaller(t *testing.T, without string) (installer, source string) {
	t.Helper()
	installer = documentedCopy(t)
	dir := filepath.Dir(installer)
	testkit.Must(t, os.CopyFS(filepath.Join(dir, "charts", "hello"), os.DirFS("../../charts/testdata/hello")))
	testkit.Must(t, os.WriteFile(filepath.Join(dir, "hello.yaml"), []byte("greeting: Good morning\nreplicas: 2\n"), 0o600))
	raw, err := os.ReadFile(installer)
	testkit.Must(t, err)
	raw = append(raw, []byte(`
  charts:
    - name: hello
      chart: ./charts/hello
      version: 1.2.0
      namespace: hello
      values: {replicas: 3}
      valuesFile: hello.yaml
      additionalImages: [docker.io/library/later:1.0.0]
`)...)
	testkit.Must(t, os.WriteFile(installer, raw, 0o600))
	refs, files := resolved(t)
	var images []airgaptest.Image
	for _, ref := range append(refs, chartImages...) {
		if without == "" || !strings.Contains(ref, without) {
			images = append(images, airgaptest.Image{Ref: ref, Files: []string{"base of all", ref}})
		}
	}
	return installer, airgaptest.WriteLayout(t, images, files)
}

func TestBuild_BundlesChartsWithTheirImages(t *testing.T) {
	installer, source := chartInstaller(t, "")
	out := filepath.Join(t.TempDir(), "b")
	_, err := Build(t.Context(), BuildRequest{Installer: installer, Source: source, Out: out})
	testkit.Must(t, err)
	b, err := airgap.Open(t.Context(), out)
	testkit.Must(t, err)
	defer func() { _ = b.Close() }()
	archive, err := b.Chart(t.Context(), "hello")
	testkit.Must(t, err)
	var refs []string
	for _, i := range b.Images() {
		refs = append(refs, i.Ref)
	}
	for _, want := range chartImages {
		if !slices.Contains(refs, want) {
			t.Errorf("the bundle lacks %s", want)
		}
	}
	if slices.ContainsFunc(refs, func(ref string) bool { return strings.Contains(ref, "test-only") }) {
		t.Error("the image of a test is in the bundle")
	}
	raw, err := b.Installer(t.Context())
	testkit.Must(t, err)
	in, findings := spec.ParseInstaller("installer.yaml", raw)
	if in == nil {
		t.Fatal(findings)
	}
	if c := in.Spec.Charts[0]; c.ValuesFile != "" || c.Values["greeting"] != "Good morning" || c.Values["replicas"] != 3 {
		t.Errorf("values in the bundle: %+v", c)
	}
	lock, err := readLockFile(lockfile.Path(installer), "")
	testkit.Must(t, err)
	if got := lock.Platforms[0].Charts; len(got) != 1 || got[0].Name != "hello" || got[0].Chart != "./charts/hello" || got[0].Size != int64(len(archive)) {
		t.Errorf("locked %+v", got)
	}
}

func TestBuild_RefusesBadCharts(t *testing.T) {
	edit := func(file, old, new string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, file)
			raw, err := os.ReadFile(path)
			testkit.Must(t, err)
			if !strings.Contains(string(raw), old) {
				t.Fatalf("%s lacks %q", file, old)
			}
			testkit.Must(t, os.WriteFile(path, []byte(strings.Replace(string(raw), old, new, 1)), 0o600))
		}
	}
	for name, c := range map[string]struct {
		change  func(t *testing.T, dir string)
		without string
		locked  bool
		exit    int
		want    string
	}{
		"another version": {change: edit("charts/hello/Chart.yaml", "version: 1.2.0", "version: 1.2.1"), exit: problem.ExitConfig,
			want: "error [chart-read] spec.charts[0].version: is 1.2.0, but the Chart.yaml of hello has 1.2.1"},
		"altered": {change: edit("charts/hello/values.yaml", "greeting: Hello", "greeting: Hi"), locked: true, exit: problem.ExitBundle, want: "chart hello: locked 1.2.0 sha256:"},
		"a dependency is not vendored": {change: func(t *testing.T, dir string) {
			testkit.Must(t, os.RemoveAll(filepath.Join(dir, "charts/hello/charts")))
		}, exit: problem.ExitConfig,
			want: "the dependency cache 0.3.0 of hello is not in the chart"},
		"an image is not there": {without: "memcached", exit: problem.ExitBundle, want: "docker.io/library/memcached:1.6.39"},
		"a bad value":           {change: edit("hello.yaml", "greeting: Good morning", "greeting: [a]"), exit: problem.ExitConfig, want: "[chart-values] spec.charts[0].values.greeting: does not fit the schema of the chart: got array, want string"},
		"it does not render":    {change: edit("charts/hello/templates/service.yaml", "port: 80", "port: {{ .Values.a.b }}"), exit: problem.ExitConfig, want: "[chart-render] spec.charts[0]: the chart does not render"},
		"the source lacks it": {change: edit("file.yaml", "      chart: ./charts/hello\n", "      chart: oci://registry.example.com/charts/hello\n"), exit: problem.ExitBundle,
			want: "cannot read chart oci://registry.example.com/charts/hello 1.2.0: the source"},
		"no such file": {change: edit("file.yaml", "      chart: ./charts/hello\n", "      chart: ./charts/absent\n"), exit: problem.ExitConfig, want: "cannot read ./charts/absent: no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			installer, source := chartInstaller(t, c.without)
			req := BuildRequest{Installer: installer, Source: source, Out: filepath.Join(t.TempDir(), "b"), Locked: c.locked}
			if c.locked {
				_, err := Lock(t.Context(), LockRequest{Installer: installer, Source: source})
				testkit.Must(t, err)
			}
			if c.change != nil {
				c.change(t, filepath.Dir(installer))
			}
			_, err := Build(t.Context(), req)
			if problem.ExitCode(err) != c.exit || !strings.Contains(err.Error(), c.want) {
				t.Errorf("exit %d, %v\nwant …%s…", problem.ExitCode(err), err, c.want)
			}
			if _, err := os.Stat(req.Out); err == nil {
				t.Error("a bundle was written")
			}
		})
	}
}

// pushChart stores the example chart in the registry of p, and in a chart repository there.
func (p published) pushChart(t *testing.T) {
	t.Helper()
	archive, err := charts.ReadLocal("../../charts/testdata/hello")
	testkit.Must(t, err)
	ref, err := name.ParseReference(strings.TrimPrefix(p.URL, "http://") + "/charts/hello:1.2.0")
	testkit.Must(t, err)
	testkit.Must(t, remote.Write(ref, pulltest.BuildChart(t, archive)))
	p.files["/github/stable/index.yaml"] = fmt.Sprintf("apiVersion: v1\nentries:\n  hello:\n    - {version: 1.2.0, urls: [hello.tgz], digest: %x}\n", sha256.Sum256(archive))
	p.files["/github/stable/hello.tgz"] = string(archive)
	for _, ref := range chartImages[:3] {
		p.push(t, ref, "first")
	}
}

// A chart of a registry, of its mirror and of a chart repository is locked, bundled, mirrored to a folder and built
// from there; what was published again is refused.
func TestBuild_DownloadsCharts(t *testing.T) {
	p := publish(t, "amd64")
	p.pushChart(t)
	host := strings.TrimPrefix(p.URL, "http://")
	for name, c := range map[string]struct{ chart, mirror string }{
		"a registry":   {chart: "oci://" + host + "/charts/hello"},
		"a mirror":     {chart: "oci://registry.example.com/hello", mirror: "registry.example.com=" + host + "/charts"},
		"a repository": {chart: p.URL + "/github/stable/hello"},
	} {
		t.Run(name, func(t *testing.T) {
			installer, parts := documentedCopy(t), filepath.Join(t.TempDir(), "parts")
			raw, err := os.ReadFile(installer)
			testkit.Must(t, err)
			raw = append(raw, []byte("\n  charts: [{name: hello, chart: \""+c.chart+"\", version: 1.2.0, namespace: hello}]\n")...)
			testkit.Must(t, os.WriteFile(installer, raw, 0o600))
			downloads := p.downloads(t.TempDir())
			if c.mirror != "" {
				downloads.Mirrors = append(downloads.Mirrors, c.mirror)
			}
			lock, err := Lock(t.Context(), LockRequest{Installer: installer, Source: fromRegistry, Downloads: downloads})
			testkit.Must(t, err)
			if got := lock.Platforms[0].Charts; len(got) != 1 || got[0].Chart != c.chart || !strings.HasPrefix(got[0].Digest, "sha256:") {
				t.Errorf("locked %+v", got)
			}
			var sums []string
			build := func(req BuildRequest) {
				t.Helper()
				req.Installer, req.Out, req.Locked = installer, filepath.Join(t.TempDir(), "b"), req.Source == fromRegistry
				res, err := Build(t.Context(), req)
				testkit.Must(t, err)
				sums = append(sums, res.Digest.String())
			}
			build(BuildRequest{Source: fromRegistry, Downloads: downloads})
			toFolder := downloads
			toFolder.Cache = ""
			_, err = Mirror(t.Context(), MirrorRequest{Installer: installer, Out: parts, Downloads: toFolder})
			testkit.Must(t, err)
			build(BuildRequest{Source: parts})
			if sums[0] != sums[1] {
				t.Errorf("the folder gives another bundle: %v", sums)
			}
		})
	}
}

func TestBuild_RefusesValuesThatFillTheInstaller(t *testing.T) {
	installer, source := chartInstaller(t, "")
	dir := filepath.Dir(installer)
	raw, err := os.ReadFile(installer)
	testkit.Must(t, err)
	for i := range 3 { // each below the limit of a chart
		raw = append(raw, fmt.Appendf(nil, "    - {name: more%d, chart: ./charts/hello, version: 1.2.0, namespace: more, valuesFile: big.yaml}\n", i)...)
	}
	testkit.Must(t, os.WriteFile(installer, raw, 0o600))
	var big strings.Builder
	for i := 0; big.Len() < 400<<10; i++ {
		fmt.Fprintf(&big, "key%d: %x\n", i, sha256.Sum256(fmt.Append(nil, i)))
	}
	testkit.Must(t, os.WriteFile(filepath.Join(dir, "big.yaml"), []byte(big.String()), 0o600))
	_, err = Build(t.Context(), BuildRequest{Installer: installer, Source: source, Out: filepath.Join(t.TempDir(), "b")})
	if problem.ExitCode(err) != problem.ExitConfig || !strings.Contains(err.Error(), "the Installer with the values of all charts has") {
		t.Errorf("%v", err)
	}
}

func TestBuild_NamesTheChartWhoseImageIsMissing(t *testing.T) {
	installer, source := chartInstaller(t, "library/later")
	_, err := Build(t.Context(), BuildRequest{Installer: installer, Source: source, Out: filepath.Join(t.TempDir(), "b")})
	if problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(err.Error(), "image docker.io/library/later:1.0.0, which chart hello (additionalImages) needs") {
		t.Errorf("%v", err)
	}
}
