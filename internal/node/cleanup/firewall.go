package cleanup

import (
	"context"
	"errors"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/host"
)

// ruleBackend is one interface to the packet rules of the kernel: the command lines, without
// options, that print and change the rules.
type ruleBackend struct {
	name          string // as shown to users: "iptables-nft"
	save, restore []string
}

// findBackends returns the backends that this host has tools for. nft and legacy rules are
// separate, and the images of a cluster may use either. k0s's own tools come first: they wrote the
// rules, and a host may have no others.
func (f networkFinder) findBackends() []ruleBackend {
	var all []ruleBackend
	for _, variant := range []string{"nft", "legacy"} {
		multi := path.Join(f.DataDir, "bin", "xtables-"+variant+"-multi")
		if _, err := f.Lstat(multi); err != nil {
			multi = f.FindTool("xtables-" + variant + "-multi")
		}
		for _, family := range []string{"iptables", "ip6tables"} {
			named := f.FindTool(family + "-" + variant + "-save")
			switch {
			case multi != "":
				all = append(all, ruleBackend{family + "-" + variant, []string{multi, family + "-save"}, []string{multi, family + "-restore"}})
			case named != "":
				all = append(all, ruleBackend{family + "-" + variant, []string{named}, []string{strings.TrimSuffix(named, "-save") + "-restore"}})
			}
		}
	}
	if len(all) > 0 {
		return all
	}
	for _, family := range []string{"iptables", "ip6tables"} {
		if plain := f.FindTool(family + "-save"); plain != "" {
			all = append(all, ruleBackend{family, []string{plain}, []string{strings.TrimSuffix(plain, "-save") + "-restore"}})
		}
	}
	return all
}

// findRules returns the cluster's chains and rules in all backends.
func (f networkFinder) findRules(ctx context.Context) ([]string, error) {
	var all []string
	var errs []error
	for _, b := range f.findBackends() {
		out, err := f.Query(ctx, b.save...)
		errs = append(errs, err)
		_, found := planRuleRemoval(string(out), f.CNINetwork)
		_, foreign, err := f.listForeign(ctx, b, out)
		errs = append(errs, err)
		for _, s := range found {
			all = append(all, b.name+" "+s)
		}
		for _, s := range foreign {
			all = append(all, "nft "+s)
		}
	}
	return all, errors.Join(errs...)
}

// removeRules removes the cluster's chains and rules from all backends.
func (f networkFinder) removeRules(ctx context.Context) error {
	var errs []error
	for _, b := range f.findBackends() {
		errs = append(errs, f.removeRulesFrom(ctx, b))
	}
	return errors.Join(errs...)
}

// removeRulesFrom removes the cluster's chains and rules from b. It tries twice, because the whole
// change fails if other software removes one of the rules in the meantime.
func (f networkFinder) removeRulesFrom(ctx context.Context, b ruleBackend) (err error) {
	for range 2 {
		out, lookErr := f.Query(ctx, b.save...)
		if lookErr != nil {
			return lookErr
		}
		if err := f.removeForeign(ctx, b, out); err != nil {
			return err
		}
		script, found := planRuleRemoval(string(out), f.CNINetwork)
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

// nftRuleset is the output of `nft -j list ruleset`: a list of objects, each with one key that is
// its kind.
type nftRuleset struct {
	Objects []map[string]struct {
		Family string `json:"family"`
		Table  string `json:"table"`
		Chain  string `json:"chain"` // of a rule
		Name   string `json:"name"`
		Type   any    `json:"type"` // of a base chain a string, of a set possibly a list
		Policy string `json:"policy"`
	} `json:"nftables"`
}

// findTables returns the nftables tables of kube-proxy, and those tables and built-in chains that
// were created since the install and are empty: iptables creates them with its first rule and keeps
// them after its last. A chain has the format "family table chain". Without the nft tool they
// cannot be found; they have no effect.
func (f networkFinder) findTables(ctx context.Context) ([]string, error) {
	set, err := f.readRuleset(ctx)
	isNew := func(what string) bool {
		return f.Before != nil && f.Before.Tables != nil && !slices.Contains(f.Before.Tables, what)
	}
	var all []string
	for what, used := range set {
		words := strings.Fields(what)
		table := strings.Join(words[:2], " ")
		own := what == "ip kube-proxy" || what == "ip6 kube-proxy"
		iptables := slices.Contains([]string{"filter", "nat", "mangle", "raw", "security"}, words[1])
		remove := isNew(what) && iptables && !used
		if len(words) == 3 && isNew(table) { // removed with its table, or not inspected
			remove = false
		}
		if own || remove {
			all = append(all, what)
		}
	}
	slices.Sort(all)
	return all, err
}

// ListTables returns the nftables tables of the IPv4 and IPv6 families, "family name", and their
// built-in chains, "family table chain". It returns nil if the host has no nft tool.
func ListTables(ctx context.Context, f Finder) ([]string, error) {
	set, err := networkFinder{f}.readRuleset(ctx)
	if set == nil {
		return nil, err
	}
	return slices.AppendSeq([]string{}, maps.Keys(set)), err
}

// readRuleset returns a map with an entry for each nftables table of the IPv4 and IPv6 families,
// "family name", that reports whether the table contains more than empty built-in chains, and an
// entry for each of these chains, "family table chain", that reports whether it is not empty. It
// returns nil if the host has no nft tool.
func (f networkFinder) readRuleset(ctx context.Context) (map[string]bool, error) {
	nft := f.FindTool("nft")
	if nft == "" {
		return nil, nil
	}
	var set nftRuleset
	if err := f.queryJSON(ctx, &set, nft, "-j", "list", "ruleset"); err != nil {
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

// removeTables deletes the tables and chains that findTables returns.
func (f networkFinder) removeTables(ctx context.Context) error {
	all, err := f.findTables(ctx)
	if err != nil {
		return err
	}
	return ForEach(all, func(t string) error {
		kind, words := "table", strings.Fields(t)
		if len(words) == 3 {
			kind = "chain"
		}
		return f.Execute(ctx, append([]string{f.FindTool("nft"), "delete", kind}, words...)...)
	})
}

// findSets returns kube-router's address sets.
func (f networkFinder) findSets(context.Context) ([]string, error) {
	all, err := f.ListSets()
	return slices.DeleteFunc(all, func(name string) bool { return !isOwnSet(name) }), err
}

// removeSets destroys the address sets that findSets returns.
func (f networkFinder) removeSets(ctx context.Context) error {
	all, err := f.findSets(ctx)
	if err != nil {
		return err
	}
	return ForEach(all, f.DestroySet)
}
