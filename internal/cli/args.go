package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// noArgs refuses any argument.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	return nil
}

// exactly wants one argument; what names it: "a bundle".
func exactly(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return fmt.Errorf("unexpected argument %q", args[1])
		}
		return atLeast(what)(cmd, args)
	}
}

// atLeast wants one argument or more.
func atLeast(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return errors.New(what + " is missing")
		}
		return nil
	}
}
