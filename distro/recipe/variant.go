package recipe

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// variantsDir is the folder below the distro folder with the variants, one file each,
// and with the recipes that only they use, one folder each.
const variantsDir = "variants"

// variant is the content of a file in variantsDir: a payload beside the one that is
// shipped, for tests. It names only what differs.
type variant struct {
	Parts  map[string]string      `yaml:"parts"`  // recipe → folder in variantsDir whose recipe takes its place
	Hosts  map[string]hostChange  `yaml:"hosts"`  // title of a host artifact → what differs
	Images map[string]imageChange `yaml:"images"` // reference of an image, without its tag → what differs
	Added  additions              `yaml:"added"`
}

// additions is what a variant has beside everything in payload.yaml.
type additions struct {
	Parts  map[string]string `yaml:"parts"` // name of the recipe → its folder in variantsDir
	Images []Image           `yaml:"images"`
}

// hostChange is what differs in a host artifact.
type hostChange struct {
	Version string `yaml:"version"` // as Host.Version
}

// imageChange is what differs in an image. Empty fields keep what payload.yaml says.
type imageChange struct {
	Tag     string `yaml:"tag"`     // of the reference that this variant's k0s or KOTS requests
	Version string `yaml:"version"` // as Image.Version
}

// applyVariant changes the set into the variant that it names. A replaced recipe keeps
// its name, so that the payload and the recipes that need it use the new one, and every
// part that does not differ keeps its key. Each error names the variant's file.
func (s *Set) applyVariant() error {
	file := filepath.Join(s.Dir, variantsDir, s.Variant+".yaml")
	var v variant
	if err := decodeFile(file, &v); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: no such variant; there are: %s", file, strings.Join(variantNames(s.Dir), ", "))
	} else if err != nil {
		return err
	}
	var faults []error
	bad := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: "+format, append([]any{file}, args...)...))
	}
	use := func(part, folder string) {
		r, err := readVariantRecipe(s.Dir, folder)
		if err != nil {
			bad("part %s: %w", part, err)
			return
		}
		for _, fault := range r.validate() {
			bad("part %s: %w", part, fault)
		}
		r.Name = part
		s.Recipes[part] = r
	}
	for _, part := range sortedKeys(v.Parts) {
		if _, ok := s.Recipes[part]; !ok {
			bad("part %s: no recipe has this name", part)
			continue
		}
		use(part, v.Parts[part])
	}
	for _, part := range sortedKeys(v.Added.Parts) {
		if _, ok := s.Recipes[part]; ok {
			bad("added part %s: a recipe has this name already", part)
			continue
		}
		use(part, v.Added.Parts[part])
	}
	s.Payload.Images = append(s.Payload.Images, v.Added.Images...)
	for _, title := range sortedKeys(v.Hosts) {
		if !s.Payload.changeHosts(title, v.Hosts[title]) {
			bad("host artifact %s: none in %s has this title", title, payloadFile)
		}
	}
	for _, repository := range sortedKeys(v.Images) {
		if !s.Payload.changeImages(repository, v.Images[repository]) {
			bad("image %s: none in %s has this reference before its tag", repository, payloadFile)
		}
	}
	return errors.Join(faults...)
}

// variantNames returns the names of all variants below the distro folder dir.
func variantNames(dir string) []string {
	files, _ := filepath.Glob(filepath.Join(dir, variantsDir, "*.yaml")) // the pattern is valid
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".yaml")
	}
	return files
}

// readVariantRecipe reads the recipe in a folder of variantsDir. It is either complete
// or says which recipe it varies; then everything that it does not set, and every file
// that it does not have, is that recipe's.
func readVariantRecipe(dir, folder string) (Recipe, error) {
	own := filepath.Join(dir, variantsDir, folder)
	text, err := os.ReadFile(filepath.Join(own, recipeFile))
	if err != nil {
		return Recipe{}, err
	}
	r := Recipe{Name: folder, Dirs: []string{own}}
	if err := decodeYAML(filepath.Join(own, recipeFile), text, &r); err != nil || r.Varies == "" {
		return r, err
	}
	base := filepath.Join(dir, r.Varies)
	r = Recipe{Name: folder, Dirs: []string{base, own}}
	if err := decodeFile(filepath.Join(base, recipeFile), &r); err != nil {
		return r, err
	}
	if err := decodeYAML(filepath.Join(own, recipeFile), text, &r); err != nil { // over the base: sets only what it names
		return r, err
	}
	return r, r.setValues()
}

// setValues gives the linker variables of the Go steps the values of the recipe.
func (r Recipe) setValues() error {
	var faults []error
	for _, name := range sortedKeys(r.Values) {
		prefix, found := "-X "+name+"=", false
		for _, st := range r.Steps {
			if st.Go == nil {
				continue
			}
			for i, flag := range st.Go.Ldflags {
				if strings.HasPrefix(flag, prefix) {
					st.Go.Ldflags[i], found = prefix+r.Values[name], true
				}
			}
		}
		if !found {
			faults = append(faults, fmt.Errorf("recipe %s: %s sets no linker variable %s", r.Name, r.Varies, name))
		}
	}
	return errors.Join(faults...)
}

// changeHosts changes the host artifact with this title. It reports whether there is one.
func (p *Payload) changeHosts(title string, c hostChange) bool {
	found := false
	for i := range p.Hosts {
		if h := &p.Hosts[i]; h.Title == title {
			h.Version, found = cmp.Or(c.Version, h.Version), true
		}
	}
	return found
}

// changeImages changes the images whose reference is this repository and a tag. It
// reports whether there is one.
func (p *Payload) changeImages(repository string, c imageChange) bool {
	found := false
	for i := range p.Images {
		im := &p.Images[i]
		if tag := strings.LastIndex(im.Ref, ":"); tag > 0 && im.Ref[:tag] == repository {
			if c.Tag != "" {
				im.Ref = repository + ":" + c.Tag
			}
			im.Version, found = cmp.Or(c.Version, im.Version), true
		}
	}
	return found
}
