package probe

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
)

// nftRuleset is the output of `nft -j list ruleset`: a list of objects, each with one
// key that is its kind (libnftables-json(5)).
type nftRuleset struct {
	Objects []map[string]nftObject `json:"nftables"`
}

// nftObject is a chain, set, map or rule.
type nftObject struct {
	Family   string           `json:"family"`
	Table    string           `json:"table"`
	Chain    string           `json:"chain"` // of a rule
	Name     string           `json:"name"`
	Type     any              `json:"type"`
	Hook     string           `json:"hook"`
	Policy   string           `json:"policy"`
	Elements json.RawMessage  `json:"elem"`
	Expr     []map[string]any `json:"expr"`
}

// maxSetBytes is the size of the elements, as JSON, above which the content of a set is not read: lists of the networks
// of countries have hundreds of thousands.
const maxSetBytes = 1 << 18

// nftRules are the chains of all tables, and what is needed to read them.
type nftRules struct {
	chains  []facts.FilterChain
	at      map[string]int   // index in chains by table and chain
	sets    map[string][]any // elements by table and set; without those that are too large
	foreign []string         // tables with the name of one of iptables that iptables cannot read
}

// parseNft returns the chains of the tables of the families ip and inet that can
// refuse packets, and the tables that iptables cannot read.
func parseNft(text []byte) (nftRules, error) {
	var set nftRuleset
	r := nftRules{at: map[string]int{}, sets: map[string][]any{}}
	if err := json.Unmarshal(text, &set); err != nil {
		return r, fmt.Errorf("cannot read the output of nft: %w", err)
	}
	var rules []nftObject
	for _, object := range set.Objects {
		for kind, o := range object {
			switch {
			case kind == "rule":
				rules = append(rules, o)
			case kind == "set" || kind == "map":
				if list, ok := readElements(o.Elements); ok {
					r.sets[o.Family+" "+o.Table+" "+o.Name] = list
				}
			case kind == "chain" && o.Type != "nat" && (o.Family == "ip" || o.Family == "inet"):
				r.at[o.Family+" "+o.Table+" "+o.Name] = len(r.chains)
				r.chains = append(r.chains, facts.FilterChain{Table: o.Family + " " + o.Table, Name: o.Name, Hook: o.Hook, Policy: o.Policy})
			}
		}
	}
	for _, o := range rules {
		r.add(o)
	}
	return r, nil
}

// readElements returns the elements of a set, and false if they are too large.
func readElements(text json.RawMessage) (list []any, ok bool) {
	if len(text) == 0 {
		return nil, true
	}
	if len(text) > maxSetBytes {
		return nil, false
	}
	err := json.Unmarshal(text, &list)
	return list, err == nil
}

// countKube returns the number of chains and rules of Kubernetes.
func (r *nftRules) countKube() (n int) {
	for _, c := range r.chains {
		if strings.HasPrefix(c.Name, "KUBE-") {
			n += 1 + len(c.Rules)
		}
	}
	return n
}

// add adds the rule o to its chain.
func (r *nftRules) add(o nftObject) {
	table := o.Family + " " + o.Table
	if isIptablesTable(table) && !slices.Contains(r.foreign, table) && slices.ContainsFunc(o.Expr, isForeign) {
		r.foreign = append(r.foreign, table)
	}
	if i, ok := r.at[table+" "+o.Chain]; ok {
		r.chains[i].Rules = append(r.chains[i].Rules, r.readRule(o)...)
	}
}

// isIptablesTable reports whether iptables or ip6tables uses table.
func isIptablesTable(table string) bool {
	family, name, _ := strings.Cut(table, " ")
	return (family == "ip" || family == "ip6") && slices.Contains([]string{"filter", "nat", "mangle", "raw", "security"}, name)
}

