package network

import (
	"context"
	"strings"

	"github.com/plinthdev/plinth/internal/node/leftover"
)

// Saved is every packet rule and chain of the host, "backend table rule",
// without counters.
func Saved(ctx context.Context, base leftover.Finder) []string {
	f := finder{base}
	var all []string
	for _, b := range f.backends() {
		out, err := f.Look(ctx, b.save...)
		if err != nil {
			continue // a world that the kernel lacks has no rules
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
