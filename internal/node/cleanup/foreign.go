package cleanup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/host"
)

// unreadable matches what iptables-save prints, before it ends with code 0, for a table into which
// another program wrote rules that it does not know. The cluster's chains in such a table can be
// found and removed with nft only.
var unreadable = regexp.MustCompile("(?m)^# Table `([a-z]+)' is incompatible, use 'nft' tool")

// nftRule is a rule or chain in the output of `nft -j list ruleset`.
type nftRule struct {
	Family string           `json:"family"`
	Table  string           `json:"table"`
	Chain  string           `json:"chain"` // of a rule
	Name   string           `json:"name"`
	Handle int              `json:"handle"`
	Expr   []map[string]any `json:"expr"`
}

// planForeignRemoval returns the input for `nft -f` that removes the cluster's chains and rules from
// tables, "ip filter", and the list of what it removes. ruleset is the output of `nft -j list
// ruleset`.
func planForeignRemoval(ruleset []byte, tables []string) (script string, found []string, err error) {
	var set struct {
		Objects []map[string]nftRule `json:"nftables"`
	}
	if err := json.Unmarshal(ruleset, &set); err != nil {
		return "", nil, fmt.Errorf("cannot read the output of nft: %w", err)
	}
	var rules, flush, chains strings.Builder
	for _, object := range set.Objects {
		for kind, o := range object {
			table := o.Family + " " + o.Table
			switch {
			case !slices.Contains(tables, table):
			case kind == "chain" && isKubeChain(o.Name):
				fmt.Fprintf(&flush, "flush chain %s %s\n", table, o.Name)
				fmt.Fprintf(&chains, "delete chain %s %s\n", table, o.Name)
				found = append(found, table+": chain "+o.Name)
			case kind == "rule" && !isKubeChain(o.Chain) && o.belongsToCluster():
				fmt.Fprintf(&rules, "delete rule %s %s handle %d\n", table, o.Chain, o.Handle)
				found = append(found, fmt.Sprintf("%s: rule in %s with handle %d", table, o.Chain, o.Handle))
			}
		}
	}
	return rules.String() + flush.String() + chains.String(), found, nil
}

// isKubeChain reports whether kubelet, kube-proxy or kube-router created the chain.
func isKubeChain(name string) bool { return strings.HasPrefix(name, "KUBE-") }

// belongsToCluster reports whether the rule jumps to a chain of the cluster, or is one that
// kube-router adds to a built-in chain (see isOwnRule): it accepts what its bridge sends or receives,
// and has a comment, of which nft does not print the text.
func (r nftRule) belongsToCluster() bool {
	bridge, comment, accepts := false, false, false
	for _, statement := range r.Expr {
		for kind, v := range statement {
			m, _ := v.(map[string]any)
			switch kind {
			case "jump", "goto":
				if target, _ := m["target"].(string); isKubeChain(target) {
					return true
				}
			case "match":
				bridge = bridge || m["right"] == "kube-bridge"
			case "xt":
				comment = comment || m["name"] == "comment"
			case "accept":
				accepts = true
			}
		}
	}
	return bridge && comment && accepts
}

// listForeign returns what there is to remove from the tables in save, the output of b's save
// command, that b cannot read.
func (f networkFinder) listForeign(ctx context.Context, b ruleBackend, save []byte) (script string, found []string, err error) {
	family := "ip"
	if strings.HasPrefix(b.name, "ip6") {
		family = "ip6"
	}
	var tables []string
	for _, m := range unreadable.FindAllSubmatch(save, -1) {
		tables = append(tables, family+" "+string(m[1]))
	}
	if tables == nil {
		return "", nil, nil
	}
	nft := f.FindTool("nft")
	if nft == "" {
		return "", nil, errors.New("iptables cannot read the table " + strings.Join(tables, ", ") + ", which has rules of another program, and this host has no nft: install the package nftables")
	}
	out, err := f.Query(ctx, nft, "-j", "list", "ruleset")
	if err != nil {
		return "", nil, err
	}
	return planForeignRemoval(out, tables)
}

// removeForeign removes what listForeign finds.
func (f networkFinder) removeForeign(ctx context.Context, b ruleBackend, save []byte) error {
	script, found, err := f.listForeign(ctx, b, save)
	if err != nil || len(found) == 0 {
		return err
	}
	_, err = f.Run(ctx, host.Cmd{Argv: []string{f.FindTool("nft"), "-f", "-"}, Stdin: strings.NewReader(script)})
	return err
}