// isForeign reports whether iptables cannot read statement: it knows plain
// comparisons of packets and interfaces, and its own extensions.
func isForeign(statement map[string]any) bool {
	for kind, v := range statement {
		switch kind {
		case "counter", "accept", "drop", "return", "jump", "goto", "xt", "limit":
			return false
		case "match":
			m, _ := v.(map[string]any)
			left, _ := m["left"].(map[string]any)
			if masked, ok := left["&"].([]any); ok && len(masked) == 2 {
				left, _ = masked[0].(map[string]any)
			}
			_, packet := left["payload"]
			_, meta := left["meta"]
			return !packet && !meta
		}
	}
	return true
}

// readRule returns o as rules: more than one if it has a map of verdicts.
func (r *nftRules) readRule(o nftObject) []facts.FilterRule {
	base := facts.FilterRule{Text: nftText(o.Expr)}
	table := o.Family + " " + o.Table
	for _, statement := range o.Expr {
		for kind, v := range statement {
			switch kind {
			case "match":
				m, _ := v.(map[string]any)
				base.Matches = append(base.Matches, r.readMatch(table, m)...)
			case "accept", "drop", "return":
				base.Verdict = kind
			case "reject":
				base.Verdict = "drop"
				base.Matches = append(base.Matches, rejectMatches(v)...)
			case "jump", "goto":
				target, _ := v.(map[string]any)
				base.Verdict, base.Target = kind, fmt.Sprint(target["target"])
			case "vmap":
				m, _ := v.(map[string]any)
				return r.readVerdictMap(table, base, m)
			case "queue":
				base.Verdict = "unknown"
			case "counter", "log", "mangle", "ct helper", "notrack", "comment":
			case "xt":
				base = readExtension(base, v)
			default: // limit, quota, an update of a set, and what later versions add
				base.Matches = append(base.Matches, facts.FilterMatch{Key: facts.MatchUnknown, Values: []string{kind}})
			}
		}
	}
	if base.Verdict == "drop" {
		ignoreBlocklists(base.Matches)
	}
	return []facts.FilterRule{base}
}

// rejectMatches returns the conditions that a kind of rejection implies: nft does not list those with which a rule was
// written if the kind makes them redundant.
func rejectMatches(v any) []facts.FilterMatch {
	r, _ := v.(map[string]any)
	switch r["type"] {
	case "icmpv6":
		return []facts.FilterMatch{{Key: facts.MatchNever}}
	case "tcp reset":
		return []facts.FilterMatch{{Key: facts.MatchProtocol, Values: []string{"tcp"}}}
	}
	return nil
}

// readExtension returns rule with an extension of iptables, which nft only names.
func readExtension(rule facts.FilterRule, v any) facts.FilterRule {
	x, _ := v.(map[string]any)
	name := fmt.Sprint(x["name"])
	switch {
	case x["type"] != "target":
		if name != "comment" {
			rule.Matches = append(rule.Matches, facts.FilterMatch{Key: facts.MatchUnknown, Values: []string{name}})
		}
	case name == "REJECT":
		rule.Verdict = "drop"
	case name == "NFQUEUE":
		rule.Verdict = "unknown"
	}
	return rule
}

// readVerdictMap returns one rule for each element of a map of verdicts.
func (r *nftRules) readVerdictMap(table string, base facts.FilterRule, m map[string]any) []facts.FilterRule {
	elements, ok := r.elements(table, m["data"])
	if !ok {
		base.Verdict = "unknown"
		return []facts.FilterRule{base}
	}
	var all []facts.FilterRule
	for _, e := range elements {
		pair, _ := e.([]any)
		if len(pair) != 2 {
			continue
		}
		rule := base
		rule.Matches = append(slices.Clone(base.Matches), r.readMatch(table, map[string]any{"op": "==", "left": m["key"], "right": pair[0]})...)
		verdict, _ := pair[1].(map[string]any)
		for kind, v := range verdict {
			rule.Verdict = kind
			if target, ok := v.(map[string]any); ok {
				rule.Target = fmt.Sprint(target["target"])
			}
		}
		all = append(all, rule)
	}
	return all
}

