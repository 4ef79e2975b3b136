package cli

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/faulttest"
	"github.com/plinthdev/plinth/internal/cli/printer"
)

func (s commandSet) debugCommand() *cobra.Command {
	return s.NewGroup("debug", s.NewGroup("fault-test", s.faultTestListCommand(), s.faultTestRunCommand()))
}

func (s commandSet) faultTestListCommand() *cobra.Command {
	return s.NewCommand("list", noArgs, func(context.Context, []string) (commandOutput, error) {
		names, err := faulttest.PointNames()
		return newOutput(map[string][]string{"failpoints": names}, func(w io.Writer) { printer.WriteFailpointList(w, names) }).OrError(err)
	})
}

func (s commandSet) faultTestRunCommand() *cobra.Command {
	var req faulttest.Request
	knownPoints := func(_ *cobra.Command, _ []string) error {
		unknown, names, err := faulttest.FindUnknownPoint(req.Points)
		if unknown != "" {
			return newUnknownError("failpoint", unknown, names)
		}
		return err
	}
	cmd := s.NewCommand("run --host-is-disposable -- COMMAND", knownPoints, s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, args []string) (commandOutput, error) {
			req.Args = args
			res, err := faulttest.Run(ctx, env, req)
			if err != nil && len(res.Rows) == 0 {
				return commandOutput{}, err
			}
			return newOutput(res, func(w io.Writer) { printer.WriteFaultTestResult(w, res) }), err
		}))
	f := cmd.Flags()
	f.BoolVar(&req.HostIsDisposable, "host-is-disposable", false, "confirm that nothing on this host is of value")
	f.StringVar(&req.Mode, "mode", faulttest.Chain, "`mode`: chain, resume or reset")
	f.StringSliceVar(&req.Points, "point", nil, "failpoint `names`, NAME#3 for the third hit (default: step boundaries)")
	f.IntVar(&req.RandomKills, "random", 0, "mode chain: `number` of additional kills at random moments")
	f.DurationVar(&req.RandomWithin, "within", 5*time.Second, "longest `time` from the start of a run to a random kill")
	f.Uint64Var(&req.Seed, "seed", 0, "`number` that seeds the random moments (default: from the clock)")
	return cmd
}
