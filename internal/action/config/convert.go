package config

import (
	"context"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/kurl"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// ConvertKURL converts the kURL Installer in the file at path into one of Plinth that
// lint accepts. Its k0s and its KOTS are the newest with which this build is tested, and
// its other add-ons are the newest that this build supports.
func ConvertKURL(ctx context.Context, path string) (kurl.Conversion, error) {
	files, err := ReadFiles(ctx, []string{path})
	if err != nil {
		return kurl.Conversion{}, err
	}
	known, err := addons.NewestVersions()
	if err != nil {
		return kurl.Conversion{}, problem.New(problem.ExitInternal, "read the built-in add-ons", err, "")
	}
	tried := spec.Versions().Tried
	newest := tried[len(tried)-1]
	known["k0s"], known["kotsadm"] = newest.K0s, newest.Kotsadm
	return kurl.Convert(path, files[0].Data, known, func(installer []byte) []spec.Finding {
		return LintFiles([]spec.File{{Name: "installer.yaml", Data: installer}}).Findings
	})
}
