package cli

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/app/tokens"
	"github.com/plinthdev/plinth/internal/cli/answer"
	"github.com/plinthdev/plinth/internal/cli/session"
)

func (s commands) token() *cobra.Command {
	var req tokens.Request
	create := s.Command("create --role worker|controller", session.Needs(session.NoArgs, "role"), s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, _ []string) (session.Reply, error) {
			made, err := tokens.Create(ctx, r, req)
			return session.Answer(made, func(w io.Writer) { answer.Token(w, made) }).Unless(err)
		}))
	f := create.Flags()
	f.StringVar(&req.Role, "role", "", "`role` of the host that joins: worker or controller")
	f.DurationVar(&req.Life, "ttl", time.Hour, "`time` until the token expires, such as 30m or 2h")
	f.IntVar(&req.Uses, "uses", 1, "`number` of hosts that may join with it")
	list := s.Command("list", session.NoArgs, s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, _ []string) (session.Reply, error) {
			all, err := tokens.List(ctx, r)
			return session.Answer(map[string]any{"tokens": all}, func(w io.Writer) { answer.Tokens(w, all) }).Unless(err)
		}))
	revoke := s.Command("revoke ID", session.Exactly("ID"), s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, args []string) (session.Reply, error) {
			rec, err := tokens.Revoke(ctx, r, args[0])
			return session.Answer(rec, func(w io.Writer) { answer.Revoked(w, rec) }).Unless(err)
		}))
	return s.Group("token", create, list, revoke)
}
