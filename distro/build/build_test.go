package build

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"github.com/plinthdev/plinth/internal/testkit"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/plinthdev/plinth/distro/builder"
	"github.com/plinthdev/plinth/distro/debian"
	"github.com/plinthdev/plinth/distro/recipe"
	"github.com/plinthdev/plinth/internal/problem"
)

// serveModule sets up a module proxy in a folder with one module, so that a whole
// build runs offline. It returns the module's sum.
func serveModule(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	at := filepath.Join(dir, "example.com/hello/@v")
	testkit.WriteFile(t, at, "list", "v1.0.0\n")
	testkit.WriteFile(t, at, "v1.0.0.info", `{"Version":"v1.0.0","Time":"2026-01-01T00:00:00Z"}`)
	testkit.WriteFile(t, at, "v1.0.0.mod", "module example.com/hello\n\ngo 1.24\n")
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range map[string]string{
		"go.mod":  "module example.com/hello\n\ngo 1.24\n",
		"main.go": "package main\n\nvar version = \"unset\"\n\nfunc main() { println(version) }\n",
		"LICENSE": "do as you like\n",
	} {
		w, err := z.Create("example.com/hello@v1.0.0/" + name)
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, at, "v1.0.0.zip", b.String())
	cache := t.TempDir()
	t.Cleanup(func() {
		if err := builder.RemoveAll(cache); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("GOPROXY", "file://"+dir)
	t.Setenv("GOMODCACHE", cache)
	_, err := builder.ModuleDir(context.Background(), recipe.Recipe{Module: "example.com/hello@v1.0.0", Sum: "h1:?"})
	_, sum, _ := strings.Cut(fmt.Sprint(err), "its sum is ")
	sum, _, ok := strings.Cut(sum, ",")
	if !ok {
		t.Fatalf("no sum in %v", err)
	}
	return sum
}

// writeDistro writes a folder with three recipes: hello is a Go module, notes needs
// hello, and lone needs nothing. Every build of a part adds a line to the file built.
func writeDistro(t *testing.T) (dir, built string) {
	t.Helper()
	sum := serveModule(t)
	dir, built = t.TempDir(), filepath.Join(t.TempDir(), "built")
	head := "version: v1.0.0\nlicense: MIT\nepoch: 1700000000\nmodule: example.com/hello@v1.0.0\nsum: " + sum + "\n"
	mark := func(name string) string { return "echo " + name + " >> " + built }
	testkit.WriteFile(t, dir, "hello/recipe.yaml", head+"copy: true\nsteps:\n- go: {ldflags: ['-X main.version=$VERSION'], binaries: {hi: .}}\n- run: "+mark("hello")+"\n")
	testkit.WriteFile(t, dir, "notes/recipe.yaml", head+"needs: [hello]\nsteps:\n- run: mkdir -p $OUT/d; cp $PART_hello/hi $OUT/d/hi; cp note $OUT/d/; "+mark("notes")+"\n")
	testkit.WriteFile(t, dir, "notes/note", "first")
	testkit.WriteFile(t, dir, "lone/recipe.yaml", head+"license: 'x'\n")
	testkit.WriteFile(t, dir, "lone/recipe.yaml", strings.Replace(head, "MIT", "GPL-2.0-only OR MIT", 1)+"steps:\n- run: echo alone > $OUT/lone; "+mark("lone")+"\n")
	testkit.WriteFile(t, dir, "payload.yaml", `
epoch: 1700000000
hosts: [{title: hi, file: hello/hi, version: 1.0.0}]
layers: {base: {dirs: {/tmp: {mode: 0o1777}}, files: {/lone: lone/lone}}}
images:
- {ref: 'example.com/notes:1', part: notes, layers: [base], files: {/d: notes/d}, entrypoint: [/d/hi], user: "1"}
- {ref: 'example.com/lone:1', part: lone, version: "2", layers: [base]}
`)
	testkit.WriteFile(t, dir, debian.LockFile, "# none\n")
	testkit.WriteFile(t, dir, packagesFile, "# none\n")
	return dir, built
}

// newEngine returns an engine for the recipes in dir.
func newEngine(t *testing.T, dir, cache string) *Engine {
	t.Helper()
	for _, tool := range []string{"go", "npm", "node"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("this test needs a tool that the payload needs: %v", err)
		}
	}
	e, err := New(context.Background(), dir, "", cache)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// runEngine builds the named parts, or all, and returns the layout.
func runEngine(t *testing.T, e *Engine, only ...string) string {
	t.Helper()
	layout, err := e.Run(context.Background(), only)
	if err != nil {
		t.Fatal(err)
	}
	return layout
}

// buildCounts returns how often each part was built.
func buildCounts(t *testing.T, built string) string {
	t.Helper()
	b, _ := os.ReadFile(built)
	return fmt.Sprintf("hello %d, notes %d, lone %d",
		strings.Count(string(b), "hello"), strings.Count(string(b), "notes"), strings.Count(string(b), "lone"))
}

// readArtifacts returns the descriptors in the layout's index by name.
func readArtifacts(t *testing.T, layout string) map[string]ocispec.Descriptor {
	t.Helper()
	ix, err := readIndex(layout)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]ocispec.Descriptor{}
	for _, d := range ix.Manifests {
		out[artifactName(d)] = d
	}
	return out
}

func TestRun_BuildsOnlyWhatChanged(t *testing.T) {
	dir, built := writeDistro(t)
	cache := t.TempDir()
	first := runEngine(t, newEngine(t, dir, cache))
	if got := buildCounts(t, built); got != "hello 1, notes 1, lone 1" {
		t.Fatalf("first run: %s", got)
	}
	if again := runEngine(t, newEngine(t, dir, cache)); again != first || buildCounts(t, built) != "hello 1, notes 1, lone 1" {
		t.Errorf("second run: %s in %s", buildCounts(t, built), again)
	}
	testkit.WriteFile(t, dir, "notes/note", "second")
	second := runEngine(t, newEngine(t, dir, cache))
	if got := buildCounts(t, built); got != "hello 1, notes 2, lone 1" || second == first {
		t.Errorf("after a change of notes: %s in %s", got, second)
	}
	a, b := readArtifacts(t, first), readArtifacts(t, second)
	if a["example.com/notes:1"].Digest == b["example.com/notes:1"].Digest || a["hi"].Digest != b["hi"].Digest {
		t.Errorf("digests: %v then %v", a, b)
	}
}

func TestRun_BuildsVariantBesidePayload(t *testing.T) {
	dir, built := writeDistro(t)
	testkit.WriteFile(t, dir, "variants/old.yaml", "parts: {notes: notes-0.9}\nimages: {example.com/notes: {tag: '0.9'}}\n")
	testkit.WriteFile(t, dir, "variants/notes-0.9/recipe.yaml", "varies: notes\nversion: v0.9.0\n")
	testkit.WriteFile(t, dir, "variants/notes-0.9/note", "older")
	cache := t.TempDir()
	shipped := runEngine(t, newEngine(t, dir, cache))
	e := newEngine(t, dir, cache)
	variant, err := New(context.Background(), dir, "old", cache)
	if err != nil {
		t.Fatal(err)
	}
	old := runEngine(t, variant)
	if got := buildCounts(t, built); got != "hello 1, notes 2, lone 1" {
		t.Errorf("built %s", got)
	}
	if old == shipped || !e.IsComplete() || e.LayoutDir() != shipped {
		t.Errorf("layouts %s and %s", shipped, old)
	}
	a, b := readArtifacts(t, shipped), readArtifacts(t, old)
	if len(b) != 3 || a["hi"].Digest != b["hi"].Digest || a["example.com/lone:1"].Digest != b["example.com/lone:1"].Digest {
		t.Errorf("digests: %v, of the variant %v", a, b)
	}
	if b["example.com/notes:0.9"].Digest == "" {
		t.Errorf("the variant has no image with its own reference: %v", b)
	}
	if note, err := os.ReadFile(filepath.Join(variant.PartDir("notes"), "d", "note")); err != nil || string(note) != "older" {
		t.Errorf("note %q, %v", note, err)
	}
}

func TestVerify_AcceptsEqualDigests(t *testing.T) {
	dir, built := writeDistro(t)
	got, err := newEngine(t, dir, t.TempDir()).Verify(context.Background(), nil)
	if err != nil || !strings.Contains(got, "3 host artifacts and images have the same digests") {
		t.Errorf("%q, %v", got, err)
	}
	if got := buildCounts(t, built); got != "hello 2, notes 2, lone 2" {
		t.Errorf("built %s", got)
	}
}

func TestVerify_NamesDifferentArtifacts(t *testing.T) {
	dir, _ := writeDistro(t)
	f := filepath.Join(dir, "lone/recipe.yaml")
	b, err := os.ReadFile(f)
	if err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, dir, "lone/recipe.yaml", strings.Replace(string(b), "echo alone", "date +%N", 1))
	cache := t.TempDir()
	_, err = newEngine(t, dir, cache).Verify(context.Background(), []string{"lone"})
	if left, _ := filepath.Glob(filepath.Join(cache, "verify-differs/parts/lone/*/lone")); len(left) != 1 {
		t.Errorf("the build that differs was not kept: %v", left)
	}
	if err == nil || !strings.Contains(err.Error(), "1 of 1 differ:\nexample.com/lone:1: first sha256:") {
		t.Errorf("got %v", err)
	}
}

