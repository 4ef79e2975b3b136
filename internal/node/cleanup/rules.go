package cleanup

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// ruleTable is one table in the output of iptables-save.
type ruleTable struct {
	name   string
	chains []string // user-defined chains, in order
	rules  []packetRule
}

// packetRule is one "-A" line.
type packetRule struct {
	chain string   // chain that contains the rule
	args  []string // arguments after the chain, unquoted
	spec  string   // arguments after the chain, as printed
}

// parseRules returns the tables in the output of iptables-save, with or without counters. Lines
// that it does not know are left out, so they are never changed.
func parseRules(save string) []ruleTable {
	var all []ruleTable
	open := false
	for line := range strings.Lines(save) {
		line = strings.TrimRight(line, "\r\n")
		if name, ok := strings.CutPrefix(line, "*"); ok {
			all = append(all, ruleTable{name: name})
			open = true
			continue
		}
		if open = open && line != "COMMIT"; !open {
			continue
		}
		t := &all[len(all)-1]
		if chain, ok := strings.CutPrefix(line, ":"); ok {
			if name, rest, _ := strings.Cut(chain, " "); strings.HasPrefix(rest, "- ") && name != "" {
				t.chains = append(t.chains, name)
			}
			continue
		}
		if counters, rest, ok := strings.Cut(line, "] "); ok && strings.HasPrefix(counters, "[") {
			line = rest
		}
		if rest, ok := strings.CutPrefix(line, "-A "); ok {
			chain, spec, _ := strings.Cut(rest, " ")
			t.rules = append(t.rules, packetRule{chain: chain, args: splitQuoted(spec), spec: spec})
		}
	}
	return all
}

// splitQuoted splits s at spaces as iptables-restore does: double quotes group words, and a
// backslash in quotes escapes the next character.
func splitQuoted(s string) []string {
	var words []string
	var word strings.Builder
	quoted, open := false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quoted && i+1 < len(s):
			i++
			word.WriteByte(s[i])
		case c == '"':
			quoted, open = !quoted, true
		case c == ' ' && !quoted:
			if open {
				words = append(words, word.String())
			}
			word.Reset()
			open = false
		default:
			word.WriteByte(c)
			open = true
		}
	}
	if open {
		words = append(words, word.String())
	}
	return words
}

// argAfter returns the argument after flag, or "" if the rule does not contain flag.
func (r packetRule) argAfter(flag string) string {
	if i := slices.Index(r.args, flag); i >= 0 && i+1 < len(r.args) {
		return r.args[i+1]
	}
	return ""
}

// jumpTarget returns the target of the jump (-j) or goto (-g) of the rule.
func (r packetRule) jumpTarget() string {
	if t := r.argAfter("-j"); t != "" {
		return t
	}
	return r.argAfter("-g")
}

// planRuleRemoval returns the input for `iptables-restore --noflush` that removes exactly those
// chains and rules in save that belong to the cluster. Other rules are not in the script, so they
// keep their order, their counters and any change made in the meantime. found lists the removed
// rules and chains. Both results are empty if there is nothing to remove.
func planRuleRemoval(save, network string) (script string, found []string) {
	var out strings.Builder
	for _, t := range parseRules(save) {
		chains := findOwnChains(t, network)
		own := map[string]bool{}
		for _, chain := range chains {
			own[chain] = true
		}
		var rules []packetRule
		for _, r := range t.rules {
			if !own[r.chain] && (own[r.jumpTarget()] || isOwnRule(r)) {
				rules = append(rules, r)
			}
		}
		if len(chains)+len(rules) == 0 {
			continue
		}
		fmt.Fprintf(&out, "*%s\n", t.name)
		for _, chain := range chains { // with --noflush this empties the chain
			fmt.Fprintf(&out, ":%s - [0:0]\n", chain)
		}
		for _, r := range rules {
			fmt.Fprintf(&out, "-D %s %s\n", r.chain, r.spec)
			found = append(found, fmt.Sprintf("%s: rule in %s: %s", t.name, r.chain, r.spec))
		}
		for _, chain := range chains {
			fmt.Fprintf(&out, "-X %s\n", chain)
			found = append(found, fmt.Sprintf("%s: chain %s", t.name, chain))
		}
		out.WriteString("COMMIT\n")
	}
	return out.String(), found
}

// findOwnChains returns the chains of t that belong to the cluster: all chains of kubelet,
// kube-proxy and kube-router (KUBE-…), and those chains of CNI plugins that are the target of a
// rule that names the cluster's network. The chains that CNI plugins share are included if no chain
// of another network remains.
func findOwnChains(t ruleTable, network string) []string {
	shared := []string{"CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-SETMARK", "CNI-HOSTPORT-MASQ"}
	pods := map[string]bool{}
	for _, r := range t.rules {
		if strings.Contains(r.argAfter("--comment"), fmt.Sprintf("name: %q ", network)) {
			pods[r.jumpTarget()] = true
		}
	}
	cni := func(chain string) bool { return strings.HasPrefix(chain, "CNI-") && !slices.Contains(shared, chain) }
	foreign := slices.ContainsFunc(t.chains, func(chain string) bool { return cni(chain) && !pods[chain] })
	return slices.DeleteFunc(slices.Clone(t.chains), func(chain string) bool {
		own := strings.HasPrefix(chain, "KUBE-") || cni(chain) && pods[chain] || slices.Contains(shared, chain) && !foreign
		return !own
	})
}

// isOwnRule reports whether kube-router 2.1 added r to a built-in chain. It compares exactly what
// kube-router writes there (network_routes_controller.go, pod_egress.go), so that a rule of other
// software that also names kube-bridge is kept.
func isOwnRule(r packetRule) bool {
	switch r.chain {
	case "FORWARD":
		return r.jumpTarget() == "ACCEPT" && slices.Contains([]string{
			"allow outbound traffic from pods",
			"allow inbound traffic to pods",
			"allow outbound node port traffic on node interface with which node ip is associated",
		}, r.argAfter("--comment"))
	case "POSTROUTING":
		return r.jumpTarget() == "MASQUERADE" && strings.TrimPrefix(r.argAfter("--match-set"), "inet6:") == "kube-router-pod-subnets"
	}
	return false
}

// isOwnSet reports whether name is an address set of kube-router. IPv6 sets have a prefix; TMP-
// sets remain if kube-router ends during a change.
func isOwnSet(name string) bool {
	return regexp.MustCompile(`^(inet6:)?(KUBE-(SRC|DST)-[A-Z2-7]{16}|kube-router-(pod-subnets|node-ips|local-ips|svip|svip-prt)|TMP-[A-Z2-7]{16})$`).MatchString(name)
}
