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

func (s commands) lint() *cobra.Command {
	return s.Command("lint FILE...", session.AtLeast("FILE"), s.With(session.Once, nil,
		func(_ context.Context, r *run.Run, files []string) (session.Reply, error) {
			report, err := manifest.Lint(files)
			if report.Findings == nil {
				return session.Reply{}, err // the files could not be read
			}
			if spec.HasErrors(report.Findings) { // the output lists them, so the error only counts them
				err = problem.Newf(problem.ExitConfig, "accept "+strings.Join(files, " and "),
					"correct the errors listed above, then run the command again", "%s", answer.Count(errorsIn(report.Findings), "error"))
			}
			return session.Answer(report, func(w io.Writer) { answer.Lint(w, report, files) }), err
		}))
}

// countErrors returns the number of findings that are errors.
func errorsIn(findings []spec.Finding) (n int) {
	for _, f := range findings {
		if f.Severity == spec.Error {
			n++
		}
	}
	return n
}
