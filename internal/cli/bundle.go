package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/bundle"
	"github.com/plinthdev/plinth/internal/cli/printer"
)

func (s commandSet) bundleCommand() *cobra.Command {
	return s.NewGroup("bundle", s.bundleBuildCommand(), s.bundleInspectCommand(), s.bundleVerifyCommand(), s.bundleDiffCommand(), s.bundleMirrorCommand(), s.bundlePatchCommand(), s.bundleEmbedCommand())
}

func (s commandSet) bundleBuildCommand() *cobra.Command {
	var req bundle.BuildRequest
	cmd := s.NewCommand("build --installer FILE --output-file FILE", requireFlags(noArgs, "installer", "output-file"), s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			endDownload := s.showDownloads(env, "bundle build", &req.Downloads)
			progress, end := s.NewProgress(env.Events, "bundle build", "bundle", "Write the bundle")
			req.Progress = func(done, total int64) {
				endDownload(nil)
				progress(done, total)
			}
			req.Now = s.Now()
			res, err := bundle.Build(ctx, req)
			endDownload(err)
			end(err)
			return newOutput(res, func(w io.Writer) { printer.WriteBuildResult(w, res) }).OrError(err)
		}))
	f := cmd.Flags()
	f.StringVar(&req.Installer, "installer", "", "Installer `file`")
	f.StringVar(&req.Application, "application", "", "KOTS Application `file`")
	addSourceFlags(f, &req.Source, &req.Downloads)
	f.StringVar(&req.Platform, "platform", "", "`platform` of the hosts, such as linux/arm64 (default linux/amd64)")
	f.BoolVar(&req.Locked, "locked", false, "refuse a source that differs from installer.lock.yaml")
	f.StringVar(&req.Program, "program", "", "plinth `file` that nodes take in an upgrade (default: this one)")
	f.StringVar(&req.SignKey, "sign-key", "", "private key `file` to sign with; may be a pipe")
	f.Int64Var(&req.Release, "release", 0, "release `number`; hosts refuse a lower one than theirs")
	f.StringVar(&req.Expires, "expires", "", "`date` after which hosts refuse the bundle")
	f.BoolVar(&req.Thin, "thin", false, "leave out images and host files; install fetches them with --source")
	addOutputFileFlag(f, &req.Out)
	return cmd
}

// addSourceFlags adds the flags that say from where the parts of a bundle come.
func addSourceFlags(f *pflag.FlagSet, source *string, d *bundle.Downloads) {
	f.StringVar(source, "source", "registry", "OCI layout `directory`, or \"registry\" to download")
	addDownloadFlags(f, d)
	addCacheFlag(f, d)
}

// addCacheFlag adds the flag that names the folder for downloads.
func addCacheFlag(f *pflag.FlagSet, d *bundle.Downloads) {
	f.StringVar(&d.Cache, "cache", "", "`directory` for downloaded parts (default ~/.cache/plinth/parts)")
}

// addDownloadFlags adds the flags that say from where parts are downloaded.
func addDownloadFlags(f *pflag.FlagSet, d *bundle.Downloads) {
	f.StringArrayVar(&d.Mirrors, "mirror", nil, "`HOST=HOST/PATH` to download images from; repeat for each registry")
	f.StringVar(&d.MirrorsFile, "mirrors", "", "`file` with such a line for each registry")
	f.StringVar(&d.Releases, "releases", "", "`URL` that replaces https://github.com for k0s and KOTS releases")
}

// showDownloads makes d report its progress and notes. end reports the outcome.
func (s commandSet) showDownloads(env *action.Env, verb string, d *bundle.Downloads) (end func(error)) {
	d.Note = env.Note
	d.Progress, end = s.NewProgress(env.Events, verb, "download", "Download the parts")
	return end
}

func (s commandSet) bundleMirrorCommand() *cobra.Command {
	var req bundle.MirrorRequest
	args := requireFlags(exactlyOne("DIR or oci://HOST/PATH"), "installer")
	cmd := s.NewCommand("mirror --installer FILE DIR|oci://HOST/PATH", args, s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, args []string) (commandOutput, error) {
			endDownload := s.showDownloads(env, "bundle mirror", &req.Downloads)
			progress, end := s.NewProgress(env.Events, "bundle mirror", "upload", "Upload the images")
			req.Uploaded = func(done, total int64) {
				endDownload(nil)
				progress(done, total)
			}
			req.Out = args[0]
			res, err := bundle.Mirror(ctx, req)
			endDownload(err)
			end(err)
			return newOutput(res, func(w io.Writer) { printer.WriteMirrorResult(w, res, req.Installer) }).OrError(err)
		}))
	f := cmd.Flags()
	f.StringVar(&req.Installer, "installer", "", "Installer `file`")
	f.StringVar(&req.Platform, "platform", "", "`platform` of the hosts, such as linux/arm64 (default linux/amd64)")
	addDownloadFlags(f, &req.Downloads)
	addCacheFlag(f, &req.Downloads)
	f.StringVar(&req.Releases, "releases-dir", "", "with oci://: `directory` for the releases of k0s and KOTS")
	return cmd
}

