package bundle

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/lockfile"
	"github.com/plinthdev/plinth/internal/problem"
)

// lockedInstaller returns an Installer in a folder of its own and its lock file for source.
func lockedInstaller(t *testing.T, source string) (installer, lock string) {
	t.Helper()
	installer = documentedCopy(t)
	res, err := Lock(t.Context(), LockRequest{Installer: installer, Source: source})
	if err != nil {
		t.Fatal(err)
	}
	if res.Path != lockfile.Path(installer) || len(res.Platforms) != 1 || res.Platforms[0].Name != "linux/amd64" {
		t.Fatalf("%+v", res)
	}
	return installer, res.Path
}

func TestLock_RecordsEveryPartOfALayout(t *testing.T) {
	refs, files := resolved(t)
	installer, path := lockedInstaller(t, layout(t, ""))
	lock, err := readLockFile(path, "")
	if err != nil {
		t.Fatal(err)
	}
	p := lock.Platforms[0]
	var images []string
	for _, i := range p.Images {
		images = append(images, i.Reference)
	}
	if !slices.Equal(images, refs) {
		t.Errorf("images are %v, want %v", images, refs)
	}
	for i, f := range p.HostFiles {
		if f.Name != files[i].Name || f.Version != files[i].Version || f.URL != "" || f.Size != int64(len(files[i].Content)) {
			t.Errorf("%+v, want %+v", f, files[i])
		}
	}
	before, _ := os.ReadFile(path)
	res, err := Lock(t.Context(), LockRequest{Installer: installer, Source: layout(t, "")})
	if after, _ := os.ReadFile(path); err != nil || res.Changes != nil || string(after) != string(before) {
		t.Errorf("the second time it is %+v, %v", res, err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 2 {
		t.Errorf("it left %v", left)
	}
}

// otherLayout returns a layout like layout, in which the image that contains changed has other content.
func otherLayout(t *testing.T, changed string) string {
	t.Helper()
	refs, files := resolved(t)
	var images []airgaptest.Image
	for _, ref := range refs {
		content := []string{"base of all", ref}
		if strings.Contains(ref, changed) {
			content = append(content, "moved")
		}
		images = append(images, airgaptest.Image{Ref: ref, Files: content})
	}
	return airgaptest.WriteLayout(t, images, files)
}

func TestLock_NamesWhatChanged(t *testing.T) {
	installer, _ := lockedInstaller(t, layout(t, ""))
	res, err := Lock(t.Context(), LockRequest{Installer: installer, Source: otherLayout(t, "coredns")})
	if err != nil || len(res.Changes) != 1 || len(res.Changes[0].Differences) != 1 || !strings.HasPrefix(res.Changes[0].Differences[0].Component, "image quay.io/k0sproject/coredns:") {
		t.Errorf("%+v, %v", res.Changes, err)
	}
}

func TestBuild_WritesAbsentLockFile(t *testing.T) {
	installer := documentedCopy(t)
	source := layout(t, "")
	req := BuildRequest{Installer: installer, Source: source, Out: filepath.Join(t.TempDir(), "b")}
	first, err := Build(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readLockFile(lockfile.Path(installer), ""); err != nil {
		t.Fatal(err)
	}
	req.Locked = true
	again, err := Build(t.Context(), req)
	if err != nil || again.Digest != first.Digest {
		t.Errorf("with the lock file it is %+v, %v; it was %+v", again, err, first)
	}
}

func TestBuild_LockedRefusesEveryDifference(t *testing.T) {
	source := layout(t, "")
	edit := func(file, old, new string) func(*testing.T, string, string) {
		return func(t *testing.T, installer, lock string) {
			path := map[string]string{"installer": installer, "lock": lock}[file]
			raw, err := os.ReadFile(path)
			if err != nil || !strings.Contains(string(raw), old) {
				t.Fatalf("%v: no %q in %s", err, old, raw)
			}
			if err := os.WriteFile(path, []byte(strings.Replace(string(raw), old, new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		change   func(t *testing.T, installer, lock string)
		source   string
		platform string
		exit     int
		want     string
		hint     string
	}{
		"a moved tag":             {source: otherLayout(t, "coredns"), exit: problem.ExitBundle, want: "image quay.io/k0sproject/coredns:1.12.4: locked sha256:"},
		"no lock file":            {change: func(t *testing.T, _, lock string) { _ = os.Remove(lock) }, exit: problem.ExitConfig, want: ".lock.yaml does not exist"},
		"an altered lock file":    {change: edit("lock", "size: ", "size: 1"), exit: problem.ExitConfig, want: "the file was changed by hand"},
		"an unknown key":          {change: edit("lock", "hostFiles:", "hostfiles: []\n    hostFiles:"), exit: problem.ExitConfig, want: "[unknown-key] platforms[0].hostfiles"},
		"older than the versions": {change: edit("installer", "v1.33.8+k0s.1", "v1.33.6+k0s.0"), exit: problem.ExitConfig, want: "k0s is locked at v1.33.8+k0s.1, the Installer has v1.33.6+k0s.0"},
		"another platform":        {platform: "linux/arm64", exit: problem.ExitConfig, want: "it has no platform linux/arm64, only linux/amd64", hint: " --platform linux/amd64 --platform linux/arm64 --source "},
		"an unknown platform":     {platform: "darwin/arm64", exit: problem.ExitUsage, want: `"darwin/arm64" is not a platform`},
	} {
		t.Run(name, func(t *testing.T) {
			installer, lock := lockedInstaller(t, source)
			if c.change != nil {
				c.change(t, installer, lock)
			}
			if c.source == "" {
				c.source = source
			}
			out := filepath.Join(t.TempDir(), "b")
			_, err := Build(t.Context(), BuildRequest{Installer: installer, Source: c.source, Platform: c.platform, Out: out, Locked: true})
			if problem.ExitCode(err) != c.exit || !strings.Contains(err.Error(), c.want) || problem.Hint(err) == "" || !strings.Contains(problem.Hint(err), c.hint) {
				t.Errorf("exit %d, want %d and %q: %v; %s", problem.ExitCode(err), c.exit, c.want, err, problem.Hint(err))
			}
			if hint := problem.Hint(err); strings.Contains(hint, "plinth lock") && !strings.Contains(hint, "plinth lock "+installer) {
				t.Errorf("the hint does not name the Installer: %s", hint)
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("the bundle was written")
			}
		})
	}
}

func TestBuild_NotesDifferencesWithoutLocked(t *testing.T) {
	installer, lock := lockedInstaller(t, layout(t, ""))
	before, _ := os.ReadFile(lock)
	var notes []string
	_, err := Build(t.Context(), BuildRequest{Installer: installer, Source: otherLayout(t, "coredns"), Out: filepath.Join(t.TempDir(), "b"), Downloads: Downloads{Note: func(text string) { notes = append(notes, text) }}})
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0], "image quay.io/k0sproject/coredns") {
		t.Errorf("%v, %v", notes, err)
	}
	if after, _ := os.ReadFile(lock); string(after) != string(before) {
		t.Error("the lock file was changed")
	}
}

// Of a k0s and a KOTS that no table lists, the programs themselves say which images they need.
func TestLock_AsksUnknownVersionsForTheirImages(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the test's layout is for amd64")
	}
	raw, err := os.ReadFile(documented)
	if err != nil {
		t.Fatal(err)
	}
	known, err := k0s.KnownImages("v1.36.3+k0s.2")
	if err != nil {
		t.Fatal(err)
	}
	listed := strings.ReplaceAll(strings.Join(known, "\n"), "kube-proxy:v1.36.3-1", "kube-proxy:v1.36.9")
	const lists = "#!/bin/sh\n[ \"$*\" = 'airgap list-images --config -' ] && grep -q ClusterConfig && [ \"$HOME\" = \"${0%/*}\" ] && [ -z \"$KUBECONFIG\" ] || exit 3\ncat <<END\n"
	const manifests = "#!/bin/sh\n[ \"$1 $2 $3\" = 'admin-console generate-manifests --rootdir' ] || exit 3\nmkdir $4/admin-console\ncat >$4/admin-console/rqlite.yaml <<END\n    - image: kotsadm/rqlite:11.0.1\n      image: \"docker.io/kotsadm/kotsadm:v1.140.0\"\nEND\n"
	t.Setenv("KUBECONFIG", "/none")
	for name, c := range map[string]struct{ k0s, kots, want string }{
		"both answer":        {lists + listed + "\nEND\n", manifests, ""},
		"k0s lacks an image": {lists + known[0] + "\nEND\n", manifests, "its image list has no tag of"},
		"k0s fails":          {"#!/bin/sh\necho broken >&2; exit 1\n", manifests, "broken"},
		"k0s is no program":  {"text", manifests, "k0s v1.36.9+k0s.0"},
		"kots says nothing":  {lists + listed + "\nEND\n", "#!/bin/sh\n", "wrote no manifest with an image"},
		"kots has another":   {lists + listed + "\nEND\n", strings.ReplaceAll(manifests, "rqlite:", "postgres:"), "its manifests name no image rqlite"},
	} {
		t.Run(name, func(t *testing.T) {
			installer := write(t, strings.NewReplacer("v1.33.8+k0s.1", "v1.36.9+k0s.0", "1.131.2", "1.140.0").Replace(string(raw)))
			files := []airgaptest.HostFile{{Name: "k0s", Version: "v1.36.9+k0s.0", Content: c.k0s}, {Name: "kots", Version: "1.140.0", Content: c.kots}}
			var images []airgaptest.Image
			for _, ref := range append(strings.Fields(listed), "docker.io/kotsadm/kotsadm:v1.140.0", "docker.io/kotsadm/kotsadm-migrations:v1.140.0", "docker.io/kotsadm/rqlite:11.0.1") {
				images = append(images, airgaptest.Image{Ref: ref, Files: []string{ref}})
			}
			refs, _ := resolved(t)
			for _, ref := range refs {
				images = append(images, airgaptest.Image{Ref: ref, Files: []string{ref}})
			}
			res, err := Lock(t.Context(), LockRequest{Installer: installer, Source: airgaptest.WriteLayout(t, images, files)})
			if c.want != "" {
				if problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(err.Error(), c.want) || problem.Hint(err) == "" {
					t.Errorf("want %q, got %v", c.want, err)
				}
			} else if err != nil {
				t.Fatal(err)
			} else if text := res.Platforms[0]; !slices.ContainsFunc(text.Images, func(i lockfile.Image) bool { return i.Reference == "quay.io/k0sproject/kube-proxy:v1.36.9" }) ||
				!slices.ContainsFunc(text.Images, func(i lockfile.Image) bool { return i.Reference == "docker.io/kotsadm/rqlite:11.0.1" }) {
				t.Errorf("%+v", text)
			}
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(installer), "*")); len(left) > 2 {
				t.Errorf("it left %v", left)
			}
		})
	}
}

// The annotations of a layout are not verified: they cannot make another k0s that of the lock.
func TestStoredFile_TrustsNoAnnotationOfAProgram(t *testing.T) {
	src, program, archive := partSource{platform: "linux/amd64"}, digest.FromString("program"), digest.FromString("archive")
	annotations := map[string]string{format.AnnotationDownloadDigest: archive.String(), format.AnnotationDownloadSize: "7"}
	for name, tc := range map[string]struct {
		file string
		want lockfile.HostFile
	}{
		"k0s is its download":     {"k0s", lockfile.HostFile{Name: "k0s", Version: "v1", Digest: program.String(), Size: 9}},
		"kots is in its download": {"kots", lockfile.HostFile{Name: "kots", Version: "v1", Digest: archive.String(), Size: 7, Program: program.String()}},
	} {
		t.Run(name, func(t *testing.T) {
			got := src.storedFile(format.HostFile{Name: tc.file, Version: "v1", Digest: program, Size: 9}, annotations)
			if got.URL = ""; got != tc.want {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestLock_NamesTheInstallerThatIsMissing(t *testing.T) {
	_, err := Lock(t.Context(), LockRequest{Installer: "nope/installer.yaml", Source: fromRegistry})
	if problem.ExitCode(err) != problem.ExitConfig || !strings.Contains(fmt.Sprint(err), "cannot read nope/installer.yaml") {
		t.Errorf("%v", err)
	}
}
