package spec

import (
	"fmt"

	"github.com/plinthdev/plinth/internal/strictyaml"
)

// ParseInstaller returns the Installer in data with its defaults filled in, and all
// findings. The Installer is nil if and only if a finding is an error.
func ParseInstaller(file string, data []byte) (*Installer, []Finding) {
	in, findings := readInstaller(file, data)
	if HasErrors(findings) {
		return nil, findings
	}
	return in, findings
}

// readInstaller is like ParseInstaller but also returns an Installer with errors,
// as far as it could be read.
func readInstaller(file string, data []byte, judges ...Validator) (*Installer, []Finding) {
	r, in := newReader(file), &Installer{}
	if data, ok := r.CheckText(data); ok {
		roots := r.ParseDocuments(data)
		switch {
		case r.reportKURL(file, roots):
		case len(roots) > 0:
			root := roots[0]
			r.CheckStructure(root, true)
			r.Decode(root, in, checkRule)
			r.checkRelations(in)
			r.runValidators(in, judges)
			if len(roots) > 1 {
				r.Report("one-document", "", roots[1], fmt.Sprintf("is document 2 of %d in this file", len(roots)), "an Installer must be the only document in its file")
			}
		case len(r.Findings()) == 0:
			r.Report("empty-file", "", nil, "contains no YAML document", "see docs/reference/installer.schema.json and the example installer.yaml")
		}
	}
	return in, r.Findings()
}

// reader reads one manifest and collects its findings.
type reader struct{ *strictyaml.Reader }

func newReader(file string) reader { return reader{strictyaml.NewReader(file, Rules())} }
