package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/app/vendor"
	"github.com/plinthdev/plinth/internal/cli/answer"
	"github.com/plinthdev/plinth/internal/cli/session"
)

func (s commands) bundle() *cobra.Command {
	return s.Group("bundle", s.bundleBuild(), s.bundleInspect(), s.bundleVerify())
}

func (s commands) bundleBuild() *cobra.Command {
	var req vendor.Request
	cmd := s.Command("build --installer FILE -o FILE", session.Needs(session.NoArgs, "installer", "output"), s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, _ []string) (session.Reply, error) {
			progress, end := s.Meter(r.Events, "bundle build", "Write the bundle")
			req.Progress = progress
			res, err := vendor.Build(ctx, req)
			end(err)
			return session.Answer(res, func(w io.Writer) { answer.Built(w, res) }).Unless(err)
		}))
	f := cmd.Flags()
	f.StringVar(&req.Installer, "installer", "", "`file` with the Installer")
	f.StringVar(&req.Application, "application", "", "`file` with the KOTS Application")
	f.StringVar(&req.Source, "source", "registry", "`folder` in OCI image layout, or the word registry")
	f.StringVarP(&req.Out, "output", "o", "", "`file` to write; for the form of the answer, put --output before \"bundle\"")
	return cmd
}

func (s commands) bundleInspect() *cobra.Command {
	return s.Command("inspect BUNDLE", session.Exactly("a bundle"), s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, args []string) (session.Reply, error) {
			sum, err := vendor.Inspect(ctx, args[0])
			return session.Answer(sum, func(w io.Writer) { answer.Inspected(w, sum, args[0]) }).Unless(err)
		}))
}

func (s commands) bundleVerify() *cobra.Command {
	return s.Command("verify BUNDLE", session.Exactly("a bundle"), s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, args []string) (session.Reply, error) {
			progress, end := s.Meter(r.Events, "bundle verify", "Verify the bundle")
			sum, err := vendor.Verify(ctx, args[0], progress)
			end(err)
			return session.Answer(sum, func(w io.Writer) { answer.Verified(w, sum, args[0]) }).Unless(err)
		}))
}
