package spec

import (
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/spec/strict"
)

// Objection is what somebody has against an Installer who knows more of a
// component than its form.
type Objection struct {
	Rule    string // one of Rules
	Path    string // of the field: "spec.registry.version", also below spec.k0s.config
	Message string
	Hint    string // "" for none
}

// Judge looks at an Installer whose form is good.
type Judge func(*Installer) []Objection

// judge has judges look at in, and places what they object to.
func (r reader) judge(in *Installer, judges []Judge) {
	if HasErrors(r.Findings()) {
		return
	}
	for _, judge := range judges {
		for _, o := range judge(in) {
			r.Report(o.Rule, o.Path, r.place(o.Path), o.Message, o.Hint)
		}
	}
}

// place is what the author wrote at path, or as near above it as there is
// something; below spec.k0s.config the keys are the author's own.
func (r reader) place(path string) *yaml.Node {
	for above := path; above != ""; {
		if n := r.At(above); n != nil {
			at := n
			for name := range strings.SplitSeq(strings.TrimPrefix(strings.TrimPrefix(path, above), "."), ".") {
				key, child := strict.Step(n, name)
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
