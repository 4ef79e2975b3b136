package cli

import (
	"context"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/cli/printer"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/ui"
)

func (s commandSet) lintCommand() *cobra.Command {
	return s.NewCommand("lint FILE|DIR...", atLeastOne("FILE"), s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, paths []string) (commandOutput, error) {
			report, err := config.LintPaths(ctx, paths)
			if report.Findings == nil {
				return commandOutput{}, err // the files could not be read
			}
			if spec.HasErrors(report.Findings) { // the output lists them, so the error only counts them
				err = problem.Newf(problem.ExitConfig, "accept "+strings.Join(paths, " and "),
					lintHint(report.Findings), "%s", ui.FormatCount(countErrors(report.Findings), "error"))
			}
			return newOutput(report, func(w io.Writer) { printer.WriteLintReport(w, report) }), err
		}))
}

// lintHint returns what to do about findings with errors.
func lintHint(findings []spec.Finding) string {
	for _, f := range findings {
		if f.Rule == "kurl-installer" {
			return "plinth convert kurl " + printer.QuoteShellWord(f.File) + " >" + convertedName(f.File)
		}
	}
	return "correct the errors listed above, then run the command again"
}

// convertedName returns the name for the converted Installer of a kURL file: never the file's own, because
// a shell empties the file after > before the command reads it.
func convertedName(kurlFile string) string {
	if strings.EqualFold(filepath.Base(kurlFile), "installer.yaml") {
		return "plinth-installer.yaml"
	}
	return "installer.yaml"
}

// countErrors returns the number of findings that are errors.
func countErrors(findings []spec.Finding) (n int) {
	for _, f := range findings {
		if f.Severity == spec.Error {
			n++
		}
	}
	return n
}
