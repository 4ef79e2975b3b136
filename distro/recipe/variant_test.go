package recipe

import (
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/testkit"
)

// loadVariant writes a distro folder with the recipes tool and app, which needs tool,
// and with the variant v and its recipes, and loads the variant.
func loadVariant(t *testing.T, files map[string]string) (*Set, string, error) {
	t.Helper()
	all := map[string]string{
		"tool/recipe.yaml": validRecipe[:strings.Index(validRecipe, "steps")] + "steps: [{go: {ldflags: [-X a.B=1, -X a.Bc=2], binaries: {t: .}}}]\n",
		"tool/go.mod":      "module tool\n",
		"app/recipe.yaml":  validRecipe + "needs: [tool]\n",
		"payload.yaml": "hosts: [{title: app, file: app/app, version: '1'}]\n" +
			"images:\n- {ref: 'example.com/tool:1', part: tool, version: 1.0.1}\n- {ref: 'example.com/tool-box:1', part: tool}\n",
	}
	for name, text := range files {
		all[name] = text
	}
	dir := testkit.WriteFiles(t, t.TempDir(), 0o644, all)
	s, err := Load(dir, "v")
	return s, dir, err
}

func TestLoad_RepositoryVariantsAreValid(t *testing.T) {
	for _, name := range variantNames("..") {
		t.Run(name, func(t *testing.T) {
			if _, err := Load("..", name); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLoad_VariantReplacesParts(t *testing.T) {
	s, dir, err := loadVariant(t, map[string]string{
		"variants/v.yaml":                "parts: {tool: tool-0.9}\n",
		"variants/tool-0.9/recipe.yaml":  "varies: tool\nversion: v0.9\nepoch: 9\nvalues: {a.B: '3'}\n",
		"variants/tool-0.8/recipe.yaml":  "not used, not read\n",
		"variants/another.yaml":          "not read: either\n",
		"variants/app-alone/recipe.yaml": validRecipe,
	})
	if err != nil {
		t.Fatal(err)
	}
	r := s.Recipes["tool"]
	if r.Name != "tool" || r.Version != "v0.9" || r.Epoch != 9 || r.License != "MIT" || r.Module != "example.com/x@v1.0.0" {
		t.Errorf("recipe %+v", r)
	}
	if got := strings.Join(r.Steps[0].Go.Ldflags, ","); got != "-X a.B=3,-X a.Bc=2" {
		t.Errorf("linker flags %s", got)
	}
	if want := []string{dir + "/tool", dir + "/variants/tool-0.9"}; !slices.Equal(r.Dirs, want) {
		t.Errorf("folders %v, want %v", r.Dirs, want)
	}
	if got := strings.Join(s.Order, " "); got != "tool app" || s.Recipes["app"].Version != "v1" {
		t.Errorf("order %s, app %+v", got, s.Recipes["app"])
	}
	shipped, err := Load(dir, "")
	if err != nil || shipped.Recipes["tool"].Version != "v1" || len(shipped.Order) != 2 {
		t.Errorf("the payload without the variant: %v, %v", shipped, err)
	}
}

func TestLoad_VariantReplacesPartWithCompleteRecipe(t *testing.T) {
	s, dir, err := loadVariant(t, map[string]string{
		"variants/v.yaml":               "parts: {tool: other}\n",
		"variants/other/recipe.yaml":    validRecipe + "needs: []\n",
		"variants/another/recipe.yaml":  "not used\n",
		"variants/unrelated/readme.txt": "",
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := s.Recipes["tool"]; r.Steps[0].Run != "true" || !slices.Equal(r.Dirs, []string{dir + "/variants/other"}) {
		t.Errorf("recipe %+v", r)
	}
}

func TestLoad_VariantChangesPayload(t *testing.T) {
	s, _, err := loadVariant(t, map[string]string{
		"variants/v.yaml": "hosts: {app: {version: '2'}}\nimages: {example.com/tool: {tag: '2'}, example.com/tool-box: {version: 7.0.0}}\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	tool, box := s.Payload.Images[0], s.Payload.Images[1]
	if s.Payload.Hosts[0].Version != "2" || tool.Ref != "example.com/tool:2" || tool.Version != "1.0.1" {
		t.Errorf("payload %+v", s.Payload)
	}
	if box.Ref != "example.com/tool-box:1" || box.Version != "7.0.0" {
		t.Errorf("an image with a longer name: %+v", box)
	}
}

func TestLoad_VariantAddsPartsAndImages(t *testing.T) {
	s, dir, err := loadVariant(t, map[string]string{
		"variants/v.yaml":               "added: {parts: {extra: extra-2}, images: [{ref: 'example.com/extra:2', part: extra, files: {/x: extra/x}}]}\n",
		"variants/extra-2/recipe.yaml":  validRecipe,
		"variants/another/recipe.yaml":  "not used, not read\n",
		"variants/unrelated/readme.txt": "",
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := s.Recipes["extra"]; r.Name != "extra" || r.Version != "v1" || !slices.Contains(s.Order, "extra") {
		t.Errorf("recipe %+v, order %v", r, s.Order)
	}
	if n := len(s.Payload.Images); n != 3 || s.Payload.Images[2].Ref != "example.com/extra:2" {
		t.Errorf("images %+v", s.Payload.Images)
	}
	if shipped, err := Load(dir, ""); err != nil || len(shipped.Payload.Images) != 2 || slices.Contains(shipped.Order, "extra") {
		t.Errorf("the payload without the variant: %+v, %v", shipped, err)
	}
}

func TestLoad_VariantThatChangesNothingIsThePayload(t *testing.T) {
	s, dir, err := loadVariant(t, map[string]string{"variants/v.yaml": "parts: {}\n"})
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := Load(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if s.Payload.Images[0].Ref != shipped.Payload.Images[0].Ref || !slices.Equal(s.Order, shipped.Order) {
		t.Errorf("got %+v, want %+v", s, shipped)
	}
}

func TestLoad_NamesVariantFileInEachProblem(t *testing.T) {
	const fine = "varies: tool\nversion: v0.9\n"
	for name, c := range map[string]struct{ variant, recipe, want string }{
		"unknown key":             {"color: blue\n", fine, "field color not found"},
		"unknown key of a host":   {"hosts: {app: {color: blue}}\n", fine, "field color not found"},
		"unknown key of an image": {"images: {example.com/tool: {ref: x}}\n", fine, "field ref not found"},
		"added part that exists":  {"added: {parts: {tool: r}}\n", validRecipe, "added part tool: a recipe has this name already"},
		"added recipe missing":    {"added: {parts: {extra: zz}}\n", fine, "/variants/zz/recipe.yaml: no such file"},
		"added part not complete": {"added: {parts: {extra: r}}\n", "version: v1\n", "part extra: recipe r: has no steps"},
		"unknown part":            {"parts: {zz: r}\n", fine, "part zz: no recipe has this name"},
		"unknown host":            {"hosts: {zz: {version: '1'}}\n", fine, "host artifact zz: none in payload.yaml"},
		"unknown image":           {"images: {example.com/to: {tag: '1'}}\n", fine, "image example.com/to: none in payload.yaml"},
		"image with its tag":      {"images: {'example.com/tool:1': {tag: '1'}}\n", fine, "image example.com/tool:1: none in payload.yaml"},
		"missing recipe":          {"parts: {tool: zz}\n", fine, "/variants/zz/recipe.yaml: no such file"},
		"recipe with bad key":     {"parts: {tool: r}\n", "color: blue\n", "part tool: "},
		"recipe not complete":     {"parts: {tool: r}\n", "version: v1\n", "recipe r: has no steps"},
		"varied recipe missing":   {"parts: {tool: r}\n", "varies: zz\n", "/zz/recipe.yaml: no such file"},
		"unknown value":           {"parts: {tool: r}\n", fine + "values: {a.C: '1'}\n", "recipe r: tool sets no linker variable a.C"},
		"values of nothing":       {"parts: {tool: r}\n", validRecipe + "values: {a.B: '1'}\n", "recipe r: values are those of a recipe that it varies"},
	} {
		t.Run(name, func(t *testing.T) {
			_, dir, err := loadVariant(t, map[string]string{"variants/v.yaml": c.variant, "variants/r/recipe.yaml": c.recipe})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir+"/variants/v.yaml: ") {
				t.Errorf("got %v, want %q with the name of the file", err, c.want)
			}
		})
	}
}

func TestLoad_ListsVariants(t *testing.T) {
	_, dir, err := loadVariant(t, map[string]string{"variants/a.yaml": "", "variants/b.yaml": ""})
	if err == nil || !strings.Contains(err.Error(), dir+"/variants/v.yaml: no such variant; there are: a, b") {
		t.Errorf("got %v", err)
	}
}

func TestLoad_OnlyVariantsVaryRecipes(t *testing.T) {
	_, _, err := loadVariant(t, map[string]string{"app/recipe.yaml": "varies: tool\n" + validRecipe, "variants/v.yaml": "parts: {}\n"})
	if err == nil || !strings.Contains(err.Error(), "recipe app: only a recipe in variants can vary another one") {
		t.Errorf("got %v", err)
	}
}

func FuzzDecodeVariant(f *testing.F) {
	f.Add([]byte("parts: {a: b}\nhosts: {c: {version: d}}\nimages: {e/f: {tag: g}}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v variant
		if decodeYAML("x", b, &v) != nil {
			return
		}
		p := Payload{Hosts: []Host{{Title: "c"}}, Images: []Image{{Ref: "e/f:1"}}}
		for title, c := range v.Hosts {
			if p.changeHosts(title, c) != (title == "c") {
				t.Errorf("host artifact %q", title)
			}
		}
		for repository, c := range v.Images {
			if p.changeImages(repository, c); !strings.HasPrefix(p.Images[0].Ref, "e/f:") {
				t.Errorf("image %q: %q", repository, p.Images[0].Ref)
			}
		}
	})
}
