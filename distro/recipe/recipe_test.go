package recipe

import (
	"github.com/plinthdev/plinth/internal/testkit"
	"slices"
	"strings"
	"testing"
)

const validRecipe = "version: v1\nlicense: MIT\nepoch: 1\nmodule: example.com/x@v1.0.0\nsum: h1:x=\nsteps: [{run: 'true'}]\n"

func TestLoad_OrdersRepositoryRecipesByNeeds(t *testing.T) {
	s, err := Load("..", "")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, name := range s.Order {
		for _, need := range s.Recipes[name].Needs {
			if !seen[need] {
				t.Errorf("%s comes before %s, which it needs", name, need)
			}
		}
		seen[name] = true
	}
	if len(seen) != len(s.Recipes) {
		t.Errorf("the order has %d of %d recipes", len(seen), len(s.Recipes))
	}
}

func TestLoad_OrdersNodePartsBeforeConsole(t *testing.T) {
	s, err := Load("..", "")
	if err != nil {
		t.Fatal(err)
	}
	if slices.Index(s.Order, "coredns") > slices.Index(s.Order, "kots") {
		t.Errorf("kots is built before coredns: %v", s.Order)
	}
}

func TestLoad_ReportsAllProblemsAtOnce(t *testing.T) {
	dir := testkit.WriteFiles(t, t.TempDir(), 0o644, map[string]string{
		"a/recipe.yaml": "version: v1\nlicense: MIT\nepoch: 1\nmodule: example.com/x\nsum: nope\nsteps: [{}]\n",
		"b/recipe.yaml": validRecipe + "needs: [zz]\n",
		"c/recipe.yaml": "color: blue\n",
		"d/recipe.yaml": "steps: []\n",
		"e/recipe.yaml": validRecipe[:strings.Index(validRecipe, "steps")] + "steps: [{go: {}}]\n",
		"payload.yaml":  "images:\n- {ref: busybox, part: q}\n- {ref: 'a/b:1', part: b, layers: [none]}\nhosts: [{title: x, file: b}]\n",
	})
	_, err := Load(dir, "")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"recipe a: module must be path@vX.Y.Z", "recipe a: step 1 must have exactly one",
		"recipe zz is needed", "field color not found", "recipe d: version, license and epoch", "recipe d: has neither",
		"recipe d: has no steps", "recipe e: step 1 builds no binaries",
		`image "busybox" must have a full, unique reference`, `no layer "none"`, `host artifact "x" needs`,
	} {
		t.Run(want, func(t *testing.T) {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error lacks %q:\n%v", want, err)
			}
		})
	}
}

func TestLoad_RefusesRecipeThatNeedsItself(t *testing.T) {
	dir := testkit.WriteFiles(t, t.TempDir(), 0o644, map[string]string{
		"a/recipe.yaml": validRecipe + "needs: [b]\n", "b/recipe.yaml": validRecipe + "needs: [a]\n", "payload.yaml": "epoch: 1\n",
	})
	if _, err := Load(dir, ""); err == nil || !strings.Contains(err.Error(), "needs itself") {
		t.Errorf("got %v", err)
	}
}

func TestLoad_NamesFolderWithoutRecipes(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir, ""); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
}

func TestPartsOf_IncludesSharedLayers(t *testing.T) {
	p := Payload{
		Layers: map[string]Tree{"base": {Files: map[string]File{"/x": {From: "low/x"}}, Debs: map[string][]string{"libc6": {"/lib/"}}}},
		Images: []Image{{Part: "top", Layers: []string{"base"}, Tree: Tree{Files: map[string]File{
			"/a": {From: "mid/a"}, "/t": {Text: "t"}, "/c": {Concat: &Concat{Deb: "certs", Prefix: "/p/"}}}}}},
	}
	recipes := map[string]Recipe{"low": {}, "mid": {}, "top": {}}
	if got := strings.Join(p.PartsOf(p.Images[0], recipes), " "); got != "top mid low" {
		t.Errorf("parts: %s", got)
	}
	if got := strings.Join(p.DebsOf(p.Images[0]), " "); got != "certs libc6" {
		t.Errorf("packages: %s", got)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(validRecipe))
	f.Add([]byte("steps: [{go: {binaries: {a: ./b}}}]"))
	f.Add([]byte("files: {/a: b/c, /d: {text: e}}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Recipe
		if decodeYAML("x", b, &r) == nil {
			r.validate()
		}
		var p Payload
		if decodeYAML("x", b, &p) == nil {
			p.validate(nil)
			p.recipesInUse()
		}
	})
}
