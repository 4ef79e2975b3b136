// Package preflight gathers the facts of a host and evaluates the built-in checks and
// the vendor's checks against them.
package preflight

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/hostpreflight/builtin"
	"github.com/plinthdev/plinth/hostpreflight/troubleshoot"
	"github.com/plinthdev/plinth/internal/app/compose"
	"github.com/plinthdev/plinth/internal/app/delivery"
	"github.com/plinthdev/plinth/internal/app/manifest"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/probe"
	"github.com/plinthdev/plinth/internal/problem"
)

// RunOptions are the options of the command `plinth preflight`.
type Request struct {
	Bundle string   // file that would be installed; "" for the bundle of Source, or an install of the default size
	Source string   // URL with the content that a thin bundle omits; "" for none
	Role   string   // role of this host in the cluster; "" for controller
	Ignore []string // ids of checks that may fail
	Quick  bool     // skip the benchmarks, which take seconds
	Peers  []string // hosts that will share the cluster, by name or address
	Code   string   // with which the peers were started; secret
}

// Run runs the checks of an install on this host without changing anything. The error
// (exit code 5) names the checks that failed.
func Preflight(ctx context.Context, r *run.Run, req Request) (hostpreflight.Report, error) {
	role := hostpreflight.Role(req.Role)
	if role != "" && role != hostpreflight.Controller && role != hostpreflight.Worker {
		return hostpreflight.Report{}, problem.Newf(problem.ExitUsage, "check this host", "use --role controller or --role worker", "unknown role %q", req.Role)
	}
	readOnly := r.ReadOnly()
	j, err := known(readOnly)
	if err != nil {
		return hostpreflight.Report{}, err
	}
	opts := Question{Want: compose.DefaultWant(j, r.DataDir), Ignore: req.Ignore, Journal: j}
	if req.Bundle != "" || req.Source != "" {
		if opts.Want, opts.Vendor, err = wantOf(ctx, req, j, readOnly); err != nil {
			return hostpreflight.Report{}, err
		}
	}
	opts.Want.Verb, opts.Want.Role, opts.Want.Quick = hostpreflight.Preflight, role, req.Quick
	peers, err := named(r, req)
	if err != nil {
		return hostpreflight.Report{}, err
	}
	opts.Others = func(facts.Facts) Others { return peers }
	_, report, err := Look(ctx, readOnly, opts)
	if err != nil {
		return report, err
	}
	return report, report.Err("accept this host")
}

// Options are the requirements that a command has on its host.
type Question struct {
	Want   hostpreflight.Want
	Vendor troubleshoot.Preflights // of the Installer; zero for none
	Ignore []string                // ids of checks that may fail

	Journal *journal.Journal         // of this host; it holds the digest of the previous facts
	Others  func(facts.Facts) Others // returns the hosts of the cluster, given the facts of this host; nil for none
}

// RunChecks gathers the facts of r's host that the checks need and evaluates the checks.
// A failed check is in the report, not in the error.
func Look(ctx context.Context, r *run.Run, opts Question) (facts.Facts, hostpreflight.Report, error) {
	found := gather(ctx, r, opts)
	if opts.Others != nil && ctx.Err() == nil {
		found.Peers = meet(ctx, r, found, opts.Others(found), !opts.Want.IsWorker())
	}
	opts.Want.Earlier = earlier(r, opts.Journal)
	report, err := judge(ctx, found, opts)
	return found, report, err
}

// GatherBasic returns the facts of r's host that need no network requests. It takes a
// tenth of a second, even where no name server answers.
func Near(ctx context.Context, r *run.Run) facts.Facts {
	return probe.Gather(ctx, r.Host, facts.Request{Near: true})
}

func gather(ctx context.Context, r *run.Run, opts Question) facts.Facts {
	need := builtin.Request(opts.Want)
	opts.Vendor.Request(&need, opts.Want)
	return probe.Gather(ctx, r.Host, need)
}

func judge(ctx context.Context, found facts.Facts, opts Question) (hostpreflight.Report, error) {
	if ctx.Err() != nil {
		return hostpreflight.Report{}, context.Cause(ctx)
	}
	return hostpreflight.Run(append(builtin.Checks(), opts.Vendor.Checks...), found, opts.Want, opts.Ignore)
}

// openJournal opens the journal of this host. Without root it may be unreadable: then
// nothing on the host counts as installed by Plinth, and the check of the user reports
// why.
func known(r *run.Run) (*journal.Journal, error) {
	j, err := journal.Open(r.Host, r.DataDir, r.Now)
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return journal.Open(nothing{}, r.DataDir, r.Now)
	}
	return j, err
}

// emptyFiles is a host without files.
type nothing struct{ journal.Files }

// ReadFile returns fs.ErrNotExist for every path.
func (nothing) ReadFile(string) ([]byte, error) { return nil, fs.ErrNotExist }

// bundleRequirements returns the requirements of an install of the requested bundle,
// and the vendor's checks in it.
func wantOf(ctx context.Context, req Request, j *journal.Journal, r *run.Run) (hostpreflight.Want, troubleshoot.Preflights, error) {
	d, err := delivery.Open(ctx, r, delivery.Request{Bundle: req.Bundle, Source: req.Source, Look: true})
	if err != nil {
		return hostpreflight.Want{}, troubleshoot.Preflights{}, err
	}
	defer func() { _ = d.Close() }()
	b := d.Bundle
	m, err := manifest.Read(ctx, b, manifest.Request{Bundle: d.Path}, r.Now())
	if err != nil {
		return hostpreflight.Want{}, troubleshoot.Preflights{}, err
	}
	vendor, err := manifest.Preflights(m.Installer)
	want := compose.Want(b, m.Installer, j, r.DataDir)
	want.Sources = d.Sources()
	var failed error
	if want.Lacking, failed = d.Lacking(ctx); failed != nil {
		want.Lacking = []string{failed.Error()}
	}
	return want, vendor, errors.Join(err, ctx.Err())
}
