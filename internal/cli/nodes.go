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

func (s commandSet) tokenCommand() *cobra.Command {
	var req tokens.Request
	create := s.NewCommand("create --role worker|controller", session.RequireFlags(session.NoArgs, "role"), s.WithEnv(session.SingleDocument, nil,
		func(ctx context.Context, r *run.Env, _ []string) (session.Output, error) {
			made, err := tokens.Create(ctx, r, req)
			return session.NewOutput(made, func(w io.Writer) { answer.WriteNewToken(w, made) }).OrError(err)
		}))
	f := create.Flags()
	f.StringVar(&req.Role, "role", "", "`role` of the host that joins: worker or controller")
	f.DurationVar(&req.TTL, "ttl", time.Hour, "`time` until the token expires, such as 30m or 2h")
	f.IntVar(&req.Uses, "uses", 1, "`number` of hosts that may join with it")
	list := s.NewCommand("list", session.NoArgs, s.WithEnv(session.SingleDocument, nil,
		func(ctx context.Context, r *run.Env, _ []string) (session.Output, error) {
			all, err := tokens.List(ctx, r)
			return session.NewOutput(map[string]any{"tokens": all}, func(w io.Writer) { answer.WriteTokenList(w, all) }).OrError(err)
		}))
	revoke := s.NewCommand("revoke ID", session.ExactlyOne("ID"), s.WithEnv(session.SingleDocument, nil,
		func(ctx context.Context, r *run.Env, args []string) (session.Output, error) {
			rec, err := tokens.Revoke(ctx, r, args[0])
			return session.NewOutput(rec, func(w io.Writer) { answer.WriteRevokedToken(w, rec) }).OrError(err)
		}))
	return s.NewGroup("token", create, list, revoke)
}
