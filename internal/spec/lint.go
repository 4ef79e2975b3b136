package spec

import (
	"bytes"
	"errors"
	"slices"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/compat"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec/strict"
)

// Report is all that can be said about an Installer and an Application, or about
// one of them alone.
type Report struct {
	Installer   *Installer      `json:"-"`               // nil if absent or wrong
	Application *Application    `json:"-"`               // nil if absent or wrong
	Title       string          `json:"title,omitempty"` // the application's, for Gate.Explain
	Findings    []Finding       `json:"findings"`
	Gate        *compat.Verdict `json:"gate,omitempty"` // of a first install; nil where there is no kotsadm, or findings forbid a verdict
	app         *Application    // what could be read of it
}

// Lint reads files, each an Installer or holding an Application, and holds the two
// against each other. Files of neither kind are judged as Installers. An
// Installer whose form is good is shown to judges.
func Lint(files []File, judges ...Judge) Report {
	rep := Report{Findings: []Finding{}}
	var in *Installer
	seen := map[string]bool{}
	for _, f := range files {
		kind, findings := kindOf(f), []Finding(nil)
		switch {
		case seen[kind]:
			r := newReader(f.Name)
			r.Report("one-document", "", nil, "is the second "+kind+" of this run", "check them one after the other")
			findings = r.Findings()
		case kind == applicationKind:
			if rep.app, findings = readApplication(f.Name, f.Data); !HasErrors(findings) {
				rep.Application = rep.app
			}
		default:
			if in, findings = readInstaller(f.Name, f.Data, judges...); !HasErrors(findings) {
				rep.Installer = in
			}
		}
		seen[kind] = true
		rep.Findings = append(rep.Findings, findings...)
	}
	rep.cross(in)
	return rep
}

// cross adds what follows from both manifests, in so far as they could be read.
func (rep *Report) cross(in *Installer) {
	if rep.app != nil {
		rep.Title = rep.app.Title
	}
	if in != nil && in.Spec.Kotsadm != nil {
		// A block shows beside other errors; anything else would rest on what is wrong.
		if v := Gate(in, rep.app, true); v.Outcome == compat.Block || !HasErrors(rep.Findings) {
			rep.Gate = &v
		}
	} else if rep.Installer != nil && rep.app != nil {
		r := newReader(rep.app.File)
		r.Report("app-unused", "", nil, "the Installer has no kotsadm, so this Application is neither checked nor installed", "add spec.kotsadm to the Installer")
		rep.Findings = append(rep.Findings, r.Findings()...)
	}
	strict.Sort(rep.Findings)
}

// WithoutGate is the report for a user who told Plinth to skip the gate: what is
// wrong with the Application's bounds becomes a warning. The verdict stays, to be shown.
func (rep Report) WithoutGate() Report {
	rep.Findings = slices.Clone(rep.Findings)
	wrong := false
	for i, f := range rep.Findings {
		if f.Rule == "app-version" || f.Rule == "app-bounds" {
			rep.Findings[i].Severity = Warning
		} else if rep.app != nil && f.File == rep.app.File && f.Severity == Error {
			wrong = true
		}
	}
	if !wrong {
		rep.Application = rep.app
	}
	return rep
}

// Gate holds the Installer's kotsadm against the Application's bounds. Where one
// of them is missing there is nothing to check, and the verdict's note says so.
// firstInstall: no receipt on the host and no KOTS in the cluster.
func Gate(in *Installer, app *Application, firstInstall bool) compat.Verdict {
	switch {
	case in == nil || in.Spec.Kotsadm == nil:
		return compat.Skip("the Installer has no kotsadm")
	case app == nil:
		return compat.Skip("there is no Application manifest")
	}
	return compat.Check(compat.Input{
		Actual:       in.Spec.Kotsadm.Version,
		Min:          app.MinKotsVersion,
		Target:       app.TargetKotsVersion,
		FirstInstall: firstInstall,
	})
}

// GateProblem is nil if v lets the install go on, else the user's error: exit 4
// where the gate says no, exit 3 where a value is no version. title is the
// application's.
func GateProblem(doing string, v compat.Verdict, title string) error {
	if v.Allowed() {
		return nil
	}
	exit := problem.ExitGate
	if v.Outcome == compat.Undecidable {
		exit = problem.ExitConfig
	}
	words := v.Explain(title)
	return problem.New(exit, doing, errors.New(words.Cause), words.Hint)
}

// Err is the error that the whole report means: exit 3 for errors among the
// findings, which come first, exit 4 for the gate, else nil.
func (rep Report) Err(doing string) error {
	if err := Problem(doing, rep.Findings); err != nil || rep.Gate == nil {
		return err
	}
	return GateProblem(doing, *rep.Gate, rep.Title)
}

// kindOf tells for which of the two manifests f is meant: by a document's kind, or
// by its text if that document is broken.
func kindOf(f File) string {
	r := newReader(f.Name)
	data, ok := r.Clean(f.Data)
	if !ok {
		return Kind
	}
	var roots []*yaml.Node
	for _, p := range strict.Split(data) {
		roots = append(roots, r.Documents(p.Text)...)
	}
	for _, root := range roots {
		if _, kind := typeOf(root); kind == Kind || kind == applicationKind {
			return kind
		}
	}
	if bytes.Contains(data, []byte("kind: "+applicationKind)) && !bytes.Contains(data, []byte("kind: "+Kind)) {
		return applicationKind
	}
	return Kind
}
