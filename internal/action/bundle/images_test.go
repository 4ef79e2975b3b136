package bundle

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/airgap/pull"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/testkit"
)

// release returns where a host file is published.
func release(t *testing.T, name string) pull.Release {
	t.Helper()
	all := pull.UpstreamReleases()
	i := slices.IndexFunc(all, func(r pull.Release) bool { return r.Name == name })
	if i < 0 {
		t.Fatalf("no release of %s", name)
	}
	return all[i]
}

// contentsOf returns the images of the documented Installer with other versions.
func contentsOf(t *testing.T, k0sVersion, kotsVersion string) []string {
	t.Helper()
	raw, err := os.ReadFile(documented)
	if err != nil {
		t.Fatal(err)
	}
	in, findings := spec.ParseInstaller(documented, raw)
	if in == nil {
		t.Fatalf("%+v", findings)
	}
	in.Spec.K0s.Version, in.Spec.Kotsadm.Version = k0sVersion, kotsVersion
	want, err := resolveContents(t.Context(), in, partSource{})
	if err != nil {
		t.Fatal(err)
	}
	return want.Images
}

// withPrefix returns the references that begin with one of prefixes, as a list.
func withPrefix(refs []string, prefixes ...string) string {
	var cells []string
	for _, ref := range refs {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(ref, p) }) {
			cells = append(cells, "`"+ref+"`")
		}
	}
	return strings.Join(cells, ", ")
}

func TestReference_ImagesOfEachVersion(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Images and downloads by version

<!-- generated from internal/k0s/images.yaml and addons/kotsadm/addon.yaml; see the Makefile, target golden -->

What ` + "`plinth lock`" + ` and ` + "`plinth bundle build --source registry`" + ` ask for. The SHA-256 of a download is in the
release's own checksum list. For another version the program names its images, once it is downloaded and verified:
` + "`k0s airgap list-images`" + ` and ` + "`kots admin-console generate-manifests`" + `. That needs Linux.

## k0s

`)
	versions, err := k0s.KnownImageVersions()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range versions {
		fmt.Fprintf(&b, "### %s\n\n", v)
		for _, arch := range []string{"amd64", "arm64"} {
			fmt.Fprintf(&b, "- <%s>\n", release(t, "k0s").URL(v, arch))
		}
		for _, ref := range contentsOf(t, v, "1.131.2") {
			if strings.HasPrefix(ref, "quay.io/k0sproject/") {
				fmt.Fprintf(&b, "- `%s`\n", ref)
			}
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, `## KOTS

For version V, and the same with arm64:
<%s>

The images are
%s. The database changes with the version:

| from KOTS | database |
|---|---|
`, release(t, "kots").URL("V", "amd64"), strings.ReplaceAll(withPrefix(contentsOf(t, "v1.33.8+k0s.1", "1.131.2"), "docker.io/kotsadm/kotsadm"), "1.131.2", "V"))
	for _, v := range kotsRanges(t) {
		if v.Images["rqlite"] == "" {
			fmt.Fprintf(&b, "| %s | the CLI is asked |\n", v.From)
			continue
		}
		fmt.Fprintf(&b, "| %s | %s |\n", v.From, withPrefix(contentsOf(t, "v1.33.8+k0s.1", v.From), "docker.io/kotsadm/rqlite:"))
	}
	testkit.Golden(t, "../../../docs/reference/images.md", []byte(b.String()))
}

// kotsRange is an entry of the table in KOTS's addon.yaml.
type kotsRange struct {
	From   string            `yaml:"from"`
	Images map[string]string `yaml:"images"`
}

func kotsRanges(t *testing.T) []kotsRange {
	t.Helper()
	raw, err := os.ReadFile("../../../addons/kotsadm/addon.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Versions []kotsRange `yaml:"versions"`
	}
	if err := yaml.Unmarshal(raw, &d); err != nil || len(d.Versions) == 0 {
		t.Fatalf("%+v, %v", d, err)
	}
	return d.Versions
}
