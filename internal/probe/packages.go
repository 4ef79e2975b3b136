package probe

import (
	"context"
	"errors"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
)

// gatherPackages queries the package manager whose database exists on this
// host. A package that is not installed only changes the exit code; this is not
// a failure.
func (pr prober) gatherPackages(ctx context.Context) partResult {
	argv := []string{"dpkg-query", "-W", "-f", `${Package}\t${db:Status-Status}\t${Version}\n`}
	if !pr.files.Exists("/var/lib/dpkg/status") {
		argv = []string{"rpm", "-q", "--qf", `%{NAME}\tinstalled\t%{VERSION}-%{RELEASE}\n`}
	}
	out, err := pr.machine.Run(ctx, host.Cmd{Argv: append(append(argv, "--"), pr.req.Packages...), Timeout: commandTimeout, ReadOnly: true})
	var failed *host.CommandError
	if errors.As(err, &failed) && failed.Code > 0 {
		err = nil
	}
	return newPartResult(facts.FactPackages, err, func(f *facts.Facts) { f.Packages = parsePackages(out) })
}
