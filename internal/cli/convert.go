package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/cli/printer"
)

func (s commandSet) convertCommand() *cobra.Command {
	return s.NewGroup("convert", s.NewCommand("kurl FILE", exactlyOne("FILE"), s.WithEnv(singleDocument, nil,
		func(ctx context.Context, _ *action.Env, args []string) (commandOutput, error) {
			c, err := config.ConvertKURL(ctx, args[0])
			out := newOutput(c, func(w io.Writer) { printer.WriteConversion(w, c, args[0]) })
			out.File = true
			return out.OrError(err)
		})))
}
