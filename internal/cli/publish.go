package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/bundle"
	"github.com/plinthdev/plinth/internal/cli/printer"
)

func (s commandSet) publishCommand() *cobra.Command {
	var req bundle.PublishRequest
	cmd := s.NewCommand("publish --bundle FILE --url URL DIR", requireFlags(exactlyOne("DIR"), "bundle", "url"), s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, args []string) (commandOutput, error) {
			progress, end := s.NewProgress(env.Events, "publish", "bundle", "Write the folder")
			req.Out, req.Now, req.Progress = args[0], env.Now(), progress
			res, err := bundle.Publish(ctx, req)
			end(err)
			return newOutput(res, func(w io.Writer) { printer.WritePublishResult(w, res) }).OrError(err)
		}))
	f := cmd.Flags()
	f.StringArrayVar(&req.Bundles, "bundle", nil, "bundle `file`; repeat the flag for each platform")
	f.StringVar(&req.URL, "url", "", "`URL` at which the folder will be served")
	f.StringToStringVar(&req.Programs, "program", nil, "`PLATFORM=FILE` with plinth, such as linux/arm64=plinth-arm64")
	f.Lookup("program").DefValue = "" // not "[]" in the help
	f.StringVar(&req.SignKey, "sign-key", "", "private key `file` to sign SHA256SUMS with; may be a pipe")
	f.StringVar(&req.VerifyKey, "verify-key", "", "public key `file` to embed (default: that of --sign-key)")
	f.BoolVar(&req.AllowUnsigned, "allow-unsigned", false, "publish bundles that are not signed with the key")
	return cmd
}
