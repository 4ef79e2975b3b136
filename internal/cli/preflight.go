package cli

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/preflight"
	"github.com/plinthdev/plinth/internal/cli/printer"
	"github.com/plinthdev/plinth/internal/problem"
)

func (s commandSet) preflightCommand() *cobra.Command {
	var req preflight.RunOptions
	var codeFile string
	var listen bool
	cmd := s.NewCommand("preflight [--bundle FILE] [--role ROLE] [--peers HOST,...]", noArgs, s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			var err error
			if req.Code, err = s.readSecretFile("--peer-code-file", codeFile); err != nil {
				return commandOutput{}, err
			}
			if listen {
				return s.listenForPeers(ctx, env, req)
			}
			report, err := preflight.Run(ctx, env, req)
			if report.Results == nil {
				return commandOutput{}, err // the preflights did not run
			}
			return newOutput(report, func(w io.Writer) { printer.WritePreflightReport(w, report, req, s.verbose) }), err
		}))
	f := cmd.Flags()
	f.StringVar(&req.Bundle, "bundle", "", "check for this bundle `file`, - for stdin (default: typical)")
	f.StringVar(&req.Source, "source", "", "also check that `URL` can be reached; see install --source")
	f.StringVar(&req.Role, "role", "controller", "`role`: controller or worker")
	f.BoolVar(&req.Quick, "quick", false, "skip the disk and CPU benchmarks, which take some seconds")
	f.StringSliceVar(&req.Peers, "peers", nil, "also check the network to these `hosts` of the cluster")
	f.StringVar(&codeFile, "peer-code-file", "", "`file` with the code from --listen, - for stdin")
	f.BoolVar(&listen, "listen", false, "answer hosts that run --peers, for up to 30 minutes")
	addBalancerFlag(f, &req.Addresses)
	addAddressFlags(f, &req.NodeAddress)
	addIgnoreFlag(f, &req.Ignore)
	return cmd
}

// listenForPeers answers the checks of other hosts. It first prints what to
// run on them.
func (s commandSet) listenForPeers(ctx context.Context, env *action.Env, req preflight.RunOptions) (commandOutput, error) {
	var listening preflight.ListenerInfo
	err := preflight.Listen(ctx, env, req.Code, req.NodeAddress, func(l preflight.ListenerInfo) {
		listening = l
		env.Note(printer.ListenInstructions(l))
	})
	return newOutput(listening, func(w io.Writer) { printer.WriteListenResult(w, listening) }).OrError(err)
}

// readSecretFile returns the content of the file at path, "-" for standard
// input. Secrets are never passed on the command line, where every user of the
// host can see them. flag names the flag, for the error.
func (s commandSet) readSecretFile(flag, path string) (string, error) {
	if path == "" {
		return "", nil
	}
	raw, err := action.ReadInput(s.In, path, maxTokenBytes)
	text := strings.TrimSpace(string(raw))
	if err == nil && text == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		return "", problem.New(problem.ExitUsage, "read "+flag, err, "name a file with the code, or use - and pass the code on standard input")
	}
	return text, nil
}