// elements returns the elements of an anonymous or named set, and false if they are
// not known.
func (r *nftRules) elements(table string, v any) ([]any, bool) {
	if name, ok := v.(string); ok && strings.HasPrefix(name, "@") {
		list, ok := r.sets[table+" "+name[1:]]
		return list, ok
	}
	if m, ok := v.(map[string]any); ok {
		list, ok := m["set"].([]any)
		return list, ok
	}
	return nil, false
}

// readMatch returns the conditions of a match statement.
func (r *nftRules) readMatch(table string, m map[string]any) []facts.FilterMatch {
	left, _ := m["left"].(map[string]any)
	unknown := []facts.FilterMatch{{Key: facts.MatchUnknown, Values: []string{nftText([]map[string]any{left})}}}
	op, _ := m["op"].(string)
	if flags, ok := nftFlags(left, op, m["right"]); ok {
		return []facts.FilterMatch{{Key: facts.MatchProtocol, Values: []string{"tcp"}}, flags}
	}
	key, before := nftKey(left)
	if key == facts.MatchNever {
		return []facts.FilterMatch{{Key: key}}
	}
	if key == "" || op != "==" && op != "!=" && op != "in" {
		return append(before, unknown...)
	}
	list, ok := r.elements(table, m["right"])
	switch right := m["right"].(type) {
	case []any:
		list, ok = right, true
	case string:
		if !strings.HasPrefix(right, "@") {
			list, ok = []any{right}, true
		} else if !ok {
			unknown = []facts.FilterMatch{{Key: facts.MatchUnknown, Not: op == "!=", Values: []string{matchSet, right}}}
		}
	case map[string]any:
		if _, set := right["set"]; !set {
			list, ok = []any{right}, true
		}
	case float64:
		list, ok = []any{right}, true
	}
	if !ok {
		return append(before, unknown...)
	}
	match := facts.FilterMatch{Key: key, Not: op == "!="}
	for _, v := range list {
		s, ok := nftValue(v)
		if !ok {
			return append(before, unknown...)
		}
		match.Values = append(match.Values, s)
	}
	return append(before, match)
}

// nftFlags returns a comparison of the flags of TCP, "fin,syn=syn".
func nftFlags(left map[string]any, op string, right any) (facts.FilterMatch, bool) {
	operands, masked := left["&"].([]any)
	if masked && len(operands) == 2 {
		left, _ = operands[0].(map[string]any)
	}
	field, _ := left["payload"].(map[string]any)
	if field["protocol"] != "tcp" || field["field"] != "flags" {
		return facts.FilterMatch{}, false
	}
	match := facts.FilterMatch{Key: facts.MatchFlags, Not: op == "!=" || op == "in"}
	switch set, _ := right.(map[string]any); {
	case masked:
		match.Values = []string{flagNames(operands[1]) + "=" + flagNames(right)}
	case op == "!" || op == "in": // none, or at least one of them is set
		match.Values = []string{flagNames(right) + "=none"}
	case set["set"] != nil:
		list, _ := set["set"].([]any)
		for _, v := range list {
			match.Values = append(match.Values, "all="+flagNames(v))
		}
	default:
		match.Values = []string{"all=" + flagNames(right)}
	}
	return match, true
}

// flagNames returns the names of flags separated by commas.
func flagNames(v any) string {
	if m, ok := v.(map[string]any); ok {
		v = m["|"]
	}
	all, ok := v.([]any)
	if !ok {
		all = []any{v}
	}
	var words []string
	for _, e := range all {
		words = append(words, fmt.Sprint(e))
	}
	return strings.Join(words, ",")
}

