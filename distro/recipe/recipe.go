// Package recipe reads and validates the recipes, one for each upstream, and
// payload.yaml, which lists the images and host artifacts that are built from them.
package recipe

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/problem"
	"gopkg.in/yaml.v3"
)

// File and folder names inside the distro folder.
const (
	recipeFile  = "recipe.yaml"
	payloadFile = "payload.yaml"
)

// Recipe describes how one upstream is built. Its folder gives its name. Every
// other file in its folders is copied over the source before the steps run.
type Recipe struct {
	Name    string            `yaml:"-"`
	Dirs    []string          `yaml:"-"`       // a file of a later folder replaces that of an earlier one
	Varies  string            `yaml:"varies"`  // recipe with everything that is not set here; only of variants
	Values  map[string]string `yaml:"values"`  // linker variable (-X) → its value instead of that of the varied recipe
	Version string            `yaml:"version"` // the upstream's name of this release
	License string            `yaml:"license"` // SPDX expression
	Epoch   int64             `yaml:"epoch"`   // seconds; the upstream's release, used as build time
	Module  string            `yaml:"module"`  // path@version of the main upstream
	Sum     string            `yaml:"sum"`     // its h1: hash
	Copy    bool              `yaml:"copy"`    // build inside a copy of the module, with the module's own go.mod
	Needs   []string          `yaml:"needs"`   // recipes whose output the steps use, as $PART_<name>
	Debs    []string          `yaml:"debs"`    // entries of debian.lock, unpacked or placed in $DEBS
	Npm     map[string]string `yaml:"npm"`     // package → "version integrity", unpacked in $NPM_<name>
	Tools   []string          `yaml:"tools"`   // tools whose version determines the output: gcc, node
	Steps   []Step            `yaml:"steps"`
}

// Step is either a Go build or a shell script.
type Step struct {
	Go  *GoBuild `yaml:"go"`
	Run string   `yaml:"run"`
}

// GoBuild is one `go build` of all its binaries. Ldflags may use ${VERSION}
// and ${BUILD_DATE}. With Cgo the binaries are linked statically.
type GoBuild struct {
	Cgo      bool              `yaml:"cgo"`
	Env      map[string]string `yaml:"env"`
	Tags     []string          `yaml:"tags"`
	Ldflags  []string          `yaml:"ldflags"`
	Binaries map[string]string `yaml:"binaries"` // file name → package
}

// ModulePath returns the module's path without its version.
func (r Recipe) ModulePath() string {
	path, _, _ := strings.Cut(r.Module, "@")
	return path
}

// Set is the content of a distro folder: all recipes and the payload, or a variant of them.
type Set struct {
	Dir     string
	Variant string // "" for the payload that is shipped
	Recipes map[string]Recipe
	Order   []string // recipe names, each after all recipes that it needs
	Payload Payload
}

// WithNeeds returns the named recipes, each followed by all recipes that it needs,
// each once.
func (s *Set) WithNeeds(names ...string) []string {
	var out []string
	for _, n := range names {
		out = append(append(out, n), s.WithNeeds(s.Recipes[n].Needs...)...)
	}
	return uniqueStrings(out)
}

// Load reads and validates every recipe below dir and its payload.yaml, and applies
// the named variant to them, if there is a name. The error lists all problems at once.
func Load(dir, variant string) (*Set, error) {
	operation := "read the recipes in " + dir
	files, err := filepath.Glob(filepath.Join(dir, "*", recipeFile))
	if err != nil || len(files) == 0 {
		return nil, problem.Newf(problem.ExitUsage, operation, "run this in the repository's root, or set --distro", "no */%s there", recipeFile)
	}
	s := &Set{Dir: dir, Variant: variant, Recipes: map[string]Recipe{}}
	var faults []error
	for _, f := range files {
		r := Recipe{Dirs: []string{filepath.Dir(f)}, Name: filepath.Base(filepath.Dir(f))}
		if err := decodeFile(f, &r); err != nil {
			faults = append(faults, err)
			continue
		}
		s.Recipes[r.Name] = r
		faults = append(faults, r.validate()...)
		if r.Varies != "" {
			faults = append(faults, fmt.Errorf("recipe %s: only a recipe in %s can vary another one", r.Name, variantsDir))
		}
	}
	if err := decodeFile(filepath.Join(dir, payloadFile), &s.Payload); err != nil {
		faults = append(faults, err)
	}
	if variant != "" {
		faults = append(faults, s.applyVariant())
	}
	order, err := s.sortByNeeds()
	faults = append(faults, err)
	s.Order = order
	faults = append(faults, s.Payload.validate(s.Recipes)...)
	if err := errors.Join(faults...); err != nil {
		return nil, problem.New(problem.ExitConfig, operation, err, "")
	}
	return s, nil
}

func decodeFile(path string, into any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return decodeYAML(path, b, into)
}

// decodeYAML decodes strictly: an unknown key is an error that names file and line.
func decodeYAML(path string, b []byte, into any) error {
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// validate returns everything that makes the recipe unusable, each error with the
// recipe's name.
func (r Recipe) validate() []error {
	var out []error
	bad := func(format string, args ...any) {
		out = append(out, fmt.Errorf("recipe %s: "+format, append([]any{r.Name}, args...)...))
	}
	if r.Version == "" || r.License == "" || r.Epoch <= 0 {
		bad("version, license and epoch are required")
	}
	if len(r.Values) > 0 && r.Varies == "" {
		bad("values are those of a recipe that it varies")
	}
	if r.Module == "" && len(r.Debs) == 0 {
		bad("has neither a module nor Debian sources")
	}
	if r.Module != "" && (!modulePattern.MatchString(r.Module) || !strings.HasPrefix(r.Sum, "h1:")) {
		bad("module must be path@vX.Y.Z with its h1: sum, not %q %q", r.Module, r.Sum)
	}
	if len(r.Steps) == 0 {
		bad("has no steps")
	}
	for i, st := range r.Steps {
		if (st.Go == nil) == (st.Run == "") {
			bad("step %d must have exactly one of go and run", i+1)
		}
		if st.Go != nil && len(st.Go.Binaries) == 0 {
			bad("step %d builds no binaries", i+1)
		}
	}
	return out
}

var modulePattern = regexp.MustCompile(`^[^@\s]+@v[0-9]+\.[0-9]+\.[0-9]+[^@\s]*$`)

// sortByNeeds returns the recipe names, each after the recipes that it needs.
// Otherwise the order of first use in payload.yaml is kept, so that the parts that
// boot a node are built first.
func (s *Set) sortByNeeds() ([]string, error) {
	const entered, left = 1, 2
	state := map[string]int{}
	var order []string
	var visit func(name string) error
	visit = func(name string) error {
		r, known := s.Recipes[name]
		switch {
		case !known:
			return fmt.Errorf("recipe %s is needed but does not exist", name)
		case state[name] == left:
			return nil
		case state[name] == entered:
			return fmt.Errorf("recipe %s needs itself", name)
		}
		state[name] = entered
		for _, n := range r.Needs {
			if err := visit(n); err != nil {
				return err
			}
		}
		state[name] = left
		order = append(order, name)
		return nil
	}
	for _, name := range slices.Concat(s.Payload.recipesInUse(), sortedKeys(s.Recipes)) {
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}
