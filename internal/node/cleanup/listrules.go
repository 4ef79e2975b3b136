package cleanup

import (
	"context"
	"strings"
)

// ListRules returns every packet rule and chain of the host, "backend table chain rule", without
// counters.
func ListRules(ctx context.Context, base Finder) []string {
	f := networkFinder{base}
	var all []string
	for _, b := range f.findBackends() {
		out, err := f.Query(ctx, b.save...)
		if err != nil {
			continue // a backend that the kernel does not support has no rules
		}
		for _, t := range parseRules(string(out)) {
			for _, chain := range t.chains {
				all = append(all, strings.Join([]string{b.name, t.name, "chain", chain}, " "))
			}
			for _, r := range t.rules {
				all = append(all, strings.Join([]string{b.name, t.name, r.chain, r.spec}, " "))
			}
		}
	}
	return all
}
