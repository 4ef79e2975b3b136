package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/problem"
)

// entry is one entry of a tar; a nil body makes a folder.
type entry struct {
	name string
	body []byte
}

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	b, err := tryPack(entries...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tryPack(entries ...entry) ([]byte, error) {
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
	airgap = "apiVersion: kots.io/v1beta1\nkind: Airgap\nspec:\n  appSlug: my-app\n  channelName: Stable\n  versionLabel: 1.2.3\n  updateCursor: \"9\"\n  format: docker-archive\n  savedImages: [a/b:1]\n"
	app    = "# bounds\napiVersion: kots.io/v1beta1\nkind: Application\nmetadata: {name: first}\n"
)

func manifest(text string) entry { return entry{"airgap.yaml", []byte(text)} }

func TestBundleHeadIsRead(t *testing.T) {
	other := []byte(strings.Replace(app, "first", "second", 1))
	inner := pack(t,
		entry{"z.yaml", other},
		entry{"b/multi.yaml", []byte("kind: ConfigMap\napiVersion: v1\n---\n" + app + "---\n" + string(other))},
		entry{"c.yaml", other},
		entry{"chart.tgz", []byte{0x1f, 0x8b, 0}},
		entry{"broken.yaml", []byte("a: [kots.io/v1beta1")},
	)
	images := entry{"images", nil}
	want := Bundle{Slug: "my-app", Channel: "Stable", VersionLabel: "1.2.3", UpdateCursor: "9", Format: "docker-archive", Images: []string{"a/b:1"}}
	for name, entries := range map[string][]entry{
		"usual":               {manifest(airgap), {"app.tar.gz", inner}, images, {"images/docker-archive/a/b/1", []byte("x")}},
		"images first":        {images, {"images/docker-archive/a/b/1", []byte("x")}, {"app.tar.gz", inner}, manifest(airgap)},
		"no images":           {manifest(airgap), {"app.tar.gz", inner}},
		"registry layout":     {manifest(strings.Replace(airgap, "docker-archive", "docker", 1)), {"app.tar.gz", inner}, {"images/", nil}},
		"other files between": {manifest(airgap), {"README", []byte("x")}, {"app.tar.gz", inner}, images},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readBundle(bytes.NewReader(pack(t, entries...)))
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Application) != app {
				t.Errorf("application is %q", got.Application)
			}
			if got.Slug != want.Slug || got.Channel != want.Channel || got.VersionLabel != want.VersionLabel || got.UpdateCursor != want.UpdateCursor || len(got.Images) != 1 {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestBundlesThatKOTSCannotUseAreRefused(t *testing.T) {
	inner := entry{"app.tar.gz", pack(t, entry{"a.yaml", []byte(app)})}
	tests := map[string]struct {
		file []byte
		want string
	}{
		"not gzip":           {[]byte("hello"), "not an .airgap file"},
		"cut off":            {pack(t, manifest(airgap), inner)[:200], "unexpected EOF"},
		"no app.tar.gz":      {pack(t, manifest(airgap)), "lacks airgap.yaml or app.tar.gz"},
		"no airgap.yaml":     {pack(t, inner), "lacks airgap.yaml or app.tar.gz"},
		"other kind":         {pack(t, manifest("apiVersion: v1\nkind: Pod\n"), inner), `is a "Pod" of "v1"`},
		"no slug":            {pack(t, manifest("apiVersion: kots.io/v1beta1\nkind: Airgap\n"), inner), "spec.appSlug is empty"},
		"inner not gzip":     {pack(t, manifest(airgap), entry{"app.tar.gz", []byte("x")}), "app.tar.gz: "},
		"folder with slash":  {pack(t, manifest(airgap), inner, entry{"images/", nil}), `is "images/", not a folder named "images"`},
		"no folder entry":    {pack(t, manifest(airgap), inner, entry{"images/docker-archive/a", []byte("x")}), "say nothing"},
		"manifest too large": {pack(t, manifest(strings.Repeat("#", maxManifest+1)), inner), "longer than 8 MiB"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.airgap")
			if err := os.WriteFile(path, tt.file, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ReadBundle(path)
			if problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v (exit %d), want …%s…", err, problem.ExitCode(err), tt.want)
			}
		})
	}
	if _, err := ReadBundle(filepath.Join(t.TempDir(), "none")); problem.ExitCode(err) != problem.ExitUsage {
		t.Errorf("missing file: %v", err)
	}
}

func now() time.Time { return time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC) }

const license = `apiVersion: kots.io/v1beta1
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

func TestLicensesAreCheckedForTheirForm(t *testing.T) {
	change := func(old, new string) string { return strings.Replace(license, old, new, 1) }
	tests := []struct{ name, text, want string }{
		{"good", license, ""},
		{"second form", change("v1beta1", "v1beta2"), ""},
		{"never ends", change(`"2030-07-27T00:00:00Z"`, `""`), ""},
		{"time without quotes", change(`"2030-07-27T00:00:00Z"`, `2030-07-27T00:00:00Z`), ""},
		{"no entitlements", license[:strings.Index(license, "  entitlements")], ""},
		{"ended", change("2030", "2020"), "it expired on 2020-07-27"},
		{"odd end", change(`"2030-07-27T00:00:00Z"`, "soon"), "expires_at is not a time"},
		{"end is a number", change(`"2030-07-27T00:00:00Z"`, "7"), "expires_at is not a time"},
		{"no signature", change("e30=", `""`), "spec.signature is empty"},
		{"cut signature", change("e30=", "e30"), "spec.signature is cut off"},
		{"all at once", change("secret-id", `""`)[:0] + strings.Replace(change("secret-id", `""`), "my-app", `""`, 1), "spec.appSlug is empty\nspec.licenseID is empty"},
		{"other kind", change("License", "Airgap"), "not a License"},
		{"no yaml", "secret-id: [", "not YAML of the right form"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := ReadLicense([]byte(tt.text), now())
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

func TestLicenseAndBundleMustBelongTogether(t *testing.T) {
	tests := []struct {
		name    string
		license License
		bundle  *Bundle
		airgap  bool
		want    string
	}{
		{"fits", License{Slug: "a", Airgap: true}, &Bundle{Slug: "a"}, true, ""},
		{"online", License{Slug: "a"}, nil, false, ""},
		{"no air gap", License{Slug: "a"}, &Bundle{Slug: "a"}, true, "does not allow air-gapped installs"},
		{"other application", License{Slug: "a", Airgap: true}, &Bundle{Slug: "b"}, true, `for application "a", the bundle holds "b"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Check(tt.license, tt.bundle, tt.airgap)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want …%s…", err, tt.want)
			}
		})
	}
}

