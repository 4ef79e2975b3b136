package cli

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/app/manifest"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/cli/answer"
	"github.com/plinthdev/plinth/internal/cli/session"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

func (s commandSet) lintCommand() *cobra.Command {
	return s.NewCommand("lint FILE...", session.AtLeastOne("FILE"), s.WithEnv(session.SingleDocument, nil,
		func(_ context.Context, r *run.Env, files []string) (session.Output, error) {
			report, err := manifest.LintPaths(files)
			if report.Findings == nil {
				return session.Output{}, err // the files could not be read
			}
			if spec.HasErrors(report.Findings) { // the output lists them, so the error only counts them
				err = problem.Newf(problem.ExitConfig, "accept "+strings.Join(files, " and "),
					"correct the errors listed above, then run the command again", "%s", answer.FormatCount(countErrors(report.Findings), "error"))
			}
			return session.NewOutput(report, func(w io.Writer) { answer.WriteLintReport(w, report, files) }), err
		}))
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
