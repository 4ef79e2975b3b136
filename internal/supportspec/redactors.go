package supportspec

import (
	"fmt"
	"strings"

	"github.com/plinthdev/plinth/internal/supportbundle"
)

// redactorDocument is a document of kind Redactor. A key that is not known is an error: a typing error would leave in a
// bundle what the vendor wants to have removed.
type redactorDocument struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   map[string]any `json:"metadata"`
	Status     map[string]any `json:"status"`
	Spec       struct {
		Redactors []redactor `json:"redactors"`
		URI       string     `json:"uri"`
	} `json:"spec" required:"true"`
}

type redactor struct {
	Name         string `json:"name"`
	FileSelector struct {
		File  string   `json:"file"`
		Files []string `json:"files"`
	} `json:"fileSelector"`
	Removals struct {
		Values []string `json:"values"`
		Regex  []struct {
			Selector string `json:"selector"`
			Redactor string `json:"redactor" required:"true"`
		} `json:"regex"`
		YAMLPath []string `json:"yamlPath"`
	} `json:"removals" required:"true"`
}

// parseRedactors returns the rules in a document of kind Redactor.
func (d document) parseRedactors() (s Specs) {
	d.CheckStructure(d.root, false)
	var doc redactorDocument
	d.Decode(d.root, &doc, func(_, _ string) (message, hint string) { return "", "" })
	for i, r := range doc.Spec.Redactors {
		removal := supportbundle.Removal{Name: r.Name, Files: r.FileSelector.Files, Values: r.Removals.Values, YAMLPaths: r.Removals.YAMLPath}
		if removal.Name == "" {
			removal.Name = fmt.Sprint(i + 1)
		}
		if r.FileSelector.File != "" {
			removal.Files = append([]string{r.FileSelector.File}, removal.Files...)
		}
		for _, e := range r.Removals.Regex {
			removal.Regexes = append(removal.Regexes, supportbundle.LineRegex{Selector: e.Selector, Redactor: e.Redactor})
		}
		rule, wrong := supportbundle.CompileRemoval(removal)
		at := fmt.Sprintf("spec.redactors[%d].", i)
		for _, w := range wrong {
			list, _, _ := strings.Cut(w.Field, "[")
			d.Report("wrong-type", at+w.Field, d.NodeAt(at+w.Field, at+list, at+"removals"), w.Err.Error(), "")
		}
		s.Rules = append(s.Rules, rule)
	}
	if doc.Spec.URI != "" {
		s.URIs = []string{doc.Spec.URI}
	}
	return s
}
