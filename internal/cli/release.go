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

func (s commands) release() *cobra.Command {
	var req vendor.ReleaseRequest
	cmd := s.Command("release --bundle FILE --url URL -o FOLDER", session.Needs(session.NoArgs, "bundle", "url", "output"), s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, _ []string) (session.Reply, error) {
			progress, end := s.Meter(r.Events, "release", "Write the release")
			req.Now, req.Progress = r.Now(), progress
			res, err := vendor.Release(ctx, req)
			end(err)
			return session.Answer(res, func(w io.Writer) { answer.Released(w, res) }).Unless(err)
		}))
	f := cmd.Flags()
	f.StringArrayVar(&req.Bundles, "bundle", nil, "`file` with a bundle; once for each kind of machine")
	f.StringVar(&req.URL, "url", "", "`URL` at which the folder will be served")
	f.StringToStringVar(&req.Programs, "program", nil, "`PLATFORM=FILE`: plinth for another kind of machine than this one, such as linux/arm64=plinth-arm64")
	f.StringVar(&req.SignKey, "sign-key", "", "`file` with the private key to sign SHA256SUMS with; may be a pipe")
	f.StringVar(&req.VerifyKey, "verify-key", "", "`file` with the public key to seal on (default: that of --sign-key, or the one that is on this executable already)")
	f.BoolVar(&req.AllowUnsigned, "allow-unsigned", false, "publish bundles that the key does not prove")
	f.StringVarP(&req.Out, "output", "o", "", "`folder` to write; for the form of the answer, put --output before \"release\"")
	return cmd
}
