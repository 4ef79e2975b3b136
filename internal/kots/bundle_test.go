package kots

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
	other := []byte(strings.Replace(appYAML, "first", "second", 1))
	inner := packTar(t,
		tarEntry{"z.yaml", other},
		tarEntry{"b/multi.yaml", []byte("kind: ConfigMap\napiVersion: v1\n---\n" + appYAML + "---\n" + string(other))},
		tarEntry{"c.yaml", other},
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
		"manifest too large": {packTar(t, manifestEntry(strings.Repeat("#", maxManifest+1)), inner), "larger than 8 MiB"},
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

func FuzzReadAppBundle(f *testing.F) {
	f.Add(packTar(f, manifestEntry(airgapYAML), tarEntry{"app.tar.gz", packTar(f, tarEntry{"a.yaml", []byte(appYAML)})}, tarEntry{"images", nil}))
	f.Add(packTar(f, manifestEntry("{"), tarEntry{"images/", nil}))
	f.Add([]byte("hello"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseAppBundle(bytes.NewReader(b))
		if err == nil && got.Slug == "" {
			t.Errorf("accepted %+v", got)
		}
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
		got, err := parseAppBundle(bytes.NewReader(outer))
		if err == nil && (got.Slug == "" || len(got.Application) > len(doc)) {
			t.Errorf("accepted %+v", got)
		}
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
