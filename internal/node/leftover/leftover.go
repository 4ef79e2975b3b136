// Package leftover owns how things that a cluster left on a host are found and
// taken away: whose they are, what stood there before, the order of look, act
// and look again, and the two kinds that are on disk, files and users. What is
// the cluster's own goes, what stood in its place before comes back, everything
// foreign stays. It refuses to decide whether that is wanted.
package leftover

import (
	"context"
	"errors"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/host"
)

// Cluster says whose leftovers are looked for. All paths are absolute.
type Cluster struct {
	Binary     string         // k0s executable
	DataDir    string         // k0s data folder
	RunDir     string         // k0s run folder
	KubeletDir string         // kubelet's root folder
	ConfigDir  string         // k0s configuration folder
	Network    string         // name in the CNI configuration
	PodCIDRs   []netip.Prefix // routes to and rules about them are the cluster's
	Extra      []string       // further files and folders that an install put there
	Made       []string       // what steps wrote in ConfigDir and in units' folders; empty where nobody knows
	Before     *Before        // what stood there before; nil where nobody knows
	Cautious   bool           // nobody knows what was there before: only what can be nobody else's is the cluster's
}

// Default is a cluster with k0s's own folders; mynet is the name that k0s 1.33
// writes into its CNI configuration for kube-router.
func Default(podCIDRs ...netip.Prefix) Cluster {
	return Cluster{
		Binary: "/usr/local/bin/k0s", DataDir: "/var/lib/k0s", RunDir: "/run/k0s",
		KubeletDir: "/var/lib/kubelet", ConfigDir: "/etc/k0s", Network: "mynet", PodCIDRs: podCIDRs,
	}
}

// Kind is one kind of leftover: how to find it and how to take it away. Both
// may be used at any time and again; Find changes nothing.
type Kind struct {
	ID    string // kebab-case, stable
	Title string // what Remove does, for a person
	// Find names what is there, one entry per thing, in the words of a list
	// for a person.
	Find func(ctx context.Context) ([]string, error)
	// Take takes away what is there; it goes on after a failure. Callers want
	// Remove.
	Take func(ctx context.Context) error
}

// Result is what became of one Kind.
type Result struct {
	Kind    Kind
	Removed []string // found before and gone now
	Left    []string // still there
	Err     error    // why something is left, or why it could not be looked at; may be nil
}

// Remove takes this kind away and looks again.
func (k Kind) Remove(ctx context.Context) Result {
	found, err := k.Find(ctx)
	if err != nil || len(found) == 0 {
		return Result{Kind: k, Err: err}
	}
	err = k.Take(ctx)
	left, lookErr := k.Find(ctx)
	if lookErr != nil {
		left = found
	}
	removed := slices.DeleteFunc(found, func(s string) bool { return slices.Contains(left, s) })
	return Result{Kind: k, Removed: removed, Left: left, Err: errors.Join(err, lookErr)}
}

// Remove takes every kind away in order, going on after failures; only the end
// of ctx stops it. report is told each result; nil for none.
func Remove(ctx context.Context, kinds []Kind, report func(Result)) []Result {
	var all []Result
	for _, k := range kinds {
		if ctx.Err() != nil {
			return append(all, Result{Kind: k, Err: context.Cause(ctx)})
		}
		r := k.Remove(ctx)
		if report != nil {
			report(r)
		}
		all = append(all, r)
	}
	return all
}

// Finder looks at one host for one cluster's leftovers.
type Finder struct {
	host.Host
	Cluster
}

// Look runs a command that changes nothing.
func (f Finder) Look(ctx context.Context, argv ...string) ([]byte, error) {
	return f.Run(ctx, host.Cmd{Argv: argv, Look: true})
}

// Act runs a command that changes something.
func (f Finder) Act(ctx context.Context, argv ...string) error {
	_, err := f.Run(ctx, host.Cmd{Argv: argv})
	return err
}

// Each applies fn to every item and joins the errors.
func Each(items []string, fn func(string) error) error {
	var errs []error
	for _, item := range items {
		errs = append(errs, fn(item))
	}
	return errors.Join(errs...)
}

// Tool is the full path of a program that a host may lack, or "".
func (f Finder) Tool(name string) string {
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		if _, err := f.Lstat(path.Join(dir, name)); err == nil {
			return path.Join(dir, name)
		}
	}
	return ""
}

// Below reports whether p is dir or something in it.
func Below(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// InPods reports whether an address or prefix lies in the pod networks.
func (c Cluster) InPods(s string) bool {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return false
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	return slices.ContainsFunc(c.PodCIDRs, func(pods netip.Prefix) bool {
		return pods.Bits() <= p.Bits() && pods.Contains(p.Addr())
	})
}
