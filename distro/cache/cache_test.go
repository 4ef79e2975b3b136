package cache

import (
	"context"
	"github.com/plinthdev/plinth/internal/testkit"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/distro/recipe"
)

const lockLine = "x bookworm 1 SUM 1 pool/x.deb MIT\ny bookworm 1 SUM 1 pool/y.deb MIT\n"

// distroFiles returns the files of a distro folder: c needs b, b needs a, and a uses
// the Debian package x.
func distroFiles() map[string]string {
	head := "version: v1\nlicense: MIT\nepoch: 1\nmodule: example.com/x@v1.0.0\nsum: h1:x=\nsteps: [{run: 'true'}]\n"
	return map[string]string{
		"a/recipe.yaml": head + "debs: [x]\n", "b/recipe.yaml": head + "needs: [a]\n", "c/recipe.yaml": head + "needs: [b]\n",
		"d/recipe.yaml": head, "d/go.mod": "module d\n", "payload.yaml": "epoch: 1\nimages: [{ref: 'example.com/d:1', part: d}]\n",
		"debian.lock": strings.ReplaceAll(lockLine, "SUM", strings.Repeat("0", 64)),
	}
}

// computeTestKeys returns the keys of the parts, of a layer and of the layout.
func computeTestKeys(t *testing.T, files map[string]string, variant string) map[string]string {
	t.Helper()
	c, err := Open(context.Background(), testkit.WriteFiles(t, t.TempDir(), 0o644, files), variant, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tree, err := c.TreeKey(recipe.Tree{Debs: map[string][]string{"y": {"/"}}, Files: map[string]recipe.File{"/b": {From: "b/b"}}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"a": c.PartKey("a"), "b": c.PartKey("b"), "c": c.PartKey("c"), "d": c.PartKey("d"), "layer": tree, "layout": filepath.Base(c.LayoutDir())}
}

func TestOpen_KeysDependOnInputsOnly(t *testing.T) {
	before := computeTestKeys(t, distroFiles(), "")
	for name, c := range map[string]struct{ file, from, to, changed string }{
		"nothing":                      {"payload.yaml", "epoch: 1", "epoch: 1", ""},
		"a comment in payload.yaml":    {"payload.yaml", "epoch: 1", "epoch: 1 # why", ""},
		"payload.yaml":                 {"payload.yaml", "epoch: 1", "epoch: 2", "layout"},
		"a recipe's own file":          {"d/go.mod", "module d", "module e", "d layout"},
		"a recipe that others need":    {"b/recipe.yaml", "epoch: 1", "epoch: 2", "b c layer layout"},
		"a Debian pin that a uses":     {"debian.lock", "x bookworm 1", "x bookworm 2", "a b c layer layout"},
		"a Debian pin of only a layer": {"debian.lock", "y bookworm 1", "y bookworm 2", "layer layout"},
	} {
		t.Run(name, func(t *testing.T) {
			f := distroFiles()
			f[c.file] = strings.Replace(f[c.file], c.from, c.to, 1)
			if got := changedKeys(before, computeTestKeys(t, f, "")); got != c.changed {
				t.Errorf("changed %q, want %q", got, c.changed)
			}
		})
	}
}

// changedKeys returns the names of the keys that differ.
func changedKeys(before, after map[string]string) string {
	var changed []string
	for _, part := range []string{"a", "b", "c", "d", "layer", "layout"} {
		if before[part] != after[part] {
			changed = append(changed, part)
		}
	}
	return strings.Join(changed, " ")
}

func TestOpen_VariantSharesWhatDoesNotDiffer(t *testing.T) {
	shipped := computeTestKeys(t, distroFiles(), "")
	for name, c := range map[string]struct{ variant, changed string }{
		"nothing":                   {"parts: {}\n", ""},
		"a part that nothing needs": {"parts: {d: x}\n", "d layout"},
		"a part that others need":   {"parts: {b: x}\n", "b c layer layout"},
		"a reference":               {"images: {example.com/d: {tag: '2'}}\n", "layout"},
	} {
		t.Run(name, func(t *testing.T) {
			f := distroFiles()
			f["variants/v.yaml"], f["variants/x/recipe.yaml"] = c.variant, "varies: d\nversion: v2\n"
			if got := changedKeys(shipped, computeTestKeys(t, f, "")); got != "" {
				t.Errorf("the variant changes %q of the payload itself", got)
			}
			if got := changedKeys(shipped, computeTestKeys(t, f, "v")); got != c.changed {
				t.Errorf("changed %q, want %q", got, c.changed)
			}
		})
	}
}

func TestOpen_KeyOfVariedRecipeDependsOnBothFolders(t *testing.T) {
	files := func() map[string]string {
		f := distroFiles()
		f["variants/v.yaml"], f["variants/x/recipe.yaml"] = "parts: {a: x}\n", "varies: d\n"
		return f
	}
	before := computeTestKeys(t, files(), "v")
	for name, file := range map[string]string{"own file": "variants/x/go.mod", "file of the varied recipe": "d/go.mod"} {
		t.Run(name, func(t *testing.T) {
			f := files()
			f[file] = "module e\n"
			if after := computeTestKeys(t, f, "v"); before["a"] == after["a"] {
				t.Error("the key is the same")
			}
		})
	}
}

func TestOpen_NamesPackageThatIsNotPinned(t *testing.T) {
	f := distroFiles()
	f["a/recipe.yaml"] = strings.Replace(f["a/recipe.yaml"], "[x]", "[zz]", 1)
	_, err := Open(context.Background(), testkit.WriteFiles(t, t.TempDir(), 0o644, f), "", t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "no entry zz") {
		t.Errorf("got %v", err)
	}
}
