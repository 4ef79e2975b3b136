package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/app/vendor"
	"github.com/plinthdev/plinth/internal/cli/answer"
	"github.com/plinthdev/plinth/internal/step"
)

func (s *session) bundle() *cobra.Command {
	return s.group("bundle", s.bundleBuild(), s.bundleInspect(), s.bundleVerify())
}

func (s *session) bundleBuild() *cobra.Command {
	var req vendor.Request
	cmd := s.command("build --installer FILE -o FILE", needs(noArgs, "installer", "output"), s.with(once, nil,
		func(ctx context.Context, r *run.Run, _ []string) (reply, error) {
			progress, end := s.meter(r.Events, "bundle build", "Write the bundle")
			req.Progress = progress
			res, err := vendor.Build(ctx, req)
			end(err)
			return reply{res, func(w io.Writer) { answer.Built(w, res) }}.unless(err)
		}))
	f := cmd.Flags()
	f.StringVar(&req.Installer, "installer", "", "`file` with the Installer")
	f.StringVar(&req.Application, "application", "", "`file` with the KOTS Application")
	f.StringVar(&req.Source, "source", "registry", "`folder` in OCI image layout, or the word registry")
	f.StringVarP(&req.Out, "output", "o", "", "`file` to write; for the form of the answer, put --output before \"bundle\"")
	return cmd
}

func (s *session) bundleInspect() *cobra.Command {
	return s.command("inspect BUNDLE", exactly("a bundle"), s.with(once, nil,
		func(ctx context.Context, r *run.Run, args []string) (reply, error) {
			sum, err := vendor.Inspect(ctx, args[0])
			return reply{sum, func(w io.Writer) { answer.Inspected(w, sum, args[0]) }}.unless(err)
		}))
}

func (s *session) bundleVerify() *cobra.Command {
	return s.command("verify BUNDLE", exactly("a bundle"), s.with(once, nil,
		func(ctx context.Context, r *run.Run, args []string) (reply, error) {
			progress, end := s.meter(r.Events, "bundle verify", "Verify the bundle")
			sum, err := vendor.Verify(ctx, args[0], progress)
			end(err)
			return reply{sum, func(w io.Writer) { answer.Verified(w, sum, args[0]) }}.unless(err)
		}))
}

// meter shows bytes as the one step of a verb, from the first byte on.
func (s *session) meter(events func(step.Event), verb, title string) (progress func(done, total int64), end func(error)) {
	tell := func(state step.EventState, done, total int64) {
		events(step.Event{V: 1, Time: s.now().UTC(), Verb: verb, Step: "bundle", Title: title, State: state, Bytes: done, Total: total})
	}
	begun := false
	progress = func(done, total int64) {
		if !begun {
			tell(step.Started, 0, total)
		}
		begun = true
		tell(step.Progress, done, total)
	}
	return progress, func(err error) {
		switch {
		case !begun:
		case err != nil:
			tell(step.Failed, 0, 0)
		default:
			tell(step.Finished, 0, 0)
		}
	}
}