func TestRun_ResumesFailedBuild(t *testing.T) {
	dir, built := writeDistro(t)
	cache := t.TempDir()
	testkit.WriteFile(t, dir, "notes/note2", "")
	blocker := filepath.Join(t.TempDir(), "go")
	b, _ := os.ReadFile(filepath.Join(dir, "notes/recipe.yaml"))
	testkit.WriteFile(t, dir, "notes/recipe.yaml", string(b)+"- run: echo one; echo two >&2; test -e "+blocker+"\n")
	_, err := newEngine(t, dir, cache).Run(context.Background(), nil)
	if err == nil || problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), "one\ntwo") || problem.Hint(err) == "" {
		t.Errorf("got %v with hint %q", err, problem.Hint(err))
	}
	testkit.WriteFile(t, filepath.Dir(blocker), "go", "")
	layout := runEngine(t, newEngine(t, dir, cache))
	if got := buildCounts(t, built); got != "hello 1, notes 2, lone 1" {
		t.Errorf("in both runs: %s", got)
	}
	if len(readArtifacts(t, layout)) != 3 {
		t.Errorf("the layout has %v", readArtifacts(t, layout))
	}
}

func TestRun_BuildsOnePartAlone(t *testing.T) {
	dir, built := writeDistro(t)
	layout := runEngine(t, newEngine(t, dir, t.TempDir()), "hello")
	if got := buildCounts(t, built); got != "hello 1, notes 0, lone 0" {
		t.Errorf("built %s", got)
	}
	if got := readArtifacts(t, layout); len(got) != 1 || got["hi"].Digest == "" {
		t.Errorf("the layout has %v", got)
	}
	if _, err := newEngine(t, dir, t.TempDir()).Run(context.Background(), []string{"nothing"}); problem.ExitCode(err) != problem.ExitUsage {
		t.Errorf("an unknown part: %v", err)
	}
}

