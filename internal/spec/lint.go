package spec

import (
	"bytes"
	"slices"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/compat"
	"github.com/plinthdev/plinth/internal/release"
	"github.com/plinthdev/plinth/internal/strictyaml"
)

// Report is the result of checking an Installer and an Application, or one of them.
type Report struct {
	Installer    *Installer     `json:"-"`               // nil if absent or invalid
	Applications []*Application `json:"-"`               // all in the files; none if absent or if one is invalid
	Title        string         `json:"title,omitempty"` // of the application, for Gate.Explain
	Findings     []Finding      `json:"findings"`
	Gate         *compat.Result `json:"gate,omitempty"`    // for a first install; nil without kotsadm or if findings prevent a verdict
	Ignored      *Ignored       `json:"ignored,omitempty"` // what else the paths hold; nil for nothing
	Files        []string       `json:"-"`                 // names of the checked files
	readApps     []*Application // the Applications as far as they could be read
}

// Ignored counts what was found beside the manifests that Plinth reads.
type Ignored struct {
	Documents map[string]int `json:"documents"` // by apiVersion and kind, such as "kots.io/v1beta1 Config"
	Files     int            `json:"files"`     // files that are not YAML
}

// Lint checks files, each with an Installer or Applications, and checks the two
// against each other. A file with neither is checked as an Installer. validators
// check an Installer without errors.
func Lint(files []File, judges ...Validator) Report {
	rep := Report{Findings: []Finding{}}
	var in *Installer
	seen, wrongApp := map[string]bool{}, false
	kinds := manifestKinds(files)
	for i, f := range files {
		kind, findings := kinds[i], []Finding(nil)
		switch {
		case kind == kurlInstaller:
			_, findings = readInstaller(f.Name, f.Data)
		case seen[kind] && kind != release.Kind:
			r := newReader(f.Name)
			r.Report("one-document", "", nil, "is the second "+kind+" of this run", "check one "+kind+" at a time")
			findings = r.Findings()
		case kind == release.Kind:
			var apps []*Application
			apps, findings = readApplications(f.Name, f.Data)
			rep.readApps, wrongApp = append(rep.readApps, apps...), wrongApp || HasErrors(findings)
		default:
			if in, findings = readInstaller(f.Name, f.Data, judges...); !HasErrors(findings) {
				rep.Installer = in
			}
		}
		seen[kind] = true
		rep.Findings = append(rep.Findings, findings...)
	}
	for _, f := range files {
		rep.Files = append(rep.Files, f.Name)
	}
	if !wrongApp {
		rep.Applications = rep.readApps
	}
	rep.crossCheck(in)
	return rep
}

// crossCheck adds the gate and the findings that depend on both manifests, as far
// as they could be read.
func (rep *Report) crossCheck(in *Installer) {
	v, title := CheckGate(in, rep.readApps, true)
	rep.Title = title
	if in != nil && in.Spec.Kotsadm != nil {
		// A block is shown together with other errors; other outcomes would depend on invalid values.
		if v.Outcome == compat.Block || !HasErrors(rep.Findings) {
			rep.Gate = &v
		}
	} else if rep.Installer != nil && len(rep.readApps) > 0 {
		r := newReader(rep.readApps[0].File)
		r.Report("app-unused", "", nil, "the Installer has no kotsadm, so this Application is not checked or installed", "add spec.kotsadm to the Installer")
		rep.Findings = append(rep.Findings, r.Findings()...)
	}
	strictyaml.SortFindings(rep.Findings)
}

// WithoutGate returns the report for a user who skips the gate: errors in the
// version bounds of the Application become warnings. The verdict is kept, so that
// it can be shown.
func (rep Report) WithoutGate() Report {
	rep.Findings = slices.Clone(rep.Findings)
	wrong := false
	ofApplication := func(f Finding) bool {
		return slices.ContainsFunc(rep.readApps, func(app *Application) bool { return app.File == f.File })
	}
	for i, f := range rep.Findings {
		if f.Rule == "app-version" || f.Rule == "app-bounds" {
			rep.Findings[i].Severity = Warning
		} else if f.Severity == Error && ofApplication(f) {
			wrong = true
		}
	}
	if !wrong {
		rep.Applications = rep.readApps
	}
	return rep
}

// Err returns the error for the report: with exit code 3 if a finding is an error,
// else with that of the gate, else nil.
func (rep Report) Err(doing string) error {
	if err := FindingsError(doing, rep.Findings); err != nil || rep.Gate == nil {
		return err
	}
	return GateError(doing, *rep.Gate, rep.Title)
}

// manifestKinds returns which of the two manifests each file holds. One that is unclear counts as the
// Installer if no other file is one, else as an Application: so its own findings are reported, such as a
// syntax error.
func manifestKinds(files []File) (kinds []string) {
	for _, f := range files {
		kinds = append(kinds, manifestKind(f))
	}
	for i, kind := range kinds {
		switch {
		case kind != "":
		case slices.Contains(kinds, Kind), slices.Contains(kinds, kurlInstaller):
			kinds[i] = release.Kind
		default:
			kinds[i] = Kind
		}
	}
	return kinds
}

// manifestKind returns which of the two manifests f holds: the kind of a document,
// or a guess from the text if that document is not valid YAML; "" if it is unclear.
func manifestKind(f File) string {
	r := newReader(f.Name)
	data, ok := r.CheckText(f.Data)
	if !ok {
		return ""
	}
	var roots []*yaml.Node
	for _, doc := range release.Split(data) {
		if release.MentionsApplication(doc.Text) && release.IsApplication(doc.Text) {
			return release.Kind // also if only KOTS can read it
		}
		roots = append(roots, r.ParseDocuments(doc.Text)...)
	}
	for _, root := range roots {
		switch apiVersion, kind := DocumentType(root); {
		case IsKURL(apiVersion, kind):
			return kurlInstaller
		case kind == Kind, kind == release.Kind:
			return kind
		}
	}
	if bytes.Contains(data, []byte("kind: "+Kind)) || bytes.Contains(data, []byte("apiVersion: "+APIVersion)) {
		return Kind
	}
	if bytes.Contains(data, []byte("kind: "+release.Kind)) {
		return release.Kind
	}
	return ""
}
