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
	return s.Group("bundle", s.bundleBuild(), s.bundleInspect(), s.bundleVerify(), s.bundleDiff(), s.bundlePatchCommand(), s.bundleEmbedCommand())
}

func (s commands) bundleBuild() *cobra.Command {
	var req vendor.Request
	cmd := s.Command("build --installer FILE --output-file FILE", session.Needs(session.NoArgs, "installer", "output-file"), s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, _ []string) (session.Reply, error) {
			progress, end := s.Meter(r.Events, "bundle build", "Write the bundle")
			req.Progress = progress
			res, err := vendor.Build(ctx, req)
			end(err)
			return session.Answer(res, func(w io.Writer) { answer.Built(w, res) }).Unless(err)
		}))
	f := cmd.Flags()
	f.StringVar(&req.Installer, "installer", "", "Installer `file`")
	f.StringVar(&req.Application, "application", "", "KOTS Application `file`")
	f.StringVar(&req.Source, "source", "registry", "OCI layout `directory`, or \"registry\" to download")
	f.StringVar(&req.SignKey, "sign-key", "", "private key `file` to sign with; may be a pipe")
	f.Int64Var(&req.Release, "release", 0, "release `number`; hosts refuse a lower one than theirs")
	f.StringVar(&req.Expires, "expires", "", "`date` after which hosts refuse the bundle")
	f.BoolVar(&req.Thin, "thin", false, "leave out images and host files; install fetches them with --source")
	addOutputFileFlag(f, &req.Out)
	return cmd
}

func (s commands) bundleInspect() *cobra.Command {
	var origin bool
	cmd := s.Command("inspect BUNDLE", session.Exactly("BUNDLE"), s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, args []string) (session.Reply, error) {
			if origin {
				b, err := vendor.Origin(ctx, args[0])
				return session.Answer(b, func(w io.Writer) { bill.Write(w, b, args[0]) }).Unless(err)
			}
			sum, err := vendor.Inspect(ctx, args[0])
			return session.Answer(sum, func(w io.Writer) { answer.Inspected(w, sum, args[0]) }).Unless(err)
		}))
	cmd.Flags().BoolVar(&origin, "sbom", false, "show what the parts were built from: SBOM (SPDX) and provenance")
	return cmd
}

func (s commands) bundleVerify() *cobra.Command {
	var req vendor.VerifyRequest
	cmd := s.Command("verify BUNDLE", session.Exactly("BUNDLE"), s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, args []string) (session.Reply, error) {
			progress, end := s.Meter(r.Events, "bundle verify", "Verify the bundle")
			req.Path, req.Now, req.Progress = args[0], r.Now(), progress
			sum, err := vendor.Verify(ctx, req)
			end(err)
			return session.Answer(sum, func(w io.Writer) { answer.Verified(w, sum, args[0]) }).Unless(err)
		}))
	cmd.Flags().StringVar(&req.Key, "verify-key", "", "vendor's public key `file` (default: the one in this executable)")
	return cmd
}

func (s commands) bundleDiff() *cobra.Command {
	var out string
	cmd := s.Command("diff OLD NEW --output-file FILE", session.Needs(session.Pair("OLD and NEW"), "output-file"), s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, args []string) (session.Reply, error) {
			res, err := vendor.Diff(ctx, args[0], args[1], out)
			return session.Answer(res, func(w io.Writer) { answer.Diffed(w, res, args[0]) }).Unless(err)
		}))
	addOutputFileFlag(cmd.Flags(), &out)
	return cmd
}

func (s commands) bundlePatchCommand() *cobra.Command {
	var out string
	cmd := s.Command("patch OLD DELTA --output-file FILE", session.Needs(session.Pair("OLD and DELTA"), "output-file"), s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, args []string) (session.Reply, error) {
			progress, end := s.Meter(r.Events, "bundle patch", "Verify the patched bundle")
			res, err := vendor.Merge(ctx, args[0], args[1], out, progress)
			end(err)
			return session.Answer(res, func(w io.Writer) { answer.Merged(w, res) }).Unless(err)
		}))
	addOutputFileFlag(cmd.Flags(), &out)
	return cmd
}

func (s commands) bundleEmbedCommand() *cobra.Command {
	var req vendor.SealRequest
	cmd := s.Command("embed --output-file FILE", session.Needs(session.NoArgs, "output-file"), s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, _ []string) (session.Reply, error) {
			req.Now = r.Now()
			res, err := vendor.Seal(ctx, req)
			return session.Answer(res, func(w io.Writer) { answer.Sealed(w, res) }).Unless(err)
		}))
	f := cmd.Flags()
	f.StringVar(&req.Bundle, "bundle", "", "bundle `file` to embed")
	f.StringVar(&req.VerifyKey, "verify-key", "", "vendor's public key `file` to embed (default: the one in this executable)")
	f.BoolVar(&req.AllowUnsigned, "allow-unsigned", false, "embed a bundle that is not signed with the key")
	addOutputFileFlag(f, &req.Out)
	return cmd
}
