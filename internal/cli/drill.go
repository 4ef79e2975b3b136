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

func (s commands) debugCommand() *cobra.Command {
	return s.Group("debug", s.Group("fault-test", s.faultTestListCommand(), s.faultTestRunCommand()))
}

func (s commands) faultTestListCommand() *cobra.Command {
	return s.Command("list", session.NoArgs, func(context.Context, []string) (session.Reply, error) {
		names, err := drill.Names()
		return session.Answer(map[string][]string{"failpoints": names}, func(w io.Writer) { answer.Failpoints(w, names) }).Unless(err)
	})
}

func (s commands) faultTestRunCommand() *cobra.Command {
	var req drill.Request
	knownPoints := func(_ *cobra.Command, _ []string) error {
		names, err := drill.Names()
		for _, p := range req.Points {
			p, _, _ = strings.Cut(p, "#")
			if err == nil && !slices.Contains(names, p) {
				return session.Unknown("failpoint", p, names)
			}
		}
		return err
	}
	cmd := s.Command("run --host-is-disposable -- COMMAND", knownPoints, s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, args []string) (session.Reply, error) {
			req.Args = args
			res, err := drill.Run(ctx, r, req)
			if err != nil && len(res.Rows) == 0 {
				return session.Reply{}, err
			}
			return session.Answer(res, func(w io.Writer) { answer.Drilled(w, res) }), err
		}))
	f := cmd.Flags()
	f.BoolVar(&req.ThrowAway, "host-is-disposable", false, "confirm that nothing on this host is of value")
	f.StringVar(&req.Way, "way", drill.Chain, "`mode`: chain, resume or reset")
	f.StringSliceVar(&req.Points, "point", nil, "failpoint `names`, NAME#3 for the third hit (default: step boundaries)")
	f.IntVar(&req.Random, "random", 0, "mode chain: `number` of additional kills at random moments")
	f.DurationVar(&req.Within, "within", 5*time.Second, "longest `time` from the start of a run to a random kill")
	f.Uint64Var(&req.Seed, "seed", 0, "`number` that seeds the random moments (default: from the clock)")
	return cmd
}
