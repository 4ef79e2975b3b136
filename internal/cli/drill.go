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

func (s commands) drill() *cobra.Command { return s.Group("drill", s.drillList(), s.drillRun()) }

func (s commands) drillList() *cobra.Command {
	return s.Command("list", session.NoArgs, func(context.Context, []string) (session.Reply, error) {
		names, err := drill.Names()
		return session.Answer(map[string][]string{"failpoints": names}, func(w io.Writer) { answer.Failpoints(w, names) }).Unless(err)
	})
}

func (s commands) drillRun() *cobra.Command {
	var req drill.Request
	known := func(_ *cobra.Command, _ []string) error {
		names, err := drill.Names()
		for _, p := range req.Points {
			p, _, _ = strings.Cut(p, "#")
			if err == nil && !slices.Contains(names, p) {
				return session.Unknown("failpoint", p, names)
			}
		}
		return err
	}
	cmd := s.Command("run --this-host-is-throw-away -- install --bundle FILE", known, s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, args []string) (session.Reply, error) {
			req.Args = args
			res, err := drill.Run(ctx, r, req)
			if err != nil && len(res.Rows) == 0 {
				return session.Reply{}, err
			}
			return session.Answer(res, func(w io.Writer) { answer.Drilled(w, res) }), err
		}))
	f := cmd.Flags()
	f.BoolVar(&req.ThrowAway, "this-host-is-throw-away", false, "say that nothing on this host is of value")
	f.StringVar(&req.Way, "way", drill.Chain, "`how`: chain, resume or reset")
	f.StringSliceVar(&req.Points, "point", nil, "`names` of failpoints to kill at, NAME#3 for the third time it is reached (default all boundaries)")
	f.IntVar(&req.Random, "random", 0, "of a chain: `number` of kills more, at random moments")
	f.DurationVar(&req.Within, "within", 5*time.Second, "a random moment is at most this `time` after a run's begin")
	f.Uint64Var(&req.Seed, "seed", 0, "`number` that the random moments come from (default one of the clock)")
	return cmd
}
