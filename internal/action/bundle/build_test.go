package bundle

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

const documented = "../../../installer.yaml"

func resolved(t *testing.T) (images []string, files []airgaptest.HostFile) {
	t.Helper()
	raw, err := os.ReadFile(documented)
	if err != nil {
		t.Fatal(err)
	}
	in, findings := spec.ParseInstaller(documented, raw)
	if in == nil {
		t.Fatalf("%+v", findings)
	}
	req, err := resolveContents(t.Context(), in, partSource{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range req.HostFiles {
		files = append(files, airgaptest.HostFile{Name: f.Name, Version: f.Version, Content: "the program " + f.Name})
	}
	return req.Images, files
}

// layout returns an OCI layout with all parts of the documented Installer, except for
// images whose name contains without.
func layout(t *testing.T, without string) string {
	t.Helper()
	refs, files := resolved(t)
	var images []airgaptest.Image
	for _, ref := range refs {
		if without == "" || !strings.Contains(ref, without) {
			images = append(images, airgaptest.Image{Ref: ref, Files: []string{"base of all", ref}})
		}
	}
	return airgaptest.WriteLayout(t, images, files)
}

// documentedCopy returns the path of a copy of the documented Installer, beside which a build may write.
func documentedCopy(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(documented)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, string(raw))
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func application(t *testing.T, bounds string) string {
	t.Helper()
	return write(t, "apiVersion: kots.io/v1beta1\nkind: Application\nmetadata: {name: my-app}\nspec: {title: Toy, "+bounds+"}\n")
}

func TestBuild_WritesRequiredPartsInOrder(t *testing.T) {
	out := filepath.Join(t.TempDir(), "my-app.bundle")
	app := application(t, `targetKotsVersion: "1.131.2"`)
	reported := int64(0)
	req := BuildRequest{Installer: documentedCopy(t), Application: app, Source: layout(t, ""), Out: out, Progress: func(done, _ int64) { reported = done }}
	res, err := Build(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := Verify(t.Context(), VerifyRequest{Path: out})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(out)
	if err != nil || res.Path != out || res.Size != info.Size() || res.Digest != sum.Digest || sum.Name != "my-app" || reported == 0 {
		t.Errorf("%+v of %+v, progress %d bytes, %v", res, sum, reported, err)
	}
	var kinds []format.Kind
	var images, charts []string
	for _, it := range sum.Items {
		kinds = append(kinds, it.Kind)
		switch it.Kind {
		case format.KindImage:
			images = append(images, it.Name)
		case format.KindChart:
			charts = append(charts, it.Name)
		}
	}
	for _, k := range []format.Kind{format.KindInstaller, format.KindApplication, format.KindHost} {
		if !slices.Contains(kinds, k) {
			t.Errorf("it contains %v, not %s", kinds, k)
		}
	}
	if want := []string{"local-path-storage", "registry", "console-proxy"}; !slices.Equal(charts, want) {
		t.Errorf("charts are %v, want %v", charts, want)
	}
	pause, kotsadm := index(images, "pause"), index(images, "kotsadm/kotsadm")
	if pause != 0 || kotsadm < 7 {
		t.Errorf("images are not in the order in which a host needs them: %v", images)
	}
	checkFiles(t, out, documented, app)

	req.Out = filepath.Join(t.TempDir(), "again.bundle")
	if again, err := Build(t.Context(), req); err != nil || again.Digest != res.Digest || again.Size != res.Size {
		t.Errorf("the second time it is %+v, %v", again, err)
	}
}

func index(list []string, part string) int {
	return slices.IndexFunc(list, func(s string) bool { return strings.Contains(s, part) })
}

// checkFiles verifies that the bundle contains the exact bytes of Installer and Application.
func checkFiles(t *testing.T, path, installer, application string) {
	t.Helper()
	b, err := airgap.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	got, err := b.Installer(t.Context())
	if want, _ := os.ReadFile(installer); err != nil || string(got) != string(want) {
		t.Errorf("the Installer is %s, %v", got, err)
	}
	got, ok, err := b.Application(t.Context())
	if want, _ := os.ReadFile(application); err != nil || !ok || string(got) != string(want) {
		t.Errorf("the Application is %s, %v", got, err)
	}
}

func TestBuild_RefusesWhatCannotBeInstalled(t *testing.T) {
	full := layout(t, "")
	fits := application(t, `targetKotsVersion: "1.131.2"`)
	raw, err := os.ReadFile(documented)
	if err != nil {
		t.Fatal(err)
	}
	with := func(old, new string) string { return write(t, strings.Replace(string(raw), old, new, 1)) }
	for name, c := range map[string]struct {
		req  BuildRequest
		exit int
		want string
	}{
		"the gate refuses":              {BuildRequest{Installer: documented, Application: application(t, `targetKotsVersion: "1.120.0"`), Source: full}, problem.ExitGate, "requires a different version of KOTS"},
		"the gate refuses, minimum":     {BuildRequest{Installer: documented, Application: application(t, `minKotsVersion: "1.132.0"`), Source: full}, problem.ExitGate, "minKotsVersion"},
		"a bound is not a version":      {BuildRequest{Installer: documented, Application: application(t, `minKotsVersion: "new"`), Source: full}, problem.ExitConfig, "minKotsVersion"},
		"a version is not exact":        {BuildRequest{Installer: with("v1.33.8+k0s.1", "latest"), Source: full}, problem.ExitConfig, "spec.k0s.version"},
		"a version is not known":        {BuildRequest{Installer: with("version: 0.0.30", "version: 0.0.31"), Source: full}, problem.ExitConfig, "0.0.30"},
		"the Installer is another kind": {BuildRequest{Installer: fits, Source: full}, problem.ExitConfig, "is not an Installer"},
		"the two files are swapped":     {BuildRequest{Installer: fits, Application: documented, Source: full}, problem.ExitConfig, "is not an Installer"},
		"the Installer is given twice":  {BuildRequest{Installer: documented, Application: documented, Source: full}, problem.ExitConfig, "second Installer"},
		"the files are missing":         {BuildRequest{Installer: "/none/i", Application: "/none/a", Source: full}, problem.ExitConfig, "cannot read /none/a"},
		"the source lacks an image":     {BuildRequest{Installer: documented, Application: fits, Source: layout(t, "coredns")}, problem.ExitBundle, "coredns"},
		"there is no source":            {BuildRequest{Installer: documented, Application: fits, Source: "/none/layout"}, problem.ExitBundle, "/none/layout"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.req.Out = filepath.Join(dir, "my-app.bundle")
			_, err := Build(t.Context(), c.req)
			if problem.ExitCode(err) != c.exit {
				t.Errorf("exit %d, want %d: %v", problem.ExitCode(err), c.exit, err)
			}
			if all := fmt.Sprint(err) + problem.Hint(err); !strings.Contains(all, c.want) {
				t.Errorf("%s\nwant %q", all, c.want)
			}
			if left, _ := os.ReadDir(dir); len(left) != 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
}

func TestInspect_RefusesOtherFiles(t *testing.T) {
	path := write(t, "apiVersion: v1\n")
	if _, err := Inspect(t.Context(), path); problem.ExitCode(err) != problem.ExitBundle {
		t.Errorf("inspect: %v", err)
	}
	if _, err := Verify(t.Context(), VerifyRequest{Path: path}); problem.ExitCode(err) != problem.ExitBundle {
		t.Errorf("verify: %v", err)
	}
}

func TestVerify_FindsWrongByteThatInspectDoesNotRead(t *testing.T) {
	path := airgaptest.WriteBundle(t, airgaptest.NewRequest(t))
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[strings.LastIndex(string(raw), "\x28\xb5\x2f\xfd")+8] ^= 1 // in the last zstd layer
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(t.Context(), path); err != nil {
		t.Errorf("inspect: %v", err)
	}
	if _, err := Verify(t.Context(), VerifyRequest{Path: path}); problem.ExitCode(err) != problem.ExitBundle {
		t.Errorf("verify: %v", err)
	}
}

// The types in this build are of Kubernetes 1.33, so a k0s of another minor judges its configuration.
func TestBuild_LetsAnotherK0sJudgeItsConfiguration(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the test's layout is for amd64")
	}
	const version, key = "v1.36.3+k0s.2", "\n    config: {spec: {metricsServer: {image: none}}}"
	const judge = "#!/bin/sh\n[ \"$*\" = 'config validate --config -' ] || exit 3\nif grep -q 'metricsServer:'; then echo 'no image none' >&2; exit 1; fi\n"
	known, err := k0s.KnownImages(version)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(documented)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ overlay, program, want string }{
		"accepted":        {"", judge, ""},
		"refused":         {key, judge, "cannot let k0s " + version + " check its configuration: "},
		"reason":          {key, judge, "no image none"},
		"another program": {"", "text", "check its configuration"},
	} {
		t.Run(name, func(t *testing.T) {
			installer := write(t, strings.Replace(string(raw), "v1.33.8+k0s.1", version+c.overlay, 1))
			var images []airgaptest.Image
			refs, files := resolved(t)
			for _, ref := range append(refs, known...) {
				if !slices.ContainsFunc(images, func(i airgaptest.Image) bool { return i.Ref == ref }) {
					images = append(images, airgaptest.Image{Ref: ref, Files: []string{ref}})
				}
			}
			files[0] = airgaptest.HostFile{Name: "k0s", Version: version, Content: c.program}
			out := filepath.Join(t.TempDir(), "b")
			_, err := Build(t.Context(), BuildRequest{Installer: installer, Source: airgaptest.WriteLayout(t, images, files), Out: out})
			if c.want == "" && err != nil || c.want != "" && (problem.ExitCode(err) != problem.ExitConfig || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if _, err := os.Stat(out); (err == nil) != (c.want == "") {
				t.Errorf("the bundle: %v", err)
			}
		})
	}
}

func TestBuild_RefusesAnExpiryInThePast(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for expires, want := range map[string]int{"2026-11-30": problem.ExitUsage, "2026-11-30T12:00:00Z": problem.ExitUsage, "soon": problem.ExitUsage, "2026-12-01": problem.ExitConfig} {
		t.Run(expires, func(t *testing.T) {
			_, err := Build(t.Context(), BuildRequest{Installer: "/none/installer.yaml", Source: "/none", Out: filepath.Join(t.TempDir(), "b"), Expires: expires, Now: now})
			if problem.ExitCode(err) != want {
				t.Errorf("exit %d, want %d: %v", problem.ExitCode(err), want, err)
			}
		})
	}
}
