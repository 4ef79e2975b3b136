package network

import (
	"context"
	"errors"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/node/leftover"
)

// backend is one way to the kernel's packet rules: the command lines, without
// options, that print and change them.
type backend struct {
	name          string // in the words of a list: "iptables-nft"
	save, restore []string
}

// backends is those that this host has tools for. Rules live in two worlds,
// nft and legacy, and a cluster's images may use either. k0s's own tools come
// first: they are those that wrote, and a host may have none.
func (f finder) backends() []backend {
	var all []backend
	for _, world := range []string{"nft", "legacy"} {
		multi := path.Join(f.DataDir, "bin", "xtables-"+world+"-multi")
		if _, err := f.Lstat(multi); err != nil {
			multi = f.Tool("xtables-" + world + "-multi")
		}
		for _, family := range []string{"iptables", "ip6tables"} {
			named := f.Tool(family + "-" + world + "-save")
			switch {
			case multi != "":
				all = append(all, backend{family + "-" + world, []string{multi, family + "-save"}, []string{multi, family + "-restore"}})
			case named != "":
				all = append(all, backend{family + "-" + world, []string{named}, []string{strings.TrimSuffix(named, "-save") + "-restore"}})
			}
		}
	}
	if len(all) > 0 {
		return all
	}
	for _, family := range []string{"iptables", "ip6tables"} {
		if plain := f.Tool(family + "-save"); plain != "" {
			all = append(all, backend{family, []string{plain}, []string{strings.TrimSuffix(plain, "-save") + "-restore"}})
		}
	}
	return all
}

func (f finder) rules(ctx context.Context) ([]string, error) {
	var all []string
	var errs []error
	for _, b := range f.backends() {
		out, err := f.Look(ctx, b.save...)
		errs = append(errs, err)
		_, found := takeRules(string(out), f.Network)
		for _, s := range found {
			all = append(all, b.name+" "+s)
		}
	}
	return all, errors.Join(errs...)
}

func (f finder) removeRules(ctx context.Context) error {
	var errs []error
	for _, b := range f.backends() {
		errs = append(errs, f.removeFrom(ctx, b))
	}
	return errors.Join(errs...)
}

// removeFrom tries twice: a rule that somebody else takes away between the look
// and the act makes the whole act fail.
func (f finder) removeFrom(ctx context.Context, b backend) (err error) {
	for range 2 {
		out, lookErr := f.Look(ctx, b.save...)
		if lookErr != nil {
			return lookErr
		}
		script, found := takeRules(string(out), f.Network)
		if len(found) == 0 {
			return nil
		}
		argv := append(slices.Clone(b.restore), "--noflush", "--wait", "10")
		if _, err = f.Run(ctx, host.Cmd{Argv: argv, Stdin: strings.NewReader(script)}); err == nil {
			return nil
		}
	}
	return err
}

// ruleset is what `nft -j list ruleset` prints: a list of objects, each with
// one key that says what it is.
type ruleset struct {
	Objects []map[string]struct {
		Family string `json:"family"`
		Table  string `json:"table"`
		Chain  string `json:"chain"` // of a rule
		Name   string `json:"name"`
		Type   any    `json:"type"` // of a base chain a string, of a set also a list
		Policy string `json:"policy"`
	} `json:"nftables"`
}

// tables finds the nftables tables of kube-proxy, and those tables and built-in
// chains that came with the cluster and are empty: iptables makes them at its
// first rule and leaves them at its last. A chain reads "family table chain".
// Without nft they cannot be seen; they are inert.
func (f finder) tables(ctx context.Context) ([]string, error) {
	set, err := f.ruleset(ctx)
	came := func(what string) bool {
		return f.Before != nil && f.Before.Tables != nil && !slices.Contains(f.Before.Tables, what)
	}
	var all []string
	for what, used := range set {
		words := strings.Fields(what)
		table := strings.Join(words[:2], " ")
		own := what == "ip kube-proxy" || what == "ip6 kube-proxy"
		iptables := slices.Contains([]string{"filter", "nat", "mangle", "raw", "security"}, words[1])
		goes := came(what) && iptables && !used
		if len(words) == 3 && came(table) { // it goes with its table, or is not looked at
			goes = false
		}
		if own || goes {
			all = append(all, what)
		}
	}
	slices.Sort(all)
	return all, err
}

// Tables lists the nftables tables of the IPv4 and IPv6 families, "family
// name", and their built-in chains, "family table chain"; nil where nobody can
// tell.
func Tables(ctx context.Context, f leftover.Finder) ([]string, error) {
	set, err := finder{f}.ruleset(ctx)
	if set == nil {
		return nil, err
	}
	return slices.AppendSeq([]string{}, maps.Keys(set)), err
}

// ruleset maps each nftables table of the IPv4 and IPv6 families, "family
// name", to whether it holds more than empty built-in chains, and each of these,
// "family table chain", to whether it is not empty. It is nil where there is no
// nft to ask.
func (f finder) ruleset(ctx context.Context) (map[string]bool, error) {
	nft := f.Tool("nft")
	if nft == "" {
		return nil, nil
	}
	var set ruleset
	if err := f.lookJSON(ctx, &set, nft, "-j", "list", "ruleset"); err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, object := range set.Objects {
		for kind, o := range object {
			if o.Family != "ip" && o.Family != "ip6" {
				continue
			}
			table := o.Family + " " + o.Table
			inert := false
			switch {
			case kind == "table":
				table, inert = o.Family+" "+o.Name, true
			case kind == "chain" && o.Type != nil:
				inert = o.Policy == "accept"
				used[table+" "+o.Name] = used[table+" "+o.Name] || !inert
			case kind == "rule":
				used[table+" "+o.Chain] = true
			}
			used[table] = used[table] || !inert
		}
	}
	return used, nil
}

func (f finder) removeTables(ctx context.Context) error {
	all, err := f.tables(ctx)
	if err != nil {
		return err
	}
	return leftover.Each(all, func(t string) error {
		kind, words := "table", strings.Fields(t)
		if len(words) == 3 {
			kind = "chain"
		}
		return f.Act(ctx, append([]string{f.Tool("nft"), "delete", kind}, words...)...)
	})
}

// sets finds kube-router's address sets.
func (f finder) sets(context.Context) ([]string, error) {
	all, err := f.ListSets()
	return slices.DeleteFunc(all, func(name string) bool { return !ownSet(name) }), err
}

func (f finder) removeSets(ctx context.Context) error {
	all, err := f.sets(ctx)
	if err != nil {
		return err
	}
	return leftover.Each(all, f.DestroySet)
}
