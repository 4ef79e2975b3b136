package lockfile

import (
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

func testInstaller() *spec.Installer {
	in := &spec.Installer{}
	in.Spec.K0s.Version = "v1.33.8+k0s.1"
	in.Spec.Kotsadm = &spec.Kotsadm{Version: "1.131.2"}
	return in
}

// sum returns a digest of one repeated hexadecimal digit.
func sum(digit string) string { return "sha256:" + strings.Repeat(digit, 64) }

func testPlatform() Platform {
	return Platform{Name: "linux/amd64",
		HostFiles: []HostFile{
			{Name: "k0s", Version: "v1.33.8+k0s.1", URL: "https://example.com/k0s", Digest: sum("a"), Size: 10},
			{Name: "kots", Version: "1.131.2", URL: "https://example.com/kots.tar.gz", Digest: sum("b"), Size: 20},
		},
		Images: []Image{
			{Reference: "quay.io/k0sproject/pause:3.10.1", Digest: sum("c"), Size: 30},
			{Reference: "docker.io/library/nginx:1.22.1", Digest: sum("d"), Size: 40},
		}}
}

// testFile returns a lock file and its content.
func testFile(t testing.TB) (File, string) {
	t.Helper()
	f, err := New(testInstaller(), []Platform{testPlatform()})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := f.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return f, string(raw)
}

func TestParse_ReturnsWhatMarshalWrote(t *testing.T) {
	f, text := testFile(t)
	for name, text := range map[string]string{
		"as written":          text,
		"with other comments": "# another\n" + strings.ReplaceAll(text, "hostFiles:", "hostFiles: # two of them"),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse("installer.lock.yaml", []byte(text), "plinth lock installer.yaml")
			if err != nil {
				t.Fatal(err)
			}
			if again, _ := got.Marshal(); got.Checksum != f.Checksum || len(Compare(got.Platforms[0], testPlatform())) > 0 || !strings.HasSuffix(text, string(again[len(header):])) && name == "as written" {
				t.Errorf("%+v", got)
			}
			if err := got.CheckCurrent(testInstaller(), "linux/amd64"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestParse_RefusesOtherFilesByLine(t *testing.T) {
	_, good := testFile(t)
	edit := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%s lacks %q", good, old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for name, c := range map[string]struct{ text, want string }{
		"empty":                {"", "installer.lock.yaml:1:1: error [empty-file]"},
		"not YAML":             {"a: b: c", "[yaml-syntax]"},
		"another kind":         {edit("kind: InstallerLock", "kind: Installer"), ":4:7: error [lock-kind] kind: is Installer (a lock file has the kind InstallerLock)"},
		"a newer format":       {edit("plinth.dev/v1beta1", "plinth.dev/v2"), "[lock-api-version] apiVersion: is plinth.dev/v2"},
		"an unknown key":       {edit("    images:", "    programs: []\n    images:"), "[unknown-key] platforms[0].programs"},
		"an unknown image key": {edit("- reference: quay.io", "- tag: x\n        reference: quay.io"), "[unknown-key] platforms[0].images[0].tag"},
		"no digest":            {edit("        digest: "+sum("c")+"\n", ""), "[required] platforms[0].images[0].digest: is missing"},
		"a short digest":       {edit(sum("c"), "sha256:cc"), `[lock-digest] platforms[0].images[0].digest: is "sha256:cc"`},
		"another platform":     {edit("linux/amd64", "windows/amd64"), `[lock-platform] platforms[0].name: is "windows/amd64" (a platform is linux/amd64 or linux/arm64)`},
		"a negative size":      {edit("size: 30", "size: -30"), "[lock-size] platforms[0].images[0].size: is -30"},
		"a size in words":      {edit("size: 30", "size: big"), "[wrong-type] platforms[0].images[0].size"},
		"a list of texts":      {edit("- reference: quay.io", "- text\n      - reference: quay.io"), "[wrong-type] platforms[0].images[0]"},
		"an edited digest":     {edit(sum("c"), sum("e")), "[lock-checksum] checksum: is " + "sha256:"},
		"an edited version":    {edit("1.131.2", "1.131.3"), "the file was changed by hand"},
		"two documents":        {good + "---\na: 1\n", "[one-document]"},
		"anchors":              {edit("digest: "+sum("c"), "digest: &a "+sum("c")), "[no-anchors]"},
		"an alias":             {edit("- reference: quay.io", "- *a\n      - reference: quay.io"), "[yaml-syntax]"},
		"merge conflict":       {"<<<<<<< HEAD\n" + good, "error ["},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("installer.lock.yaml", []byte(c.text), "plinth lock installer.yaml")
			if problem.ExitCode(err) != problem.ExitConfig || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q, got %v", c.want, err)
			}
			if !strings.Contains(problem.Hint(err), "plinth lock") {
				t.Errorf("hint %q", problem.Hint(err))
			}
		})
	}
}

