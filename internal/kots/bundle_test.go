package kots

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/release"
	"github.com/plinthdev/plinth/internal/testkit"
)

// tarEntry is one entry of a tar archive; without a body it is a folder.
type tarEntry struct {
	name string
	body []byte
}

func packTar(t testing.TB, entries ...tarEntry) []byte {
	t.Helper()
	b, err := tryPackTar(entries...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tryPackTar(entries ...tarEntry) ([]byte, error) {
	var buf bytes.Buffer
	zip := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zip)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.body)), Typeflag: tar.TypeReg}
		if e.body == nil {
			h.Typeflag = tar.TypeDir
		}
		if err := tw.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := tw.Write(e.body); err != nil {
			return nil, err
		}
	}
	err := errors.Join(tw.Close(), zip.Close())
	return buf.Bytes(), err
}

const (
	airgapYAML = "apiVersion: kots.io/v1beta1\nkind: Airgap\nspec:\n  appSlug: my-app\n  channelName: Stable\n  versionLabel: 1.2.3\n  updateCursor: \"9\"\n  format: docker-archive\n  savedImages: [a/b:1]\n"
	appYAML    = "# bounds\napiVersion: kots.io/v1beta1\nkind: Application\nmetadata: {name: first}\n"
)

func manifestEntry(text string) tarEntry { return tarEntry{"airgap.yaml", []byte(text)} }

