package cli

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/app/drill"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/cli/answer"
	"github.com/plinthdev/plinth/internal/cli/session"
)

func (s commandSet) debugCommand() *cobra.Command {
	return s.NewGroup("debug", s.NewGroup("fault-test", s.faultTestListCommand(), s.faultTestRunCommand()))
}

func (s commandSet) faultTestListCommand() *cobra.Command {
	return s.NewCommand("list", session.NoArgs, func(context.Context, []string) (session.Output, error) {
		names, err := drill.PointNames()
		return session.NewOutput(map[string][]string{"failpoints": names}, func(w io.Writer) { answer.WriteFailpointList(w, names) }).OrError(err)
	})
}

func (s commandSet) faultTestRunCommand() *cobra.Command {
	var req drill.Request
	knownPoints := func(_ *cobra.Command, _ []string) error {
		names, err := drill.PointNames()
		for _, p := range req.Points {
			p, _, _ = strings.Cut(p, "#")
			if err == nil && !slices.Contains(names, p) {
				return session.NewUnknownError("failpoint", p, names)
			}
		}
		return err
	}
	cmd := s.NewCommand("run --host-is-disposable -- COMMAND", knownPoints, s.WithEnv(session.SingleDocument, nil,
		func(ctx context.Context, r *run.Env, args []string) (session.Output, error) {
			req.Args = args
			res, err := drill.Run(ctx, r, req)
			if err != nil && len(res.Rows) == 0 {
				return session.Output{}, err
			}
			return session.NewOutput(res, func(w io.Writer) { answer.WriteFaultTestResult(w, res) }), err
		}))
	f := cmd.Flags()
	f.BoolVar(&req.HostIsDisposable, "host-is-disposable", false, "confirm that nothing on this host is of value")
	f.StringVar(&req.Mode, "way", drill.Chain, "`mode`: chain, resume or reset")
	f.StringSliceVar(&req.Points, "point", nil, "failpoint `names`, NAME#3 for the third hit (default: step boundaries)")
	f.IntVar(&req.RandomKills, "random", 0, "mode chain: `number` of additional kills at random moments")
	f.DurationVar(&req.RandomWithin, "within", 5*time.Second, "longest `time` from the start of a run to a random kill")
	f.Uint64Var(&req.Seed, "seed", 0, "`number` that seeds the random moments (default: from the clock)")
	return cmd
}