func TestCheckCurrent_NamesWhatTheInstallerChanged(t *testing.T) {
	for name, c := range map[string]struct {
		change   func(*spec.Installer)
		platform string
		want     string
	}{
		"nothing":                {func(*spec.Installer) {}, "linux/amd64", ""},
		"a field that is not it": {func(in *spec.Installer) { in.Metadata.Name = "other"; in.Spec.Network.PodCIDR = "10.0.0.0/8" }, "linux/amd64", ""},
		"k0s":                    {func(in *spec.Installer) { in.Spec.K0s.Version = "v1.34.10+k0s.0" }, "linux/amd64", "k0s is locked at v1.33.8+k0s.1, the Installer has v1.34.10+k0s.0"},
		"kots":                   {func(in *spec.Installer) { in.Spec.Kotsadm.Version = "1.131.1" }, "linux/amd64", "kots is locked at 1.131.2, the Installer has 1.131.1"},
		"kots removed":           {func(in *spec.Installer) { in.Spec.Kotsadm = nil }, "linux/amd64", "the Installer has none"},
		"a new add-on":           {func(in *spec.Installer) { in.Spec.Registry = &spec.AddOn{Version: "3.1.2"} }, "linux/amd64", "the versions of the add-ons, spec.charts or spec.k0s.config have changed"},
		"the overlay":            {func(in *spec.Installer) { in.Spec.K0s.Config = map[string]any{"spec": 1} }, "linux/amd64", "spec.k0s.config have changed"},
		"a new chart":            {func(in *spec.Installer) { in.Spec.Charts = []spec.Chart{{Name: "a"}} }, "linux/amd64", "chart a is not locked"},
		"another platform":       {func(*spec.Installer) {}, "linux/arm64", "it has no platform linux/arm64, only linux/amd64"},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := testFile(t)
			in := testInstaller()
			c.change(in)
			err := f.CheckCurrent(in, c.platform)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q, got %v", c.want, err)
			}
		})
	}
}

