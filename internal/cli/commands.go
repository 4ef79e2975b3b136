package cli

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/app"
	"github.com/plinthdev/plinth/internal/app/manifest"
	"github.com/plinthdev/plinth/internal/app/vendor"
	"github.com/plinthdev/plinth/internal/cli/answer"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
)

func (s *session) lint() *cobra.Command {
	return s.command("lint FILE...", atLeast("a file"), s.with(once, nil,
		func(_ context.Context, a *app.App, files []string) (reply, error) {
			report, err := manifest.Lint(files)
			if report.Findings == nil {
				return reply{}, err // the files could not be read
			}
			if spec.HasErrors(report.Findings) { // the answer lists them, the error need not
				err = problem.Newf(problem.ExitConfig, "accept "+strings.Join(files, " and "),
					"correct what is listed and check again", "%s", answer.Count(errorsIn(report.Findings), "error"))
			}
			return reply{report, func(w io.Writer) { answer.Lint(w, report, files) }}, err
		}))
}

func errorsIn(findings []spec.Finding) (n int) {
	for _, f := range findings {
		if f.Severity == spec.Error {
			n++
		}
	}
	return n
}

func (s *session) bundle() *cobra.Command {
	return s.group("bundle", s.bundleBuild(), s.bundleInspect(), s.bundleVerify())
}

func (s *session) bundleBuild() *cobra.Command {
	var req vendor.Request
	cmd := s.command("build --installer FILE -o FILE", needs(noArgs, "installer", "output"), s.with(once, nil,
		func(ctx context.Context, a *app.App, _ []string) (reply, error) {
			progress, end := s.meter(a.Events, "bundle build", "Write the bundle")
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
		func(ctx context.Context, a *app.App, args []string) (reply, error) {
			sum, err := vendor.Inspect(ctx, args[0])
			return reply{sum, func(w io.Writer) { answer.Inspected(w, sum, args[0]) }}.unless(err)
		}))
}

func (s *session) bundleVerify() *cobra.Command {
	return s.command("verify BUNDLE", exactly("a bundle"), s.with(once, nil,
		func(ctx context.Context, a *app.App, args []string) (reply, error) {
			progress, end := s.meter(a.Events, "bundle verify", "Verify the bundle")
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

func (s *session) install() *cobra.Command {
	var req app.InstallRequest
	var yes bool
	cmd := s.command("install --bundle FILE", noArgs, s.with(stream, &yes,
		func(ctx context.Context, a *app.App, _ []string) (reply, error) {
			res, err := a.Install(ctx, req)
			if p := res.Preflights; p != nil && p.Schema == 0 {
				res.Preflights = nil // it did not come to that
			}
			text := func(w io.Writer) { answer.Installed(w, res, s.again("--plan"), err != nil) }
			if err != nil && res.Preflights == nil {
				return reply{}, err
			}
			return reply{res, text}, err
		}))
	f := cmd.Flags()
	f.StringVar(&req.Bundle, "bundle", "", "`file` with all that is to be installed")
	f.StringVar(&req.Application, "application", "", "`file` with the KOTS Application, if the bundle has none")
	f.StringVar(&req.License, "license", "", "`file` with the application's licence; installs the application")
	f.StringVar(&req.ConfigValues, "config-values", "", "`file` with the application's settings")
	f.StringVar(&req.AppBundle, "app-bundle", "", "`file` (.airgap) with the application and its images")
	f.BoolVar(&req.Plan, "plan", false, "only say what would be done")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask before the first change")
	f.StringSliceVar(&req.IgnorePreflights, "ignore-host-preflight", nil, "`ids` of host preflights that may fail; they become warnings")
	f.BoolVar(&req.SkipKotsCheck, "skip-kots-compatibility-check", false, "make the KOTS version gate's refusal a warning")
	return cmd
}

func (s *session) status() *cobra.Command {
	return s.command("status", noArgs, s.with(once, nil,
		func(ctx context.Context, a *app.App, _ []string) (reply, error) {
			st, err := a.Status(ctx)
			return reply{st, func(w io.Writer) { answer.Status(w, st) }}.unless(err)
		}))
}

func (s *session) reset() *cobra.Command {
	var req app.ResetRequest
	var yes bool
	cmd := s.command("cluster", noArgs, s.with(stream, &yes,
		func(ctx context.Context, a *app.App, _ []string) (reply, error) {
			res, err := a.ResetCluster(ctx, req)
			text := func(w io.Writer) { answer.Reset(w, res, s.again("--dry-run"), err != nil) }
			if err != nil && len(res.Left) == 0 {
				return reply{}, err
			}
			return reply{res, text}, err
		}))
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "only say what would be removed")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask before the first change")
	return s.group("reset", cmd)
}

// again is the command line without a flag.
func (s *session) again(without string) string {
	line := "plinth"
	for _, a := range s.args {
		if a != without {
			line += " " + answer.Quote(a)
		}
	}
	return line
}
