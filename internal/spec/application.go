package spec

import (
	"bytes"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/compat"
	"github.com/plinthdev/plinth/internal/strictyaml"
)

// The type of KOTS's Application manifest.
const (
	applicationAPIVersion = "kots.io/v1beta1"
	applicationKind       = "Application"
)

// Application holds the fields of a kots.io/v1beta1 Application that Plinth reads.
// Only KOTS reads the other fields.
type Application struct {
	File              string `json:"file"` // name of the file that holds it
	Name              string `json:"name,omitempty"`
	Title             string `json:"title,omitempty"`
	MinKotsVersion    string `json:"minKotsVersion,omitempty"`    // as written in the file
	TargetKotsVersion string `json:"targetKotsVersion,omitempty"` // as written in the file
}

// File is the name of a file, for findings, and its content.
type File struct {
	Name string
	Data []byte
}

// ParseApplication returns the first Application in a YAML file of one or more
// documents. The Application is nil if and only if a finding is an error.
func ParseApplication(file string, data []byte) (*Application, []Finding) {
	app, findings := readApplication(file, data)
	if HasErrors(findings) {
		return nil, findings
	}
	return app, findings
}

// FindApplication returns the first Application in the YAML files of a release, in
// the given order, as KOTS does. It returns nil and no findings if there is none.
// It does not report errors in other documents.
func FindApplication(files ...File) (*Application, []Finding) {
	for _, f := range files {
		if app, findings := findInFile(f.Name, f.Data); app != nil || len(findings) > 0 {
			if HasErrors(findings) {
				app = nil
			}
			return app, findings
		}
	}
	return nil, nil
}

// readApplication is like ParseApplication but also returns an Application with
// errors, as far as it could be read.
func readApplication(file string, data []byte) (*Application, []Finding) {
	r := newReader(file)
	data, ok := r.CheckText(data)
	if !ok {
		return nil, r.Findings()
	}
	if app, findings := findInFile(file, data); app != nil || len(findings) > 0 {
		return app, findings
	}
	roots := r.ParseDocuments(data)
	switch {
	case len(r.Findings()) > 0:
	case len(roots) == 0:
		r.Report("empty-file", "", nil, "contains no YAML document", "")
	default:
		apiVersion, kind := manifestType(roots[0])
		r.Report("app-missing", "", roots[0], "does not contain a "+applicationAPIVersion+" "+applicationKind,
			"found "+strictyaml.QuoteValue(apiVersion+" "+kind)+"; only "+applicationAPIVersion+" has minKotsVersion and targetKotsVersion")
	}
	return nil, r.Findings()
}

// findInFile returns the first Application in the documents of one file. It
// ignores a document that is not YAML, such as a template, unless it looks like an
// Application.
func findInFile(file string, data []byte) (*Application, []Finding) {
	for _, part := range strictyaml.SplitDocuments(data) {
		if !bytes.Contains(part.Text, []byte(applicationAPIVersion)) {
			continue
		}
		r := newReader(file)
		for _, root := range r.WithLineOffset(part.Line).ParseDocuments(part.Text) {
			if apiVersion, kind := manifestType(root); apiVersion == applicationAPIVersion && kind == applicationKind {
				app := r.decodeApplication(root)
				app.File = file
				return app, r.Findings()
			}
		}
		if bytes.Contains(part.Text, []byte("kind: "+applicationKind)) && len(r.Findings()) > 0 {
			return nil, r.Findings()
		}
	}
	return nil, nil
}

// manifestType returns the apiVersion and kind of a document.
func manifestType(root *yaml.Node) (apiVersion, kind string) {
	_, v := strictyaml.Child(root, "apiVersion")
	_, k := strictyaml.Child(root, "kind")
	if v != nil {
		apiVersion = v.Value
	}
	if k != nil {
		kind = k.Value
	}
	return apiVersion, kind
}

// decodeApplication returns the Application in root, whose type the caller has
// checked.
func (r reader) decodeApplication(root *yaml.Node) *Application {
	r.CheckStructure(root, false)
	_, meta := strictyaml.Child(root, "metadata")
	_, spec := strictyaml.Child(root, "spec")
	app := &Application{}
	app.Name, _ = r.readText("metadata.name", meta, "name")
	app.Title, _ = r.readText("spec.title", spec, "title")
	var low, high *compat.Version
	app.MinKotsVersion, low = r.readVersionBound(compat.FieldMin, spec, "minKotsVersion")
	app.TargetKotsVersion, high = r.readVersionBound(compat.FieldTarget, spec, "targetKotsVersion")
	if low != nil && high != nil && low.Compare(*high) > 0 {
		_, at := strictyaml.Child(spec, "minKotsVersion")
		r.Report("app-bounds", compat.FieldMin, at,
			strictyaml.QuoteValue(app.MinKotsVersion)+" is higher than targetKotsVersion "+strictyaml.QuoteValue(app.TargetKotsVersion), "no version of KOTS satisfies both")
	}
	return app
}

// readText returns the text at key of mapping n and its node, or "" and nil if
// there is none.
func (r reader) readText(path string, n *yaml.Node, key string) (string, *yaml.Node) {
	_, value := strictyaml.Child(n, key)
	if value == nil || value.Kind == yaml.AliasNode || value.ShortTag() == "!!null" {
		return "", nil
	}
	if value.ShortTag() != "!!str" {
		r.ReportWrongType(path, value, "text")
		return "", nil
	}
	return value.Value, value
}

// readVersionBound returns a version bound as written and as KOTS parses it, nil
// if it is absent or not a version.
func (r reader) readVersionBound(path string, n *yaml.Node, key string) (string, *compat.Version) {
	written, at := r.readText(path, n, key)
	if written == "" {
		return "", nil
	}
	v, err := compat.ParseVersion(written)
	if err != nil {
		r.Report("app-version", path, at, strictyaml.QuoteValue(written)+" is not a version: "+err.Error(), "KOTS would ignore it; use a version such as 1.131.2")
		return written, nil
	}
	return written, &v
}
