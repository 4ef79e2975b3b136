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

func (s commandSet) publishCommand() *cobra.Command {
	var req vendor.PublishRequest
	cmd := s.NewCommand("publish --bundle FILE --url URL DIR", session.RequireFlags(session.ExactlyOne("DIR"), "bundle", "url"), s.WithEnv(session.SingleDocument, nil,
		func(ctx context.Context, r *run.Env, args []string) (session.Output, error) {
			progress, end := s.NewProgress(r.Events, "publish", "Write the folder")
			req.Out, req.Now, req.Progress = args[0], r.Now(), progress
			res, err := vendor.Publish(ctx, req)
			end(err)
			return session.NewOutput(res, func(w io.Writer) { answer.WritePublishResult(w, res) }).OrError(err)
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
