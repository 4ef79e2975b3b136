// Package preflight gathers the facts of a host and evaluates the built-in checks and
// the vendor's checks against them.
package preflight

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/hostpreflight/checks"
	"github.com/plinthdev/plinth/hostpreflight/troubleshoot"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/source"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/probe"
	"github.com/plinthdev/plinth/internal/problem"
)

// RunOptions are the options of the command `plinth preflight`.
type RunOptions struct {
	Bundle string   // file that would be installed; "" for the bundle of Source, or an install of the default size
	Source string   // URL with the content that a thin bundle omits; "" for none
	Role   string   // role of this host in the cluster; "" for controller
	Ignore []string // ids of checks that may fail
	Quick  bool     // skip the benchmarks, which take seconds
	Peers  []string // hosts that will share the cluster, by name or address
	Code   string   // code that a listening peer printed; secret

	Addresses   []string     // of the load balancer; none for the known ones
	NodeAddress AddressFlags // how the node's address is chosen
}

// Run runs the checks of an install on this host without changing anything. The error
// (exit code 5) names the checks that failed.
func Run(ctx context.Context, env *action.Env, req RunOptions) (hostpreflight.Report, error) {
	role := hostpreflight.Role(req.Role)
	if role != "" && role != hostpreflight.Controller && role != hostpreflight.Worker {
		return hostpreflight.Report{}, problem.Newf(problem.ExitUsage, "check this host", "use --role controller or --role worker", "unknown role %q", req.Role)
	}
	hasBundle := req.Bundle != "" || req.Source != ""
	if len(req.Addresses) > 0 && !hasBundle {
		return hostpreflight.Report{}, problem.Newf(problem.ExitUsage, "check this host", "add --bundle FILE", "--load-balancer-addresses needs the bundle with the load balancer")
	}
	readOnly := env.ReadOnly()
	j, err := openJournal(readOnly)
	if err != nil {
		return hostpreflight.Report{}, err
	}
	opts := Options{Requirements: desired.DefaultRequirements(j, env.DataDir), Ignore: req.Ignore, Journal: j}
	if hasBundle {
		if opts.Requirements, opts.VendorPreflights, err = bundleRequirements(ctx, req, j, readOnly); err != nil {
			return hostpreflight.Report{}, err
		}
	}
	opts.Requirements.Verb, opts.Requirements.Role, opts.Requirements.Quick = hostpreflight.Preflight, role, req.Quick
	if err := opts.setHost(ctx, readOnly, req.NodeAddress); err != nil {
		return hostpreflight.Report{}, err
	}
	peers, err := requestedPeers(env, req)
	if err != nil {
		return hostpreflight.Report{}, err
	}
	opts.Peers = func(facts.Facts) Peers { return peers }
	_, report, err := RunChecks(ctx, readOnly, opts)
	if err != nil {
		return report, err
	}
	return report, report.Err("accept this host")
}

// setHost sets what stops an install on env's host before its preflights, what an earlier
// run recorded of the host, and what its address must satisfy.
func (opts *Options) setHost(ctx context.Context, env *action.Env, flags AddressFlags) error {
	receipt, _, err := journal.ReadReceipt(env.Host, env.DataDir)
	if err != nil && os.Geteuid() == 0 { // without root, the check of the user reports why
		return err
	}
	req := &opts.Requirements
	if os.Geteuid() == 0 { // others cannot read the folder
		req.DataDir.Found, req.DataDir.Fix = env.DataDirRefusal()
	}
	if req.IsWorker() {
		req.EarlierRun.Found, req.EarlierRun.Fix = desired.JoinRefusal(env.Host, env.DataDir, opts.Journal)
	} else {
		req.EarlierRun.Found, req.EarlierRun.Fix = desired.InstallRefusal(env.Host, env.DataDir, opts.Journal, receipt)
	}
	req.Recorded = desired.RecordedIdentity(opts.Journal, receipt)
	req.Address, err = flags.Request("check this host", GatherBasic(ctx, env), req.Recorded)
	return err
}

// Options are the options of RunChecks.
type Options struct {
	Requirements     hostpreflight.Requirements
	VendorPreflights troubleshoot.Preflights // of the Installer; zero for none
	Ignore           []string                // ids of checks that may fail

	Journal *journal.Journal        // of this host; it holds the digest of the previous facts
	Peers   func(facts.Facts) Peers // returns the hosts of the cluster, given the facts of this host; nil for none
}

