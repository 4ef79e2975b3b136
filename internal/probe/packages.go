package probe

import (
	"context"
	"errors"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/probe/parse"
)

// packages asks the package manager whose database is there. That some are not
// installed is its exit code, not a failure.
func (l look) packages(ctx context.Context) answer {
	argv := []string{"dpkg-query", "-W", "-f", `${Package}\t${db:Status-Status}\t${Version}\n`}
	if !l.files.Exists("/var/lib/dpkg/status") {
		argv = []string{"rpm", "-q", "--qf", `%{NAME}\tinstalled\t%{VERSION}-%{RELEASE}\n`}
	}
	out, err := l.m.Run(ctx, host.Cmd{Argv: append(append(argv, "--"), l.req.Packages...), Timeout: commandLimit, Look: true})
	var failed *host.CommandError
	if errors.As(err, &failed) && failed.Code > 0 {
		err = nil
	}
	return found(facts.FactPackages, err, func(f *facts.Facts) { f.Packages = parse.Packages(out) })
}