func (s commandSet) bundleInspectCommand() *cobra.Command {
	var origin bool
	cmd := s.NewCommand("inspect BUNDLE", exactlyOne("BUNDLE"), s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, args []string) (commandOutput, error) {
			if origin {
				b, err := bundle.ReadAttestations(ctx, args[0])
				return newOutput(b, func(w io.Writer) { printer.WriteSBOM(w, b, args[0]) }).OrError(err)
			}
			sum, err := bundle.Inspect(ctx, args[0])
			return newOutput(sum, func(w io.Writer) { printer.WriteBundleSummary(w, sum, args[0]) }).OrError(err)
		}))
	cmd.Flags().BoolVar(&origin, "sbom", false, "show what the parts were built from: SBOM (SPDX) and provenance")
	return cmd
}

func (s commandSet) bundleVerifyCommand() *cobra.Command {
	var req bundle.VerifyRequest
	cmd := s.NewCommand("verify BUNDLE", exactlyOne("BUNDLE"), s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, args []string) (commandOutput, error) {
			progress, end := s.NewProgress(env.Events, "bundle verify", "bundle", "Verify the bundle")
			req.Path, req.Now, req.Progress = args[0], env.Now(), progress
			sum, err := bundle.Verify(ctx, req)
			end(err)
			return newOutput(sum, func(w io.Writer) { printer.WriteVerifyResult(w, sum, args[0], req.Key) }).OrError(err)
		}))
	cmd.Flags().StringVar(&req.Key, "verify-key", "", "vendor's public key `file` (default: the one in this executable)")
	return cmd
}

func (s commandSet) bundleDiffCommand() *cobra.Command {
	var out string
	cmd := s.NewCommand("diff OLD NEW --output-file FILE", requireFlags(exactlyTwo("OLD", "NEW"), "output-file"), s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, args []string) (commandOutput, error) {
			res, err := bundle.Diff(ctx, args[0], args[1], out)
			return newOutput(res, func(w io.Writer) { printer.WriteDiffResult(w, res, args[0]) }).OrError(err)
		}))
	addOutputFileFlag(cmd.Flags(), &out)
	return cmd
}

func (s commandSet) bundlePatchCommand() *cobra.Command {
	var out string
	cmd := s.NewCommand("patch OLD DELTA --output-file FILE", requireFlags(exactlyTwo("OLD", "DELTA"), "output-file"), s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, args []string) (commandOutput, error) {
			progress, end := s.NewProgress(env.Events, "bundle patch", "bundle", "Verify the patched bundle")
			res, err := bundle.Patch(ctx, args[0], args[1], out, progress)
			end(err)
			return newOutput(res, func(w io.Writer) { printer.WritePatchResult(w, res) }).OrError(err)
		}))
	addOutputFileFlag(cmd.Flags(), &out)
	return cmd
}

func (s commandSet) bundleEmbedCommand() *cobra.Command {
	var req bundle.EmbedRequest
	cmd := s.NewCommand("embed --output-file FILE", requireFlags(noArgs, "output-file"), s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			req.Now = env.Now()
			res, err := bundle.Embed(ctx, req)
			return newOutput(res, func(w io.Writer) { printer.WriteEmbedResult(w, res) }).OrError(err)
		}))
	f := cmd.Flags()
	f.StringVar(&req.Program, "program", "", "plinth `file` for another platform (default: this executable)")
	f.StringVar(&req.Bundle, "bundle", "", "bundle `file` to embed")
	f.StringVar(&req.VerifyKey, "verify-key", "", "vendor's public key `file` to embed (default: the one in this executable)")
	f.BoolVar(&req.AllowUnsigned, "allow-unsigned", false, "embed a bundle that is not signed with the key")
	addOutputFileFlag(f, &req.Out)
	return cmd
}