// RunChecks gathers the facts of r's host that the checks need and evaluates the checks.
// A failed check is in the report, not in the error.
func RunChecks(ctx context.Context, env *action.Env, opts Options) (facts.Facts, hostpreflight.Report, error) {
	found := gatherFacts(ctx, env, opts)
	found.Network.NodeAddress = chooseAddress(found.Network, opts.Requirements.Address)
	if opts.Peers != nil && ctx.Err() == nil {
		found.Peers = checkPeers(ctx, env, found, opts.Peers(found), !opts.Requirements.IsWorker())
	}
	opts.Requirements.Previous = readPrevious(env, opts.Journal)
	report, err := evaluateChecks(ctx, found, opts)
	return found, report, err
}

// chooseAddress returns the node's address, or the zero Addr if there is none: the check
// node-address reports why.
func chooseAddress(n facts.Network, req facts.AddressRequest) netip.Addr {
	at, err := n.ChooseAddress(req)
	if err != nil {
		return netip.Addr{}
	}
	return at.Address
}

// GatherBasic returns the facts of r's host that need no network requests. It takes a
// tenth of a second, even where no name server answers.
func GatherBasic(ctx context.Context, env *action.Env) facts.Facts {
	return probe.Gather(ctx, env.Host, facts.Request{LocalOnly: true})
}

func gatherFacts(ctx context.Context, env *action.Env, opts Options) facts.Facts {
	need := checks.FactsRequest(opts.Requirements)
	opts.VendorPreflights.AddRequests(&need, opts.Requirements)
	return probe.Gather(ctx, env.Host, need)
}

func evaluateChecks(ctx context.Context, found facts.Facts, opts Options) (hostpreflight.Report, error) {
	if ctx.Err() != nil {
		return hostpreflight.Report{}, context.Cause(ctx)
	}
	return hostpreflight.Run(append(checks.All(), opts.VendorPreflights.Checks...), found, opts.Requirements, opts.Ignore)
}

// openJournal opens the journal of this host. Without root it may be unreadable: then
// nothing on the host counts as installed by Plinth, and the check of the user reports
// why.
func openJournal(env *action.Env) (*journal.Journal, error) {
	j, err := journal.Open(env.Host, env.DataDir, env.Now)
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return journal.Open(emptyFiles{}, env.DataDir, env.Now)
	}
	return j, err
}

// emptyFiles is a host without files.
type emptyFiles struct{ journal.Files }

// ReadFile returns fs.ErrNotExist for every path.
func (emptyFiles) ReadFile(string) ([]byte, error) { return nil, fs.ErrNotExist }

// Lstat returns fs.ErrNotExist for every path.
func (emptyFiles) Lstat(string) (fs.FileInfo, error) { return nil, fs.ErrNotExist }

// bundleRequirements returns the requirements of an install of the requested bundle,
// and the vendor's checks in it.
func bundleRequirements(ctx context.Context, req RunOptions, j *journal.Journal, env *action.Env) (hostpreflight.Requirements, troubleshoot.Preflights, error) {
	d, err := source.Open(ctx, env, source.Request{Bundle: req.Bundle, Source: req.Source, InspectOnly: true})
	if err != nil {
		return hostpreflight.Requirements{}, troubleshoot.Preflights{}, err
	}
	defer func() { _ = d.Close() }()
	b := d.Bundle
	m, err := config.Load(ctx, b, config.LoadOptions{Bundle: d.Path}, env.Now())
	if err != nil {
		return hostpreflight.Requirements{}, troubleshoot.Preflights{}, err
	}
	vendor, err := config.ParseHostPreflights(m.Installer)
	if !d.Trust.Verified { // anyone can write a bundle that is only inspected
		vendor = vendor.WithoutPrograms()
	}
	receipt, _, _ := journal.ReadReceipt(env.Host, env.DataDir) // setHost reports the error
	addresses, failed := desired.ChooseAddresses(ctx, env, m.Installer, receipt, req.Addresses)
	if failed != nil {
		return hostpreflight.Requirements{}, troubleshoot.Preflights{}, failed
	}
	want := desired.InstallRequirements(b, addresses.Apply(m.Installer), j, env.DataDir)
	want.Sources = d.FetchURLs()
	if want.MissingBlobs, failed = d.MissingAtSource(ctx); failed != nil {
		want.MissingBlobs = []string{failed.Error()}
	}
	return want, vendor, errors.Join(err, ctx.Err())
}