func TestRun_WaitsForOtherBuild(t *testing.T) {
	dir, built := writeDistro(t)
	cache := t.TempDir()
	a, b := newEngine(t, dir, cache), newEngine(t, dir, cache)
	var wg sync.WaitGroup
	for _, e := range []*Engine{a, b} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := e.Run(context.Background(), nil); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if got := buildCounts(t, built); got != "hello 1, notes 1, lone 1" {
		t.Errorf("two builders built %s", got)
	}
}

func TestRun_StopsCommandsWithContext(t *testing.T) {
	dir, _ := writeDistro(t)
	started := filepath.Join(t.TempDir(), "started")
	b, _ := os.ReadFile(filepath.Join(dir, "lone/recipe.yaml"))
	testkit.WriteFile(t, dir, "lone/recipe.yaml", string(b)+"- run: touch "+started+"; sleep 300 | cat\n")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(started); err == nil {
				cancel()
			}
		}
	}()
	begin := time.Now()
	_, err := newEngine(t, dir, t.TempDir()).Run(ctx, []string{"lone"})
	if err == nil || time.Since(begin) > 50*time.Second {
		t.Errorf("stopped after %s with %v", time.Since(begin), err)
	}
}

func TestRun_RefusesModuleWithOtherSum(t *testing.T) {
	dir, _ := writeDistro(t)
	b, _ := os.ReadFile(filepath.Join(dir, "hello/recipe.yaml"))
	testkit.WriteFile(t, dir, "hello/recipe.yaml", strings.Replace(string(b), "h1:", "h1:x", 1))
	_, err := newEngine(t, dir, t.TempDir()).Run(context.Background(), nil)
	if err == nil || !strings.Contains(err.Error(), "the recipe says h1:x") {
		t.Errorf("got %v", err)
	}
}

