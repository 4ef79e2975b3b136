// Package cleanup finds and removes what a cluster leaves on a host: units, processes, mounts,
// cgroups, network objects and files. It removes what belongs to the cluster, restores what the
// cluster replaced, and does not touch anything else.
package cleanup

import (
	"context"
	"errors"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/host"
)

// Scope describes the cluster whose leftovers are searched. All paths are absolute.
type Scope struct {
	Binary       string         // k0s executable
	DataDir      string         // k0s data folder
	RunDir       string         // k0s run folder
	KubeletDir   string         // kubelet's root folder
	ConfigDir    string         // k0s configuration folder
	CNINetwork   string         // name in the CNI configuration
	PodCIDRs     []netip.Prefix // pod networks: routes to them and rules about them belong to the cluster
	ExtraPaths   []string       // further files and folders that an install wrote
	WrittenPaths []string       // files that steps wrote in ConfigDir and in the folders of units; empty if unknown
	Before       *HostState     // state of the host before the install; nil if unknown
	Cautious     bool           // the state before the install is unknown: find only what cannot belong to anything else
}

// DefaultScope returns the scope of a cluster with k0s's default folders. mynet is the name that
// k0s 1.33 writes into its CNI configuration for kube-router.
func DefaultScope(podCIDRs ...netip.Prefix) Scope {
	return Scope{
		Binary: "/usr/local/bin/k0s", DataDir: "/var/lib/k0s", RunDir: "/run/k0s",
		KubeletDir: "/var/lib/kubelet", ConfigDir: "/etc/k0s", CNINetwork: "mynet", PodCIDRs: podCIDRs,
	}
}

// Kind is one kind of leftover: how to find it and how to delete it. Both functions may be called
// at any time and repeatedly; Find changes nothing.
type Kind struct {
	ID    string // kebab-case, stable
	Title string // what Remove does, as shown to users
	// Find returns the leftovers, one entry each, as shown to users in a list.
	Find func(ctx context.Context) ([]string, error)
	// Delete deletes the leftovers and continues after an error. Callers use Remove.
	Delete func(ctx context.Context) error
}

// Result is the result of removing one Kind.
type Result struct {
	Kind      Kind
	Removed   []string // found before and not found any more
	Remaining []string // still found
	Err       error    // why something remains, or why the search failed; may be nil
}

// Remove deletes the leftovers of this kind, searches again and returns both results.
func (k Kind) Remove(ctx context.Context) Result {
	found, err := k.Find(ctx)
	if err != nil || len(found) == 0 {
		return Result{Kind: k, Err: err}
	}
	err = k.Delete(ctx)
	left, lookErr := k.Find(ctx)
	if lookErr != nil {
		left = found
	}
	removed := slices.DeleteFunc(found, func(s string) bool { return slices.Contains(left, s) })
	return Result{Kind: k, Removed: removed, Remaining: left, Err: errors.Join(err, lookErr)}
}

// Remove removes every kind in order and returns the results. It continues after errors; only the
// end of ctx stops it. report is called with each result; nil for none.
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

// Finder searches one host for the leftovers of one cluster.
type Finder struct {
	host.Host
	Scope
}

// Query runs a command that changes nothing and returns its output.
func (f Finder) Query(ctx context.Context, argv ...string) ([]byte, error) {
	return f.Run(ctx, host.Cmd{Argv: argv, ReadOnly: true})
}

// Execute runs a command that changes something.
func (f Finder) Execute(ctx context.Context, argv ...string) error {
	_, err := f.Run(ctx, host.Cmd{Argv: argv})
	return err
}

// ForEach calls fn with every item and returns the joined errors.
func ForEach(items []string, fn func(string) error) error {
	var errs []error
	for _, item := range items {
		errs = append(errs, fn(item))
	}
	return errors.Join(errs...)
}

// FindTool returns the absolute path of the program name, or "" if the host does not have it.
func (f Finder) FindTool(name string) string {
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		if _, err := f.Lstat(path.Join(dir, name)); err == nil {
			return path.Join(dir, name)
		}
	}
	return ""
}

// IsWithin reports whether p is dir or is in it.
func IsWithin(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// InPodNetwork reports whether the address or prefix s is in one of the pod networks.
func (c Scope) InPodNetwork(s string) bool {
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
