// Package preflight owns asking a host: it gathers the facts, measures, and has
// them judged by the built-in checks and the vendor's. It refuses to change the
// host and to decide what follows from the report.
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

// Request is what a preflight on its own is asked for.
type Request struct {
	Bundle string   // file that would be installed; "" for that of Source, or an install of the default size
	Source string   // URL with what a thin bundle leaves out; "" for none
	Role   string   // what this host is to be; "" for controller
	Ignore []string // ids of checks that may fail
	Quick  bool     // leave out what takes seconds: the measures
	Peers  []string // hosts that are to share the cluster, by name or address
	Code   string   // that they were started with; secret
}

// Preflight asks this host what an install would ask, and changes nothing. The
// error (exit code 5) names the checks that failed.
func Preflight(ctx context.Context, r *run.Run, req Request) (hostpreflight.Report, error) {
	role := hostpreflight.Role(req.Role)
	if role != "" && role != hostpreflight.Controller && role != hostpreflight.Worker {
		return hostpreflight.Report{}, problem.Newf(problem.ExitUsage, "look at this host", "--role is controller or worker", "there is no role %q", req.Role)
	}
	look := r.ReadOnly()
	j, err := known(look)
	if err != nil {
		return hostpreflight.Report{}, err
	}
	ask := Question{Want: compose.DefaultWant(j, r.DataDir), Ignore: req.Ignore, Journal: j}
	if req.Bundle != "" || req.Source != "" {
		if ask.Want, ask.Vendor, err = wantOf(ctx, req, j, look); err != nil {
			return hostpreflight.Report{}, err
		}
	}
	ask.Want.Verb, ask.Want.Role, ask.Want.Quick = hostpreflight.Preflight, role, req.Quick
	others, err := named(r, req)
	if err != nil {
		return hostpreflight.Report{}, err
	}
	ask.Others = func(facts.Facts) Others { return others }
	_, report, err := Look(ctx, look, ask)
	if err != nil {
		return report, err
	}
	return report, report.Err("call this host ready")
}

// Question is what a verb asks of a host.
type Question struct {
	Want   hostpreflight.Want
	Vendor troubleshoot.Preflights // of the Installer; zero for none
	Ignore []string                // ids of checks that may fail

	Journal *journal.Journal         // of this host, which knows what was found earlier
	Others  func(facts.Facts) Others // whom this host is to share a cluster with, when this was found here; nil for none
}

// Look gathers the facts of r's host that the checks need, and judges them. A
// check that failed is in the report, not in the error.
func Look(ctx context.Context, r *run.Run, q Question) (facts.Facts, hostpreflight.Report, error) {
	found := gather(ctx, r, q)
	if q.Others != nil && ctx.Err() == nil {
		found.Peers = meet(ctx, r, found, q.Others(found), !q.Want.IsWorker())
	}
	q.Want.Earlier = earlier(r, q.Journal)
	report, err := judge(ctx, found, q)
	return found, report, err
}

// Near gathers what r's host is, without a question to anybody else: a tenth of
// a second, also where no name server answers.
func Near(ctx context.Context, r *run.Run) facts.Facts {
	return probe.Gather(ctx, r.Host, facts.Request{Near: true})
}

func gather(ctx context.Context, r *run.Run, q Question) facts.Facts {
	need := builtin.Request(q.Want)
	q.Vendor.Request(&need, q.Want)
	return probe.Gather(ctx, r.Host, need)
}

func judge(ctx context.Context, found facts.Facts, q Question) (hostpreflight.Report, error) {
	if ctx.Err() != nil {
		return hostpreflight.Report{}, context.Cause(ctx)
	}
	return hostpreflight.Run(append(builtin.Checks(), q.Vendor.Checks...), found, q.Want, q.Ignore)
}

// known is the journal of this host. Without root it may be closed: then
// nothing on the host is taken for ours, and the check of the user says why.
func known(r *run.Run) (*journal.Journal, error) {
	j, err := journal.Open(r.Host, r.DataDir, r.Now)
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return journal.Open(nothing{}, r.DataDir, r.Now)
	}
	return j, err
}

// nothing is a host without files.
type nothing struct{ journal.Files }

// ReadFile finds none.
func (nothing) ReadFile(string) ([]byte, error) { return nil, fs.ErrNotExist }

// wantOf is what an install of the bundle wants, and its vendor's checks.
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
	var unasked error
	if want.Lacking, unasked = d.Lacking(ctx); unasked != nil {
		want.Lacking = []string{unasked.Error()}
	}
	return want, vendor, errors.Join(err, ctx.Err())
}