func TestRun_AnnotatesArtifactsWithUpstreams(t *testing.T) {
	dir, _ := writeDistro(t)
	layout := runEngine(t, newEngine(t, dir, t.TempDir()))
	got := readArtifacts(t, layout)
	want := map[string]map[string]string{
		"hi": {"dev.plinth.kind": "host", ocispec.AnnotationTitle: "hi", ocispec.AnnotationVersion: "1.0.0",
			ocispec.AnnotationLicenses: "MIT", "dev.plinth.module": "example.com/hello@v1.0.0"},
		"example.com/lone:1": {"dev.plinth.kind": "image", "io.containerd.image.name": "example.com/lone:1", ocispec.AnnotationVersion: "2",
			ocispec.AnnotationLicenses: "(GPL-2.0-only OR MIT)"},
		"example.com/notes:1": {"dev.plinth.kind": "image", ocispec.AnnotationVersion: "v1.0.0", ocispec.AnnotationLicenses: "(GPL-2.0-only OR MIT) AND MIT"},
	}
	for name, annotations := range want {
		t.Run(name, func(t *testing.T) {
			d := got[name]
			for k, v := range annotations {
				if d.Annotations[k] != v {
					t.Errorf("%s is %q, want %q", k, d.Annotations[k], v)
				}
			}
			var up []struct {
				Module, Version, Sum string
				License              string `json:"license"`
			}
			if err := json.Unmarshal([]byte(d.Annotations["dev.plinth.modules"]), &up); err != nil || len(up) == 0 || !strings.HasPrefix(d.Annotations["dev.plinth.sum"], "h1:") {
				t.Errorf("upstreams %v, %v", up, err)
			}
			if d.Platform == nil || d.Platform.Architecture != "amd64" || d.MediaType != ocispec.MediaTypeImageManifest {
				t.Errorf("descriptor %+v", d)
			}
		})
	}
	m := readManifest(t, layout, got["hi"])
	l := m.Layers[0]
	if m.ArtifactType != "application/vnd.plinth.host.v1" || len(m.Layers) != 1 || m.Config.MediaType != ocispec.MediaTypeEmptyJSON || l.MediaType != "application/vnd.plinth.file.v1+zstd" ||
		l.Annotations["dev.plinth.mode"] != "0755" || !strings.HasPrefix(l.Annotations["dev.plinth.uncompressed-digest"], "sha256:") {
		t.Errorf("host artifact %+v", m)
	}
	if base, other := readManifest(t, layout, got["example.com/lone:1"]).Layers[0], readManifest(t, layout, got["example.com/notes:1"]).Layers[0]; base.Digest != other.Digest {
		t.Errorf("the shared layer is %s and %s", base.Digest, other.Digest)
	}
}

// readManifest returns the manifest that the descriptor names.
func readManifest(t *testing.T, layout string, d ocispec.Descriptor) (m ocispec.Manifest) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(layout, "blobs", "sha256", d.Digest.Encoded()))
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil || int64(len(b)) != d.Size {
		t.Fatalf("manifest of %d bytes, descriptor says %d: %v", len(b), d.Size, err)
	}
	return m
}
