package cli

import (
	"cmp"
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/app/join"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/app/serve"
	"github.com/plinthdev/plinth/internal/app/tokens"
	"github.com/plinthdev/plinth/internal/cli/answer"
	"github.com/plinthdev/plinth/internal/cli/session"
	"github.com/plinthdev/plinth/internal/problem"
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
	f.DurationVar(&req.Life, "ttl", time.Hour, "how `long` the token counts, such as 30m or 2h")
	f.IntVar(&req.Uses, "uses", 1, "how `many` hosts may join with it")
	list := s.Command("list", session.NoArgs, s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, _ []string) (session.Reply, error) {
			all, err := tokens.List(ctx, r)
			return session.Answer(map[string]any{"tokens": all}, func(w io.Writer) { answer.Tokens(w, all) }).Unless(err)
		}))
	revoke := s.Command("revoke ID", session.Exactly("the id of a token"), s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, args []string) (session.Reply, error) {
			rec, err := tokens.Revoke(ctx, r, args[0])
			return session.Answer(rec, func(w io.Writer) { answer.Revoked(w, rec) }).Unless(err)
		}))
	return s.Group("token", create, list, revoke)
}

func (s commands) join() *cobra.Command {
	var req join.Request
	var file string
	cmd := s.Command("join -", session.AtMostOne, s.With(session.Stream, nil,
		func(ctx context.Context, r *run.Run, args []string) (session.Reply, error) {
			var err error
			if req.Token, err = s.joinToken(r, file, args); err != nil {
				return session.Reply{}, err
			}
			res, err := join.Join(ctx, r, req)
			return session.Answer(res, func(w io.Writer) { answer.Joined(w, res, err != nil) }), err
		}))
	f := cmd.Flags()
	f.StringVar(&file, "token-file", "", "`file` with the token, in place of standard input")
	f.StringVar(&req.Bundle, "bundle", "", "`file` with all that is to be installed, in place of what the cluster's nodes hold")
	f.StringVar(&req.Role, "role", "", "refuse a token that is not for this `role`: worker or controller")
	f.BoolVar(&req.Plan, "plan", false, "only say what would be done")
	f.StringSliceVar(&req.IgnorePreflights, "ignore-host-preflight", nil, "`ids` of host preflights that may fail; they become warnings")
	return cmd
}

// maxToken is the most that is read as a token or a code, in bytes.
const maxToken = 16 << 10

// joinToken reads the token from where the command line says.
func (s commands) joinToken(r *run.Run, file string, args []string) (string, error) {
	inline := len(args) > 0 && args[0] != "-"
	switch {
	case file != "" && inline:
		return "", problem.New(problem.ExitUsage, "join", errors.New("the token comes from --token-file or from an argument, not from both"), "leave one of them away")
	case file == "" && len(args) == 0:
		return "", problem.New(problem.ExitUsage, "join", errors.New("no token was given"), "echo TOKEN | sudo plinth join -; `plinth token create` on a controller prints the whole line")
	case inline:
		r.Note("warning: a token on the command line can be seen by every user of this host; hand it over by standard input: echo TOKEN | sudo plinth join -")
		return join.FromCommandLine(args[0]), nil
	}
	data, err := run.Given(s.In, cmp.Or(file, "-"), maxToken)
	if err != nil {
		return "", problem.New(problem.ExitUsage, "read the token", err, "check the path and its permissions; `plinth token create` on a controller prints a token")
	}
	return string(data), nil
}

// agent is what the unit plinth-agent.service runs; nobody types it.
func (s commands) agent() *cobra.Command {
	cmd := s.Command("agent", session.NoArgs, s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, _ []string) (session.Reply, error) {
			return session.Reply{}, serve.Agent(ctx, r)
		}))
	cmd.Hidden = true
	return cmd
}
