package cli

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/app/preflight"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/cli/answer"
	"github.com/plinthdev/plinth/internal/cli/session"
	"github.com/plinthdev/plinth/internal/problem"
)

func (s commands) preflight() *cobra.Command {
	var req preflight.Request
	var codeFile string
	var listen bool
	cmd := s.Command("preflight", session.NoArgs, s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, _ []string) (session.Reply, error) {
			var err error
			if req.Code, err = s.secretFile("--peer-code-file", codeFile); err != nil {
				return session.Reply{}, err
			}
			if listen {
				return s.listen(ctx, r, req.Code)
			}
			report, err := preflight.Preflight(ctx, r, req)
			if report.Results == nil {
				return session.Reply{}, err // it did not come to that
			}
			return session.Answer(report, func(w io.Writer) { answer.Preflight(w, report, req) }), err
		}))
	f := cmd.Flags()
	f.StringVar(&req.Bundle, "bundle", "", "`file` that would be installed, - for standard input: its sizes, ports and networks, and its vendor's checks")
	f.StringVar(&req.Source, "source", "", "`URL` with what a thin bundle leaves out, and without --bundle with the bundle itself: is it in reach?")
	f.StringVar(&req.Role, "role", "controller", "what this host is to be: `role` is controller or worker")
	f.BoolVar(&req.Quick, "quick", false, "leave out what is measured on disk and processor: seconds less")
	f.StringSliceVar(&req.Peers, "peers", nil, "`hosts` that are to share the cluster: what lies between them and this one is checked, too")
	f.StringVar(&codeFile, "peer-code-file", "", "`file` with the code that --listen printed; - is standard input")
	f.BoolVar(&listen, "listen", false, "answer the hosts that name this one in --peers, for half an hour or until Ctrl-C")
	ignoring(f, &req.Ignore)
	return cmd
}

// listen answers other hosts; what they need is said at once.
func (s commands) listen(ctx context.Context, r *run.Run, code string) (session.Reply, error) {
	var told preflight.Listening
	err := preflight.Listen(ctx, r, code, func(l preflight.Listening) {
		told = l
		r.Note(answer.Listening(l))
	})
	return session.Answer(told, func(w io.Writer) { answer.Listened(w, told) }).Unless(err)
}

// secretFile reads what a flag names, "-" for standard input: a secret never
// stands in the command line.
func (s commands) secretFile(flag, path string) (string, error) {
	if path == "" {
		return "", nil
	}
	raw, err := run.Given(s.In, path, maxToken)
	text := strings.TrimSpace(string(raw))
	if err == nil && text == "" {
		err = errors.New("it holds no code")
	}
	if err != nil {
		return "", problem.New(problem.ExitUsage, "read "+flag, err, "give a file with the code, or - and the code on standard input")
	}
	return text, nil
}
