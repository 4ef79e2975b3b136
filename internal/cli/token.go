package cli

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/tokens"
	"github.com/plinthdev/plinth/internal/cli/printer"
)

func (s commandSet) tokenCommand() *cobra.Command {
	var req tokens.Request
	create := s.NewCommand("create --role worker|controller", requireFlags(noArgs, "role"), s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			made, err := tokens.Create(ctx, env, req)
			return newOutput(made, func(w io.Writer) { printer.WriteNewToken(w, made) }).OrError(err)
		}))
	f := create.Flags()
	f.StringVar(&req.Role, "role", "", "`role` of the host that joins: worker or controller")
	f.Lookup("role").Annotations = map[string][]string{flagValuesKey: {"worker", "controller"}}
	f.DurationVar(&req.TTL, "ttl", time.Hour, "`time` until the token expires, such as 30m or 2h")
	f.IntVar(&req.Uses, "uses", 1, "`number` of hosts that may join with it")
	list := s.NewCommand("list", noArgs, s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			all, err := tokens.List(ctx, env)
			return newOutput(map[string]any{"tokens": all}, func(w io.Writer) { printer.WriteTokenList(w, all) }).OrError(err)
		}))
	revoke := s.NewCommand("revoke ID", exactlyOne("ID"), s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, args []string) (commandOutput, error) {
			rec, err := tokens.Revoke(ctx, env, args[0])
			return newOutput(rec, func(w io.Writer) { printer.WriteRevokedToken(w, rec) }).OrError(err)
		}))
	return s.NewGroup("token", create, list, revoke)
}
