package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func (s commandSet) versionCommand() *cobra.Command {
	return s.NewCommand("version", noArgs, func(context.Context, []string) (commandOutput, error) {
		b := s.BuildInfo()
		return newOutput(b, b.WriteText), nil
	})
}
