package spec

import (
	"fmt"

	"github.com/plinthdev/plinth/internal/spec/strict"
)

// ParseInstaller reads an Installer, fills in its defaults and reports everything
// that is wrong with it. The Installer is nil if and only if a finding is an error.
func ParseInstaller(file string, data []byte) (*Installer, []Finding) {
	in, findings := readInstaller(file, data)
	if HasErrors(findings) {
		return nil, findings
	}
	return in, findings
}

// readInstaller is ParseInstaller that also gives what could be read of a wrong one.
func readInstaller(file string, data []byte, judges ...Judge) (*Installer, []Finding) {
	r, in := newReader(file), &Installer{}
	if data, ok := r.Clean(data); ok {
		roots := r.Documents(data)
		switch {
		case len(roots) > 0:
			root := roots[0]
			r.Inspect(root, true)
			r.Decode(root, in, check)
			r.relations(in)
			r.judge(in, judges)
			if len(roots) > 1 {
				r.Report("one-document", "", roots[1], fmt.Sprintf("is document 2 of %d in this file", len(roots)), "an Installer stands alone in its file")
			}
		case len(r.Findings()) == 0:
			r.Report("empty-file", "", nil, "holds no document", "docs/reference/installer.schema.json and the example installer.yaml show what belongs here")
		}
	}
	return in, r.Findings()
}

type reader struct{ *strict.Reader }

func newReader(file string) reader { return reader{strict.New(file, Rules())} }