func TestReadAppBundle_ReadsMetadata(t *testing.T) {
	inner := packTar(t,
		tarEntry{"b/multi.yaml", []byte("kind: ConfigMap\napiVersion: v1\n--- # the app\n" + appYAML)},
		tarEntry{"chart.tgz", []byte{0x1f, 0x8b, 0}},
		tarEntry{"broken.yaml", []byte("a: [kots.io/v1beta1")},
	)
	images := tarEntry{"images", nil}
	want := AppBundle{Slug: "my-app", Channel: "Stable", VersionLabel: "1.2.3", UpdateCursor: "9", Format: "docker-archive", Images: []string{"a/b:1"}}
	for name, entries := range map[string][]tarEntry{
		"usual":               {manifestEntry(airgapYAML), {"app.tar.gz", inner}, images, {"images/docker-archive/a/b/1", []byte("x")}},
		"images first":        {images, {"images/docker-archive/a/b/1", []byte("x")}, {"app.tar.gz", inner}, manifestEntry(airgapYAML)},
		"no images":           {manifestEntry(airgapYAML), {"app.tar.gz", inner}},
		"registry layout":     {manifestEntry(strings.Replace(airgapYAML, "docker-archive", "docker", 1)), {"app.tar.gz", inner}, {"images/", nil}},
		"other files between": {manifestEntry(airgapYAML), {"README", []byte("x")}, {"app.tar.gz", inner}, images},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseAppBundle(bytes.NewReader(packTar(t, entries...)))
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Application) != appYAML {
				t.Errorf("application is %q", got.Application)
			}
			if got.Slug != want.Slug || got.Channel != want.Channel || got.VersionLabel != want.VersionLabel || got.UpdateCursor != want.UpdateCursor || len(got.Images) != 1 {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// appCalled returns an Application with a name.
func appCalled(name string) string { return strings.Replace(appYAML, "first", name, 1) }

func TestReadAppBundle_FindsEveryApplicationThatKOTSCanUse(t *testing.T) {
	const configMap = "kind: ConfigMap\napiVersion: v1\n"
	file := func(name, text string) tarEntry { return tarEntry{name, []byte(text)} }
	units := utf16.Encode([]rune("\ufeff" + appCalled("wide")))
	for name, c := range map[string]struct {
		files []tarEntry
		want  string // names in the order in which KOTS's CLI, and then its server, finds them
	}{
		"none":                     {[]tarEntry{file("a.yaml", configMap)}, ""},
		"the order of a walk":      {[]tarEntry{file("a-b/app.yaml", appCalled("dash")), file("a.yaml", appCalled("file")), file("a/app.yaml", appCalled("folder"))}, "folder dash file"},
		"first documents first":    {[]tarEntry{file("a.yaml", configMap+"---\t\n"+appCalled("second")), file("b.yaml", appCalled("first")+"--- # x\n"+appCalled("third"))}, "first second third"},
		"a later entry replaces":   {[]tarEntry{file("./a.yaml", appCalled("old")), file("a.yaml", appCalled("new"))}, "new"},
		"a later entry removes":    {[]tarEntry{file("a.yaml", appCalled("old")), file("x/../a.yaml", configMap)}, ""},
		"any name":                 {[]tarEntry{file(".x", appCalled("hidden")), file("README", appCalled("readme"))}, "hidden readme"},
		"JSON":                     {[]tarEntry{file("a.json", `{"apiVersion":"kots.io\/v1beta1","kind":"Application","metadata":{"name":"json"}}`)}, "json"},
		"UTF-16, little end first": {[]tarEntry{{"a.yaml", encode(t, binary.LittleEndian, units)}}, "wide"},
		"UTF-16, big end first":    {[]tarEntry{{"a.yaml", encode(t, binary.BigEndian, units)}}, "wide"},
		"no line break at the end": {[]tarEntry{file("a.yaml", strings.TrimSpace(appCalled("a"))), file("b.yaml", appCalled("b")+"---")}, "a b"},
		"what KOTS cannot decode":  {[]tarEntry{file("a.yaml", appYAML+"spec: {title: 1}\n")}, "first"},
		"what is not YAML":         {[]tarEntry{file("a.yaml", appCalled("{{repl x}}")+"{{repl end}}\n")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseAppBundle(bytes.NewReader(packTar(t, manifestEntry(airgapYAML), tarEntry{"app.tar.gz", packTar(t, c.files...)})))
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, doc := range release.Split(got.Application) {
				app, err := release.DecodeApplication(doc.Text)
				testkit.Must(t, err)
				names = append(names, app.Name)
			}
			if strings.Join(names, " ") != c.want || (got.Application == nil) != (c.want == "") {
				t.Errorf("found %q, want %q", names, c.want)
			}
		})
	}
}

// encode returns UTF-16 in bytes.
func encode(t *testing.T, order binary.ByteOrder, units []uint16) []byte {
	t.Helper()
	var buf bytes.Buffer
	testkit.Must(t, binary.Write(&buf, order, units))
	return buf.Bytes()
}

func TestReadAppBundle_RejectsUnusableBundles(t *testing.T) {
	inner := tarEntry{"app.tar.gz", packTar(t, tarEntry{"a.yaml", []byte(appYAML)})}
	tests := map[string]struct {
		file []byte
		want string
	}{
		"not gzip":           {[]byte("hello"), "not an .airgap file"},
		"cut off":            {packTar(t, manifestEntry(airgapYAML), inner)[:200], "unexpected EOF"},
		"no app.tar.gz":      {packTar(t, manifestEntry(airgapYAML)), "does not contain airgap.yaml or app.tar.gz"},
		"no airgap.yaml":     {packTar(t, inner), "does not contain airgap.yaml or app.tar.gz"},
		"other kind":         {packTar(t, manifestEntry("apiVersion: v1\nkind: Pod\n"), inner), `is a "Pod" of "v1"`},
		"no slug":            {packTar(t, manifestEntry("apiVersion: kots.io/v1beta1\nkind: Airgap\n"), inner), "spec.appSlug is empty"},
		"inner not gzip":     {packTar(t, manifestEntry(airgapYAML), tarEntry{"app.tar.gz", []byte("x")}), "app.tar.gz: "},
		"folder with slash":  {packTar(t, manifestEntry(airgapYAML), inner, tarEntry{"images/", nil}), `is "images/", not a folder named "images"`},
		"no folder entry":    {packTar(t, manifestEntry(airgapYAML), inner, tarEntry{"images/docker-archive/a", []byte("x")}), "KOTS would skip the images"},
		"manifest too large": {packTar(t, manifestEntry(strings.Repeat("#", maxManifest+1)), inner), "larger than 1 MiB"},
		"twice app.tar.gz":   {packTar(t, manifestEntry(airgapYAML), inner, inner), "it contains app.tar.gz twice"},
		"twice airgap.yaml":  {packTar(t, manifestEntry(airgapYAML), manifestEntry(airgapYAML)), "it contains airgap.yaml twice"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.airgap")
			if err := os.WriteFile(path, tt.file, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ReadAppBundle(path)
			if problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v (exit %d), want …%s…", err, problem.ExitCode(err), tt.want)
			}
		})
	}
	t.Run("missing file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "none")
		_, err := ReadAppBundle(path)
		if problem.ExitCode(err) != problem.ExitUsage || err.Error() != "cannot open the application bundle "+path+": no such file or directory" {
			t.Error(err)
		}
	})
}

func licenseTime() time.Time { return time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC) }

const licenseYAML = `apiVersion: kots.io/v1beta1
kind: License
spec:
  appSlug: my-app
  channelName: Stable
  licenseID: secret-id
  isAirgapSupported: true
  signature: e30=
  entitlements:
    expires_at: {value: "2030-07-27T00:00:00Z"}
`

