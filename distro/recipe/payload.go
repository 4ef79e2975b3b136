package recipe

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Payload describes the content of the layout and what it is built from. The
// cache keys contain its JSON form, which has the names of these Go fields.
type Payload struct {
	Epoch  int64           `yaml:"epoch"` // seconds; build time of shared layers and of images made of Debian packages
	Hosts  []Host          `yaml:"hosts"`
	Layers map[string]Tree `yaml:"layers"`
	Images []Image         `yaml:"images"`
}

// Host is one executable for the host.
type Host struct {
	Title string `yaml:"title"`
	File  Source `yaml:"file"`
	// Version is the version in an Installer's spec; empty means the recipe's version.
	Version string `yaml:"version"`
}

// Image is one container image: shared layers, and its own tree on top of them.
type Image struct {
	Ref        string   `yaml:"ref"`     // full reference that its consumers request
	Part       string   `yaml:"part"`    // main upstream: a recipe or an entry of debian.lock
	Version    string   `yaml:"version"` // version of the content; empty means the part's version
	Layers     []string `yaml:"layers"`
	Tree       `yaml:",inline"`
	Entrypoint []string `yaml:"entrypoint"`
	Cmd        []string `yaml:"cmd"`
	Env        []string `yaml:"env"`
	User       string   `yaml:"user"`
	Workdir    string   `yaml:"workdir"`
}

// Tree is the content of one layer.
type Tree struct {
	Dirs  map[string]Dir      `yaml:"dirs"`
	Debs  map[string][]string `yaml:"debs"`  // debian.lock entry → paths to keep; a trailing / means a whole folder, * and ? match
	Files map[string]File     `yaml:"files"` // path in the image → content
	Links map[string]string   `yaml:"links"` // path in the image → target
	// Applets are links from many names in one folder to one target.
	Applets Applets `yaml:"applets"`
}

// IsEmpty reports whether the tree has no entries.
func (t Tree) IsEmpty() bool {
	return len(t.Dirs)+len(t.Debs)+len(t.Files)+len(t.Links)+len(t.Applets.Names) == 0
}

// Applets describes links to one target; see Tree.Applets.
type Applets struct {
	Target string   `yaml:"target"`
	Dir    string   `yaml:"dir"`
	Names  []string `yaml:"names"`
}

// Dir is a folder that is created even if it stays empty. Mode is octal.
type Dir struct {
	Mode  uint32 `yaml:"mode"`
	Owner int    `yaml:"owner"` // uid and gid
}

// Source names a recipe's output, as recipe/path: a file or a whole folder.
type Source string

// Part returns the name of the recipe.
func (s Source) Part() string { part, _, _ := strings.Cut(string(s), "/"); return part }

// Path returns the path inside the part's output.
func (s Source) Path() string { _, path, _ := strings.Cut(string(s), "/"); return path }

// File is the content of a file: a recipe's output, an inline text, or the
// concatenation of files of a Debian package. A plain string in YAML sets From.
type File struct {
	From Source `yaml:"from"`
	Text string `yaml:"text"`
	Mode uint32 `yaml:"mode"` // zero means 0755 for an executable source, else 0644
	// NetBindService gives an executable the capability to listen on ports below 1024.
	NetBindService bool `yaml:"netBindService"`
	// Concat selects all files below a path prefix in a Debian package. They are
	// concatenated in the order of their names.
	Concat *Concat `yaml:"concat"`
}

// Concat selects files of a Debian package; see File.Concat.
type Concat struct {
	Deb    string `yaml:"deb"`
	Prefix string `yaml:"prefix"`
}

// UnmarshalYAML accepts a plain string as the short form of From.
func (f *File) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		f.From = Source(n.Value)
		return nil
	}
	type plain File
	return n.Decode((*plain)(f))
}

// partNames returns the recipes whose output the tree contains.
func (t Tree) partNames() []string {
	var out []string
	for _, path := range sortedKeys(t.Files) {
		if p := t.Files[path].From.Part(); p != "" {
			out = append(out, p)
		}
	}
	return out
}

// DebNames returns the debian.lock entries whose files the tree contains.
func (t Tree) DebNames() []string {
	names := sortedKeys(t.Debs)
	for _, path := range sortedKeys(t.Files) {
		if c := t.Files[path].Concat; c != nil {
			names = append(names, c.Deb)
		}
	}
	return names
}

// PartsOf returns the recipes whose output the image contains, main upstream
// first, each once.
func (p Payload) PartsOf(im Image, recipes map[string]Recipe) []string {
	var out []string
	if _, ok := recipes[im.Part]; ok {
		out = append(out, im.Part)
	}
	out = append(out, im.partNames()...)
	for _, l := range im.Layers {
		out = append(out, p.Layers[l].partNames()...)
	}
	return uniqueStrings(out)
}

// DebsOf returns the debian.lock entries whose files the image contains, each once.
func (p Payload) DebsOf(im Image) []string {
	out := im.DebNames()
	for _, l := range im.Layers {
		out = append(out, p.Layers[l].DebNames()...)
	}
	return uniqueStrings(out)
}

// recipesInUse returns the recipes in the order in which they are needed: the
// first host artifact, which boots a node, then the images, then the other host
// artifacts.
func (p Payload) recipesInUse() []string {
	var hosts, out []string
	for _, h := range p.Hosts {
		hosts = append(hosts, h.File.Part())
	}
	first := min(1, len(hosts))
	out = append(out, hosts[:first]...)
	for _, im := range p.Images {
		out = append(out, im.partNames()...)
		for _, l := range im.Layers {
			out = append(out, p.Layers[l].partNames()...)
		}
	}
	return uniqueStrings(append(out, hosts[first:]...))
}

func (p Payload) validate(recipes map[string]Recipe) []error {
	var out []error
	seen := map[string]bool{}
	for _, h := range p.Hosts {
		if h.Title == "" || h.File.Path() == "" {
			out = append(out, fmt.Errorf("payload: host artifact %q needs a title and a file", h.Title))
		}
	}
	for _, im := range p.Images {
		if !strings.Contains(im.Ref, "/") || !strings.Contains(im.Ref, ":") || seen[im.Ref] {
			out = append(out, fmt.Errorf("payload: image %q must have a full, unique reference", im.Ref))
		}
		seen[im.Ref] = true
		if _, ok := recipes[im.Part]; !ok && !slices.Contains(p.DebsOf(im), im.Part) {
			out = append(out, fmt.Errorf("payload: image %s: part %q is neither a recipe nor one of its Debian packages", im.Ref, im.Part))
		}
		for _, l := range im.Layers {
			if _, ok := p.Layers[l]; !ok {
				out = append(out, fmt.Errorf("payload: image %s: no layer %q", im.Ref, l))
			}
		}
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func uniqueStrings(in []string) []string {
	var out []string
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
