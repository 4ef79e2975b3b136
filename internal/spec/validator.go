package spec

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/strictyaml"
)

// Violation is an error or a warning of a Validator about an Installer.
type Violation struct {
	Rule    string // one of Rules, which has the severity
	Path    string // of the field, such as "spec.registry.version"; also below spec.k0s.config
	Message string
	Hint    string // "" for none
}

// harmless are the rules whose errors leave the other values of an Installer as they are. Beside such errors
// validators run too, so that one run names as much as possible, but only the violations of independent
// rules are reported: others could follow from the errors.
var (
	harmless    = []string{"unknown-key", "version-exact"}
	independent = []string{"k0s-version", "add-on-known", "host-preflights"}
)

// Validator checks an Installer without errors for what needs knowledge of a
// component, such as the known versions of an add-on.
type Validator func(*Installer) []Violation

// runValidators reports the violations that validators find in in, each at its
// place. It does nothing if there are errors that leave values of in unknown.
func (r reader) runValidators(in *Installer, judges []Validator) {
	if slices.ContainsFunc(r.Findings(), func(f Finding) bool { return f.Severity == Error && !slices.Contains(harmless, f.Rule) }) {
		return
	}
	hasErrors := HasErrors(r.Findings())
	for _, judge := range judges {
		for _, o := range judge(in) {
			if hasErrors && (!slices.Contains(independent, o.Rule) || r.HasError(o.Path)) {
				continue
			}
			r.Report(o.Rule, o.Path, r.findNode(o.Path), o.Message, o.Hint)
		}
	}
}

// findNode returns the node at path, or its nearest parent in the file. Below
// spec.k0s.config it searches the free-form keys.
func (r reader) findNode(path string) *yaml.Node {
	for above := path; above != ""; {
		if n := r.NodeAt(above); n != nil {
			at := n
			for name := range strings.SplitSeq(strings.TrimPrefix(strings.TrimPrefix(path, above), "."), ".") {
				key, child := strictyaml.ChildOrItem(n, name)
				if key == nil {
					break
				}
				at, n = key, child
			}
			return at
		}
		above = above[:max(strings.LastIndexByte(above, '.'), 0)]
	}
	return nil
}