func TestReadLicense_ValidatesFields(t *testing.T) {
	change := func(old, new string) string { return strings.Replace(licenseYAML, old, new, 1) }
	tests := []struct{ name, text, want string }{
		{"good", licenseYAML, ""},
		{"v1beta2", change("v1beta1", "v1beta2"), ""},
		{"never expires", change(`"2030-07-27T00:00:00Z"`, `""`), ""},
		{"time without quotes", change(`"2030-07-27T00:00:00Z"`, `2030-07-27T00:00:00Z`), ""},
		{"no entitlements", licenseYAML[:strings.Index(licenseYAML, "  entitlements")], ""},
		{"expired", change("2030", "2020"), "it expired on 2020-07-27"},
		{"invalid expiry", change(`"2030-07-27T00:00:00Z"`, "soon"), "expires_at is not a time"},
		{"expiry is a number", change(`"2030-07-27T00:00:00Z"`, "7"), "expires_at is not a time"},
		{"no signature", change("e30=", `""`), "spec.signature is empty"},
		{"truncated signature", change("e30=", "e30"), "spec.signature is truncated"},
		{"several findings", change("secret-id", `""`)[:0] + strings.Replace(change("secret-id", `""`), "my-app", `""`, 1), "spec.appSlug is empty\nspec.licenseID is empty"},
		{"other kind", change("License", "Airgap"), "not a License"},
		{"no yaml", "secret-id: [", "not a valid license in YAML"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := ReadLicense([]byte(tt.text), licenseTime())
			if tt.want == "" {
				if err != nil || l.Slug != "my-app" || !l.Airgap {
					t.Errorf("got %+v, %v", l, err)
				}
				return
			}
			if problem.ExitCode(err) != problem.ExitConfig || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want …%s…", err, tt.want)
			}
			if strings.Contains(err.Error(), "secret-id") {
				t.Errorf("%v shows the license's id", err)
			}
		})
	}
}

