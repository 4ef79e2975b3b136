package cli

import (
	"cmp"
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/join"
	"github.com/plinthdev/plinth/internal/cli/printer"
	"github.com/plinthdev/plinth/internal/problem"
)

func (s commandSet) joinCommand() *cobra.Command {
	var req join.Options
	var file string
	cmd := s.NewCommand("join -", atMostOne, s.WithEnv(eventStream, nil, withDiagnosis(
		func(ctx context.Context, env *action.Env, args []string) (commandOutput, error) {
			var err error
			if req.Token, err = s.readJoinToken(env, file, args); err != nil {
				return commandOutput{}, err
			}
			res, err := join.Run(ctx, env, req)
			return newOutput(res, func(w io.Writer) { printer.WriteJoinResult(w, res, err != nil) }), err
		})))
	f := cmd.Flags()
	f.StringVar(&file, "token-file", "", "token `file`, instead of standard input")
	f.StringVar(&req.Bundle, "bundle", "", "bundle `file`, instead of fetching from the cluster's controllers")
	f.StringVar(&req.Role, "role", "", "refuse a token for another `role`: worker or controller")
	f.BoolVar(&req.Plan, "plan", false, "show what would be done, change nothing")
	addAddressFlags(f, &req.NodeAddress)
	addFirewallFlag(f, &req.ConfigureFirewall)
	addIgnoreFlag(f, &req.IgnorePreflights)
	addTraceFlag(cmd, &req.Trace)
	return cmd
}

// maxTokenBytes is the largest token or peer code that is read.
const maxTokenBytes = 16 << 10

// readJoinToken returns the token from the file, the argument or standard input.
func (s commandSet) readJoinToken(env *action.Env, file string, args []string) (string, error) {
	inline := len(args) > 0 && args[0] != "-"
	switch {
	case file != "" && inline:
		return "", problem.New(problem.ExitUsage, "join", errors.New("both --token-file and a token as argument are given"), "use only one of them")
	case file == "" && len(args) == 0:
		return "", problem.New(problem.ExitUsage, "join", errors.New("the token is missing"), "run: echo TOKEN | sudo plinth join -; `plinth token create` on a controller prints the whole line")
	case inline:
		env.Note("warning: every user of this host can see a token on the command line; use standard input instead: echo TOKEN | sudo plinth join -")
		return join.HideCommandLineToken(args[0]), nil
	}
	data, err := action.ReadInput(s.In, cmp.Or(file, "-"), maxTokenBytes)
	if err != nil {
		return "", problem.New(problem.ExitUsage, "read the token", err, "check the path and its permissions; `plinth token create` on a controller prints a token")
	}
	return string(data), nil
}
