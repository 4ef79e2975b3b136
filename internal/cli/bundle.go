package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/app/vendor"
	"github.com/plinthdev/plinth/internal/cli/answer"
	"github.com/plinthdev/plinth/internal/cli/answer/bill"
	"github.com/plinthdev/plinth/internal/cli/session"
)

func (s commands) bundle() *cobra.Command {
	return s.Group("bundle", s.bundleBuild(), s.bundleInspect(), s.bundleVerify(), s.bundleDiff(), s.bundleMerge())
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
	f.StringVar(&req.SignKey, "sign-key", "", "`file` with the private key to sign the bundle with; may be a pipe")
	f.Int64Var(&req.Release, "release", 0, "`number` of this release; hosts refuse signed bundles with a lower one than they have")
	f.StringVar(&req.Expires, "expires", "", "`date` after which hosts do not take this bundle any more")
	f.BoolVar(&req.Thin, "thin", false, "leave out the content of images and host files; an install then takes it from --source")
	f.StringVarP(&req.Out, "output", "o", "", "`file` to write; for the form of the answer, put --output before \"bundle\"")
	return cmd
}

func (s commands) bundleInspect() *cobra.Command {
	var origin bool
	cmd := s.Command("inspect BUNDLE", session.Exactly("a bundle"), s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, args []string) (session.Reply, error) {
			if origin {
				b, err := vendor.Origin(ctx, args[0])
				return session.Answer(b, func(w io.Writer) { bill.Write(w, b, args[0]) }).Unless(err)
			}
			sum, err := vendor.Inspect(ctx, args[0])
			return session.Answer(sum, func(w io.Writer) { answer.Inspected(w, sum, args[0]) }).Unless(err)
		}))
	cmd.Flags().BoolVar(&origin, "sbom", false, "say what the parts were made of and how: SPDX and provenance")
	return cmd
}

func (s commands) bundleVerify() *cobra.Command {
	var req vendor.VerifyRequest
	cmd := s.Command("verify BUNDLE", session.Exactly("a bundle"), s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, args []string) (session.Reply, error) {
			progress, end := s.Meter(r.Events, "bundle verify", "Verify the bundle")
			req.Path, req.Now, req.Progress = args[0], r.Now(), progress
			sum, err := vendor.Verify(ctx, req)
			end(err)
			return session.Answer(sum, func(w io.Writer) { answer.Verified(w, sum, args[0]) }).Unless(err)
		}))
	cmd.Flags().StringVar(&req.Key, "verify-key", "", "`file` with the vendor's public key (default: the one sealed onto this executable)")
	return cmd
}

func (s commands) bundleDiff() *cobra.Command {
	var out string
	cmd := s.Command("diff OLD NEW -o FILE", session.Needs(session.Pair("an older and a newer bundle"), "output"), s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, args []string) (session.Reply, error) {
			res, err := vendor.Diff(ctx, args[0], args[1], out)
			return session.Answer(res, func(w io.Writer) { answer.Diffed(w, res, args[0]) }).Unless(err)
		}))
	cmd.Flags().StringVarP(&out, "output", "o", "", "`file` to write; for the form of the answer, put --output before \"bundle\"")
	return cmd
}

func (s commands) bundleMerge() *cobra.Command {
	var out string
	cmd := s.Command("merge OLD DELTA -o FILE", session.Needs(session.Pair("a bundle and a delta to it"), "output"), s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, args []string) (session.Reply, error) {
			progress, end := s.Meter(r.Events, "bundle merge", "Prove the merged bundle")
			res, err := vendor.Merge(ctx, args[0], args[1], out, progress)
			end(err)
			return session.Answer(res, func(w io.Writer) { answer.Merged(w, res) }).Unless(err)
		}))
	cmd.Flags().StringVarP(&out, "output", "o", "", "`file` to write; for the form of the answer, put --output before \"bundle\"")
	return cmd
}

func (s commands) seal() *cobra.Command {
	var req vendor.SealRequest
	cmd := s.Command("seal -o FILE", session.Needs(session.NoArgs, "output"), s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, _ []string) (session.Reply, error) {
			req.Now = r.Now()
			res, err := vendor.Seal(ctx, req)
			return session.Answer(res, func(w io.Writer) { answer.Sealed(w, res) }).Unless(err)
		}))
	f := cmd.Flags()
	f.StringVar(&req.Bundle, "bundle", "", "`file` with the bundle to seal on")
	f.StringVar(&req.VerifyKey, "verify-key", "", "`file` with the vendor's public key to seal on (default: the one that is on this executable already)")
	f.BoolVar(&req.AllowUnsigned, "allow-unsigned", false, "seal a bundle on that the key does not prove")
	f.StringVarP(&req.Out, "output", "o", "", "`file` to write; for the form of the answer, put --output before \"seal\"")
	return cmd
}
