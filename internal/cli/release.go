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

func (s commands) publishCommand() *cobra.Command {
	var req vendor.ReleaseRequest
	cmd := s.Command("publish --bundle FILE --url URL DIR", session.Needs(session.Exactly("DIR"), "bundle", "url"), s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, args []string) (session.Reply, error) {
			progress, end := s.Meter(r.Events, "publish", "Write the folder")
			req.Out, req.Now, req.Progress = args[0], r.Now(), progress
			res, err := vendor.Release(ctx, req)
			end(err)
			return session.Answer(res, func(w io.Writer) { answer.Released(w, res) }).Unless(err)
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
