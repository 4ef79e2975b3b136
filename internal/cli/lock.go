package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/bundle"
	"github.com/plinthdev/plinth/internal/cli/printer"
)

func (s commandSet) lockCommand() *cobra.Command {
	var req bundle.LockRequest
	cmd := s.NewCommand("lock INSTALLER", exactlyOne("INSTALLER"), s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, args []string) (commandOutput, error) {
			end := s.showDownloads(env, "lock", &req.Downloads)
			req.Installer = args[0]
			res, err := bundle.Lock(ctx, req)
			end(err)
			return newOutput(res, func(w io.Writer) { printer.WriteLockResult(w, res) }).OrError(err)
		}))
	f := cmd.Flags()
	addSourceFlags(f, &req.Source, &req.Downloads)
	f.StringArrayVar(&req.Platforms, "platform", nil, "`platform`, such as linux/arm64; repeat the flag for more")
	f.StringVar(&req.Out, "output-file", "", "`file` to write (default: installer.lock.yaml beside installer.yaml)")
	return cmd
}
