package config

import (
	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/kurl"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// k0sVersion is the k0s release that a converted Installer has: that of the example
// Installer, with which this build is tested.
const k0sVersion = "v1.33.8+k0s.1"

// ConvertKURL converts the kURL Installer in the file at path into one of Plinth that
// lint accepts.
func ConvertKURL(path string) (kurl.Conversion, error) {
	files, err := ReadFiles([]string{path})
	if err != nil {
		return kurl.Conversion{}, err
	}
	known, err := addons.NewestVersions()
	if err != nil {
		return kurl.Conversion{}, problem.New(problem.ExitInternal, "read the built-in add-ons", err, "")
	}
	known["k0s"] = k0sVersion
	return kurl.Convert(path, files[0].Data, known, func(installer []byte) []spec.Finding {
		return LintFiles([]spec.File{{Name: "installer.yaml", Data: installer}}).Findings
	})
}
