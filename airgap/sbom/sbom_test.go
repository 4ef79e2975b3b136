package sbom

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/internal/testkit"
)

// imageItem returns the item of an image with annotations as the payload has them.
func imageItem(name, modules, licenses string) format.Item {
	d := digest.FromString(name)
	return format.Item{Kind: format.KindImage, Name: name, Version: "1.2.3", Manifest: ocispec.Descriptor{Digest: d, Annotations: map[string]string{
		format.AnnotationModules: modules, ocispec.AnnotationLicenses: licenses, format.AnnotationModule: "example.com/app@v1.2.3"}}}
}

// exampleComponents returns an image with sources and programs, and one about
// which nothing is known.
func exampleComponents(t *testing.T) []Component {
	t.Helper()
	info := &debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Path: "example.com/app", Version: "(devel)"}, Deps: []*debug.Module{
		{Path: "example.com/lib", Version: "v0.1.0", Sum: "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
		{Path: "example.com/old", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/new", Version: "v2.0.0+incompatible"}},
	}}
	app, err := NewComponent(imageItem("example.com/app:1.2.3", `[{"module":"example.com/app","version":"v1.2.3","sum":"h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=","license":"Apache-2.0"},
		{"module":"deb:busybox-static","version":"1:1.35.0-4","sum":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","license":"GPL-2.0-only"}]`, "Apache-2.0 AND GPL-2.0-only"),
		[]Executable{{"/usr/bin/tool", digest.FromString("tool"), info}, {"/app", digest.FromString("app"), info}})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := NewComponent(format.Item{Kind: format.KindImage, Name: "example.com/fetched:1", Manifest: ocispec.Descriptor{Digest: digest.FromString("x")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return []Component{app, foreign}
}

func TestNewDocument_MatchesTheGoldenOfASmallBundle(t *testing.T) {
	parts := exampleComponents(t)
	doc, err := NewDocument("my-app", parts, time.Unix(1786565267, 0))
	if err != nil {
		t.Fatal(err)
	}
	checkDocument(t, doc)
	got, err := json.MarshalIndent(map[string]any{"sbom": doc, "provenance": []Statement{NewStatement(parts[0]), NewStatement(parts[1])}}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	testkit.Golden(t, "testdata/small.golden.json", append(got, '\n'))
	again, _ := NewDocument("my-app", exampleComponents(t), time.Unix(1786565267, 0))
	if again.Namespace != doc.Namespace {
		t.Error("the same components gave a different document")
	}
}

// checkDocument checks that a document has all that SPDX 2.3 requires.
func checkDocument(t *testing.T, doc Document) {
	t.Helper()
	ids := map[string]bool{doc.ID: true}
	if doc.Version != "SPDX-2.3" || doc.License != "CC0-1.0" || doc.ID != "SPDXRef-DOCUMENT" || doc.Name == "" || !strings.HasPrefix(doc.Namespace, "https://") || len(doc.Created.Creators) == 0 {
		t.Errorf("document: %+v", doc)
	}
	if _, err := time.Parse("2006-01-02T15:04:05Z", doc.Created.Created); err != nil {
		t.Error(err)
	}
	for _, p := range doc.Packages {
		if !regexp.MustCompile(`^SPDXRef-[A-Za-z0-9.-]+$`).MatchString(p.ID) || ids[p.ID] || p.Name == "" || p.Download == "" || p.Concluded == "" || p.Declared == "" || p.Copyright == "" {
			t.Errorf("package: %+v", p)
		}
		ids[p.ID] = true
		for _, c := range p.Checksums {
			if c.Algorithm != "SHA256" || !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(c.Value) {
				t.Errorf("checksum: %+v", c)
			}
		}
	}
	describes := 0
	for _, r := range doc.Relationships {
		if !ids[r.Element] || !ids[r.Related] {
			t.Errorf("relationship: %+v", r)
		}
		if r.Type == "DESCRIBES" {
			describes++
		}
	}
	if describes == 0 {
		t.Error("the document has no DESCRIBES relationship")
	}
}

// singleBlob is a blob.Source with one blob.
type singleBlob []byte

func (s singleBlob) Open(context.Context, ocispec.Descriptor) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(s)), nil
}

// TestNewDocument_ListsEveryModuleOfAProgram scans a program of this repository,
// as a host file and in an image. (Test executables have no module information.)
func TestNewDocument_ListsEveryModuleOfAProgram(t *testing.T) {
	self := filepath.Join(t.TempDir(), "self")
	if out, err := exec.Command("go", "build", "-o", self, "github.com/plinthdev/plinth/distro/cmd/payload").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(self)
	if err != nil || len(info.Deps) == 0 {
		t.Fatalf("%+v, %v", info, err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, f := range []struct {
		name string
		mode int64
	}{{"bin/self", 0o755}, {"data/self", 0o644}} {
		err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(program))})
		if _, writeErr := w.Write(program); err != nil || writeErr != nil {
			t.Fatal(err, writeErr)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for kind, content := range map[format.Kind][]byte{format.KindHost: program, format.KindImage: layer.Bytes()} {
		t.Run(string(kind), func(t *testing.T) {
			it := format.Item{Kind: kind, Name: "self", Manifest: ocispec.Descriptor{Digest: digest.FromString("x")}}
			dir := t.TempDir()
			found, err := FindExecutables(t.Context(), singleBlob(content), it, format.Layer{Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer}}, dir)
			if err != nil || len(found) != 1 || found[0].Digest != digest.FromBytes(program) {
				t.Fatalf("%+v, %v", found, err)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if kind == format.KindHost { // a real host file has a layer
				it.Layers = []format.Layer{{Descriptor: ocispec.Descriptor{Annotations: map[string]string{
					format.AnnotationMode: "0755", format.AnnotationSize: "1", format.AnnotationDigest: digest.FromBytes(program).String()}}}}
			}
			p, err := NewComponent(it, found)
			if err != nil {
				t.Fatal(err)
			}
			doc, err := NewDocument("my-app", []Component{p}, time.Unix(0, 0))
			if err != nil {
				t.Fatal(err)
			}
			checkDocument(t, doc)
			for _, m := range buildModules(info) {
				if !slices.ContainsFunc(doc.Packages, func(p Package) bool { return p.Name == m.Path && p.Version == m.Version && p.Purpose == "SOURCE" }) {
					t.Errorf("%s %s is not listed", m.Path, m.Version)
				}
			}
			packed, err := Encode(doc)
			if err != nil {
				t.Fatal(err)
			}
			if back, err := Decode(packed); err != nil || back.Namespace != doc.Namespace || len(back.Packages) != len(doc.Packages) {
				t.Errorf("%+v, %v", back, err)
			}
		})
	}
}

func TestFindExecutables_SkipsOtherFiles(t *testing.T) {
	for name, content := range map[string]string{"empty": "", "script": "#!/bin/sh\n", "not Go": "\x7fELF and nothing more"} {
		t.Run(name, func(t *testing.T) {
			found, err := FindExecutables(t.Context(), singleBlob(content), format.Item{Kind: format.KindHost, Name: "x"}, format.Layer{}, t.TempDir())
			if err != nil || len(found) > 0 {
				t.Errorf("%v, %v", found, err)
			}
		})
	}
}

func TestNewComponent_RejectsDamagedAnnotation(t *testing.T) {
	if _, err := NewComponent(imageItem("a/b:1", "[", ""), nil); err == nil {
		t.Error("a damaged annotation is accepted")
	}
}

func FuzzDecode(f *testing.F) {
	doc, _ := NewDocument("my-app", nil, time.Unix(0, 0))
	packed, err := Encode(doc)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Add([]byte("{}"))
	f.Add(packedText(f, `{"packages":[`+strings.Repeat("0,", 5<<20)+"0]}"))
	f.Add([]byte(strings.Repeat("null ", 100_000)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > testkit.MaxInput {
			t.Skip()
		}
		testkit.CheckBounds(t, func() {
			if doc, err := Decode(data); err == nil && doc.Version == "" {
				t.Error("an empty document is accepted")
			}
			_, _ = ParseStatements(data)
		})
	})
}

// packedText returns text compressed as Encode does.
func packedText(t testing.TB, text string) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	testkit.Must(t, err)
	return enc.EncodeAll([]byte(text), nil)
}

func TestDecode_BoundsMemory(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"many values":    {`{"packages":[` + strings.Repeat("{},", 2<<20) + "{}]}", "more than 131072 values"},
		"large document": {strings.Repeat(" ", limit.SBOM+1), "exceeds configured limit"},
	} {
		t.Run(name, func(t *testing.T) {
			packed := packedText(t, c.text)
			testkit.CheckBounds(t, func() {
				if _, err := Decode(packed); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

func TestParseStatements_BoundsMemory(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"objects": {strings.Repeat("{}", 1<<20), "more than 131072 values"},
		"nulls":   {strings.Repeat("null ", 1<<18), "not an in-toto statement"},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.CheckBounds(t, func() {
				if _, err := ParseStatements([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v", err)
				}
			})
		})
	}
}