func TestCompare_NamesEachComponentWithBothValues(t *testing.T) {
	found := testPlatform()
	slices.Reverse(found.Images) // the order does not matter
	if diff := Compare(testPlatform(), found); diff != nil {
		t.Errorf("%v", diff)
	}
	found.HostFiles[0].Digest = sum("e")
	found.Images = append(found.Images[:1], Image{Reference: "example.com/new:1", Digest: sum("f"), Size: 5})
	var got []string
	for _, d := range Compare(testPlatform(), found) {
		got = append(got, d.String())
	}
	want := []string{
		"host file k0s: locked v1.33.8+k0s.1 " + sum("a") + " 10 bytes from https://example.com/k0s, found v1.33.8+k0s.1 " + sum("e") + " 10 bytes from https://example.com/k0s",
		"image quay.io/k0sproject/pause:3.10.1: locked " + sum("c") + " 30 bytes, found nothing",
		"image example.com/new:1: locked nothing, found " + sum("f") + " 5 bytes",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPath_IsBesideTheInstaller(t *testing.T) {
	for in, want := range map[string]string{"installer.yaml": "installer.lock.yaml", "a/b.yml": "a/b.lock.yaml", "./c": "./c.lock.yaml"} {
		if got := Path(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	_, good := testFile(f)
	f.Add([]byte(good))
	f.Add([]byte("platforms: [{images: [*a]}]\n"))
	f.Add([]byte("platforms:\n- &a {hostFiles: [{size: 99999999999999999999}]}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("f", data, "")
		if err != nil {
			if problem.ExitCode(err) != problem.ExitConfig {
				t.Errorf("exit code %d: %v", problem.ExitCode(err), err)
			}
			return
		}
		raw, err := file.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Parse("f", raw, ""); err != nil || again.Checksum != file.Checksum {
			t.Errorf("%v\n%s", err, raw)
		}
	})
}

func TestCheckCurrent_NamesChangedCharts(t *testing.T) {
	chart := func(version string) []spec.Chart { return []spec.Chart{{Name: "a", Version: version}} }
	for name, c := range map[string]struct {
		now  []spec.Chart
		want string
	}{
		"the same":        {chart("1.0.0"), ""},
		"another version": {chart("1.1.0"), "chart a is locked at 1.0.0, the Installer has 1.1.0"},
		"removed":         {nil, "chart a is locked at 1.0.0, the Installer has none"},
		"other values":    {[]spec.Chart{{Name: "a", Version: "1.0.0", Values: map[string]any{"b": 1}}}, "spec.charts or"},
	} {
		t.Run(name, func(t *testing.T) {
			in := testInstaller()
			in.Spec.Charts = chart("1.0.0")
			p := testPlatform()
			p.Charts = []Chart{{Name: "a", Chart: "./a", Version: "1.0.0", Digest: sum("e"), Size: 5}}
			f, err := New(in, []Platform{p})
			if err != nil {
				t.Fatal(err)
			}
			raw, err := f.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if f, err = Parse("installer.lock.yaml", raw, "plinth lock installer.yaml"); err != nil {
				t.Fatal(err)
			}
			in.Spec.Charts = c.now
			err = f.CheckCurrent(in, "linux/amd64")
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q, got %v", c.want, err)
			}
			altered := p
			altered.Charts = []Chart{{Name: "a", Chart: "./a", Version: "1.0.0", Digest: sum("f"), Size: 5}}
			if diff := Compare(p, altered); len(diff) != 1 || diff[0].Component != "chart a" {
				t.Errorf("%v", diff)
			}
		})
	}
}

// A folder that `plinth bundle mirror` filled has what the lock names, without the URL or without the archive.
func TestCompare_HostFilesByWhatBothHave(t *testing.T) {
	const url = "https://github.com/a"
	archive, program, other := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64), "sha256:"+strings.Repeat("c", 64)
	for name, tc := range map[string]struct {
		locked, found HostFile
		same          bool
	}{
		"the same archive, from elsewhere":     {HostFile{Digest: archive, Size: 2, URL: url}, HostFile{Digest: archive, Size: 2, URL: "https://b"}, true},
		"the same archive, without a URL":      {HostFile{Digest: archive, Size: 2, URL: url}, HostFile{Digest: archive, Size: 2}, true},
		"the same archive, unpacked now":       {HostFile{Digest: archive, Size: 2, URL: url}, HostFile{Digest: archive, Size: 2, URL: url, Program: program}, true},
		"another program in the archive":       {HostFile{Digest: archive, Size: 2, URL: url, Program: other}, HostFile{Digest: archive, Size: 2, URL: url, Program: program}, false},
		"the program of the archive":           {HostFile{Digest: archive, Size: 2, URL: url, Program: program}, HostFile{Digest: program, Size: 9}, true},
		"the archive of the program":           {HostFile{Digest: program, Size: 9}, HostFile{Digest: archive, Size: 2, URL: url, Program: program}, true},
		"another program":                      {HostFile{Digest: archive, Size: 2, URL: url, Program: program}, HostFile{Digest: other, Size: 9}, false},
		"a program, and an archive unopened":   {HostFile{Digest: archive, Size: 2, URL: url}, HostFile{Digest: program, Size: 9}, false},
		"another archive":                      {HostFile{Digest: archive, Size: 2, URL: url}, HostFile{Digest: other, Size: 2, URL: url}, false},
		"another archive, of the same program": {HostFile{Digest: archive, Size: 2, URL: url, Program: program}, HostFile{Digest: other, Size: 2, URL: url, Program: program}, false},
		"another size":                         {HostFile{Digest: archive, Size: 2, URL: url}, HostFile{Digest: archive, Size: 3, URL: url}, false},
		"another version":                      {HostFile{Digest: archive, Size: 2, Version: "1"}, HostFile{Digest: archive, Size: 2, Version: "2"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			tc.locked.Name, tc.found.Name = "kots", "kots"
			if diff := Compare(Platform{HostFiles: []HostFile{tc.locked}}, Platform{HostFiles: []HostFile{tc.found}}); (diff == nil) != tc.same {
				t.Errorf("%v", diff)
			}
		})
	}
}