// nftKey returns the condition on left, with the conditions that it implies, and ""
// if it is not known.
func nftKey(left map[string]any) (key string, implied []facts.FilterMatch) {
	part := func(name, field string) string {
		m, _ := left[name].(map[string]any)
		s, _ := m[field].(string)
		return s
	}
	if fib, ok := left["fib"].(map[string]any); ok {
		if fib["result"] == "oif" { // a packet of the cluster arrives where its reply leaves
			return facts.MatchNever, nil
		}
		if flags, _ := fib["flags"].([]any); fib["result"] == "type" && len(flags) == 1 && flags[0] == "daddr" {
			return facts.MatchDestinationType, nil
		}
	}
	switch part("ct", "key") {
	case "state":
		return facts.MatchState, nil
	case "status":
		return facts.MatchStatus, nil
	}
	switch part("meta", "key") {
	case "iif", "iifname":
		return facts.MatchIn, nil
	case "oif", "oifname":
		return facts.MatchOut, nil
	case "l4proto":
		return facts.MatchProtocol, nil
	case "pkttype":
		return facts.MatchPacketType, nil
	case "nfproto", "protocol": // the latter is the EtherType: ip, ip6, arp
		return facts.MatchFamily, nil
	}
	protocol, field := part("payload", "protocol"), part("payload", "field")
	switch protocol {
	case "ip":
		return map[string]string{"saddr": facts.MatchSource, "daddr": facts.MatchDestination, "protocol": facts.MatchProtocol}[field], nil
	case "tcp", "udp", "sctp", "dccp", "icmp":
		implied = []facts.FilterMatch{{Key: facts.MatchProtocol, Values: []string{protocol}}}
	case "th":
	case "ip6", "icmpv6", "arp", "ether", "vlan":
		return facts.MatchNever, nil
	default:
		return "", nil
	}
	return map[string]string{"sport": facts.MatchSourcePort, "dport": facts.MatchPort}[field], implied
}

// nftValue returns one value of a condition in the notation of facts.
func nftValue(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, !strings.HasPrefix(v, "@")
	case float64:
		return fmt.Sprint(int64(v)), true
	case map[string]any:
		if p, ok := v["prefix"].(map[string]any); ok {
			length, _ := p["len"].(float64)
			return fmt.Sprintf("%v/%d", p["addr"], int(length)), true
		}
		if pair, ok := v["range"].([]any); ok && len(pair) == 2 {
			from, ok1 := nftValue(pair[0])
			to, ok2 := nftValue(pair[1])
			return from + "-" + to, ok1 && ok2
		}
		if e, ok := v["elem"].(map[string]any); ok { // with a comment, counter or timeout
			return nftValue(e["val"])
		}
	}
	return "", false
}

// nftText returns statements in words that are close to nft's own notation.
func nftText(statements []map[string]any) string {
	var words []string
	for _, s := range statements {
		words = append(words, nftWords(s)...)
	}
	return strings.Join(words, " ")
}

// nftWords returns the words of a part of a statement.
func nftWords(v any) (words []string) {
	switch v := v.(type) {
	case string, float64:
		return []string{fmt.Sprint(v)}
	case []any:
		for _, e := range v {
			words = append(words, nftWords(e)...)
		}
	case map[string]any:
		if op, isMatch := v["op"].(string); isMatch {
			words = nftWords(v["left"])
			if op == "!=" {
				words = append(words, op)
			}
			return append(words, nftWords(v["right"])...)
		}
		keys := slices.SortedFunc(maps.Keys(v), func(a, b string) int {
			first := func(k string) bool { return k == "type" || k == "key" }
			if first(a) != first(b) {
				return map[bool]int{true: -1, false: 1}[first(a)]
			}
			return strings.Compare(a, b)
		})
		for _, k := range keys {
			switch k {
			case "counter", "log", "comment":
				continue
			case "match", "payload", "meta", "set", "elem", "xt", "protocol", "key", "target", "type", "name", "expr", "data":
			case "field":
				continue
			default:
				words = append(words, k)
			}
			words = append(words, nftWords(v[k])...)
			if field, ok := v["field"].(string); ok && k == "protocol" {
				words = append(words, field)
			}
		}
	}
	return words
}
