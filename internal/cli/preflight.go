package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/app/preflight"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/cli/answer"
	"github.com/plinthdev/plinth/internal/cli/session"
)

func (s commands) preflight() *cobra.Command {
	var req preflight.Request
	cmd := s.Command("preflight", session.NoArgs, s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, _ []string) (session.Reply, error) {
			report, err := preflight.Preflight(ctx, r, req)
			if report.Results == nil {
				return session.Reply{}, err // it did not come to that
			}
			return session.Answer(report, func(w io.Writer) { answer.Preflight(w, report, req) }), err
		}))
	f := cmd.Flags()
	f.StringVar(&req.Bundle, "bundle", "", "`file` that would be installed: its sizes, ports and networks, and its vendor's checks")
	f.StringVar(&req.Role, "role", "controller", "what this host is to be: `role` is controller or worker")
	f.BoolVar(&req.Quick, "quick", false, "leave out what is measured on disk and processor: seconds less")
	ignoring(f, &req.Ignore)
	return cmd
}