func FuzzReadBundleNeverPanics(f *testing.F) {
	f.Add(pack(f, manifest(airgap), entry{"app.tar.gz", pack(f, entry{"a.yaml", []byte(app)})}, entry{"images", nil}))
	f.Add(pack(f, manifest("{"), entry{"images/", nil}))
	f.Add([]byte("hello"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readBundle(bytes.NewReader(b))
		if err == nil && got.Slug == "" {
			t.Errorf("accepted %+v", got)
		}
	})
}

// FuzzPartsOfABundleNeverPanic packs what is fuzzed, so that the fuzzer gets behind gzip and tar.
func FuzzPartsOfABundleNeverPanic(f *testing.F) {
	f.Add([]byte(airgap), "a.yaml", []byte(app), "images")
	f.Add([]byte(airgap), "a", []byte("---\n"+app+"---"), "images/")
	f.Fuzz(func(t *testing.T, m []byte, name string, doc []byte, third string) {
		inner, err := tryPack(entry{name, append([]byte{}, doc...)})
		if err != nil {
			t.Skip()
		}
		outer, err := tryPack(manifest(string(m)), entry{"app.tar.gz", inner}, entry{third, nil})
		if err != nil {
			t.Skip()
		}
		got, err := readBundle(bytes.NewReader(outer))
		if err == nil && (got.Slug == "" || len(got.Application) > len(doc)) {
			t.Errorf("accepted %+v", got)
		}
	})
}

func FuzzReadLicenseNeverPanicsOrShowsIt(f *testing.F) {
	f.Add([]byte(license))
	f.Add([]byte("kind: License"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := readLicense(b, now()); err == nil && l.Slug == "" {
			t.Errorf("accepted %+v", l)
		}
	})
}