func TestCheckLicense_ComparesLicenseAndBundle(t *testing.T) {
	tests := []struct {
		name    string
		license License
		bundle  *AppBundle
		airgap  bool
		want    string
	}{
		{"fits", License{Slug: "a", Airgap: true}, &AppBundle{Slug: "a"}, true, ""},
		{"online", License{Slug: "a"}, nil, false, ""},
		{"no air gap", License{Slug: "a"}, &AppBundle{Slug: "a"}, true, "does not allow air-gapped installs"},
		{"other application", License{Slug: "a", Airgap: true}, &AppBundle{Slug: "b"}, true, `for application "a", the bundle is for "b"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := CheckLicense(tt.license, tt.bundle, tt.airgap)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want …%s…", err, tt.want)
			}
		})
	}
}

// packRaw compresses a tar that archive/tar would not write.
func packRaw(t testing.TB, parts ...io.Reader) []byte {
	t.Helper()
	var buf bytes.Buffer
	zip := gzip.NewWriter(&buf)
	_, err := io.Copy(zip, io.MultiReader(parts...))
	testkit.Must(t, err, zip.Close())
	return buf.Bytes()
}

// zeros is endless.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// rawHeader returns a tar header, of a PAX record where the size needs one.
func rawHeader(t testing.TB, h tar.Header) io.Reader {
	t.Helper()
	var buf bytes.Buffer
	h.Mode = 0o644
	testkit.Must(t, tar.NewWriter(&buf).WriteHeader(&h))
	return &buf
}

func TestReadAppBundle_BoundsSizesAndCounts(t *testing.T) {
	paxHeader, err := io.ReadAll(rawHeader(t, tar.Header{Name: "x", Format: tar.FormatPAX, PAXRecords: map[string]string{"A.b": strings.Repeat("x", 400)}}))
	testkit.Must(t, err)
	values := "[" + strings.Repeat("0,", (1<<20)/2-100) + "0]"
	candidate := []byte("a: " + values + "\n# kots.io/v1beta1 Application\n")
	var candidates []tarEntry
	for i := range 4 {
		candidates = append(candidates, tarEntry{fmt.Sprint(i), candidate})
	}
	airgap := func(inner []byte) []byte {
		return packTar(t, manifestEntry(airgapYAML), tarEntry{"app.tar.gz", inner}, tarEntry{"images", nil})
	}
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"airgap.yaml of 2^63-1 bytes":   {packRaw(t, rawHeader(t, tar.Header{Name: "airgap.yaml", Size: math.MaxInt64}), io.LimitReader(zeros{}, 16<<20)), "larger than 1 MiB"},
		"values of airgap.yaml":         {packTar(t, manifestEntry("a: "+values), tarEntry{"images", nil}), "Airgap of kots.io/v1beta1"},
		"release above 512 MiB":         {airgap(append(packRaw(t, rawHeader(t, tar.Header{Name: "x", Size: maxRelease})), bytes.Repeat(packRaw(t, io.LimitReader(zeros{}, 1<<20)), maxRelease>>20)...)), "too many bytes"},
		"file of the release of 2^63-1": {airgap(packRaw(t, rawHeader(t, tar.Header{Name: "x", Size: math.MaxInt64}), io.LimitReader(zeros{}, 1<<20))), "unexpected EOF"},
		"many possible Applications":    {airgap(packTar(t, candidates...)), "may be an Application are larger than 2 MiB"},
		"headers without end":           {bytes.Repeat(packRaw(t, bytes.NewReader(bytes.Repeat(paxHeader, 100))), maxHeaders/100/len(paxHeader)+1), "its headers have too many bytes"},
		"sparse file of 2^60 bytes":     {packRaw(t, bytes.NewReader(sparseFile(t))), "is a sparse file"},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.CheckBounds(t, func() {
				if _, err := parseAppBundle(bytes.NewReader(c.file)); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want …%s…", err, c.want)
				}
			})
		})
	}
}

// sparseFile returns a tar with one entry that is a hole of 2^60 bytes (GNU sparse format 0.1).
func sparseFile(t testing.TB) []byte {
	t.Helper()
	records := ""
	for _, r := range []string{"GNU.sparse.numblocks=1", "GNU.sparse.map=1152921504606846976,0", "GNU.sparse.size=1152921504606846976"} {
		n := len(r) + 4 // the length in two digits, a space, a newline
		records += fmt.Sprintf("%d %s\n", n, r)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	testkit.Must(t, w.WriteHeader(&tar.Header{Name: "x", Mode: 0o644, Size: int64(len(records))}))
	raw := buf.Bytes()
	raw[156] = tar.TypeXHeader
	setChecksum(raw)
	raw = append(raw, make([]byte, 512)...)
	copy(raw[512:], records)
	file, err := io.ReadAll(rawHeader(t, tar.Header{Name: "x"}))
	testkit.Must(t, err)
	return append(append(raw, file...), make([]byte, 1024)...)
}

// setChecksum corrects the checksum of a tar header.
func setChecksum(block []byte) {
	copy(block[148:156], "        ")
	sum := 0
	for _, b := range block[:512] {
		sum += int(b)
	}
	copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

func FuzzReadAppBundle(f *testing.F) {
	f.Add(packTar(f, manifestEntry(airgapYAML), tarEntry{"app.tar.gz", packTar(f, tarEntry{"a.yaml", []byte(appYAML)})}, tarEntry{"images", nil}))
	f.Add(packTar(f, manifestEntry("{"), tarEntry{"images/", nil}))
	f.Add([]byte("hello"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > testkit.MaxInput {
			t.Skip()
		}
		testkit.CheckBounds(t, func() {
			got, err := parseAppBundle(bytes.NewReader(b))
			if err == nil && got.Slug == "" {
				t.Errorf("accepted %+v", got)
			}
		})
	})
}

// FuzzReadAppBundleParts packs the fuzzed parts, so that the fuzzer reaches the code behind gzip and tar.
func FuzzReadAppBundleParts(f *testing.F) {
	f.Add([]byte(airgapYAML), "a.yaml", []byte(appYAML), "images")
	f.Add([]byte(airgapYAML), "a", []byte("---\n"+appYAML+"---"), "images/")
	f.Fuzz(func(t *testing.T, m []byte, name string, doc []byte, third string) {
		inner, err := tryPackTar(tarEntry{name, append([]byte{}, doc...)})
		if err != nil {
			t.Skip()
		}
		outer, err := tryPackTar(manifestEntry(string(m)), tarEntry{"app.tar.gz", inner}, tarEntry{third, nil})
		if err != nil {
			t.Skip()
		}
		if len(outer) > testkit.MaxInput {
			t.Skip()
		}
		testkit.CheckBounds(t, func() {
			got, err := parseAppBundle(bytes.NewReader(outer))
			if err == nil && (got.Slug == "" || len(got.Application) > 2*len(doc)+1) {
				t.Errorf("accepted %+v", got)
			}
		})
	})
}

func FuzzReadLicense(f *testing.F) {
	f.Add([]byte(licenseYAML))
	f.Add([]byte("kind: License"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := parseLicense(b, licenseTime()); err == nil && l.Slug == "" {
			t.Errorf("accepted %+v", l)
		}
	})
}
