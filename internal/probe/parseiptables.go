package probe

import (
	"regexp"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
)

// parseIptables returns the chains in the output of iptables-save that can refuse
// packets; tool is the name of the program without "-save". The nat table decides
// only where packets go.
func parseIptables(text []byte, tool string) []facts.FilterChain {
	var all []facts.FilterChain
	at := map[string]int{} // index in all of each chain of the current table
	table := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "*"):
			table, at = line[1:], map[string]int{}
		case strings.HasPrefix(line, ":") && table != "nat":
			words := strings.Fields(line[1:])
			if len(words) < 2 {
				continue
			}
			c := facts.FilterChain{Table: tool + " " + table, Name: words[0]}
			if words[1] != "-" {
				c.Hook, c.Policy = strings.ToLower(words[0]), strings.ToLower(words[1])
			}
			at[c.Name] = len(all)
			all = append(all, c)
		case strings.HasPrefix(line, "-A "):
			words := splitRule(line)
			if i, ok := at[words[1]]; ok {
				all[i].Rules = append(all[i].Rules, parseIptablesRule(words[2:]))
			}
		}
	}
	return all
}

// ruleWord matches a word of a rule, in quotes or not.
var ruleWord = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"|(\S+)`)

// splitRule splits a line of iptables-save at spaces; double quotes group words, and
// a backslash in quotes escapes the next character.
func splitRule(line string) []string {
	var words []string
	for _, m := range ruleWord.FindAllStringSubmatch(line, -1) {
		words = append(words, m[1]+m[2])
	}
	if len(words) < 2 {
		words = append(words, "")
	}
	return words
}

// iptablesKeys are the conditions that have one value, by their flag.
func iptablesKeys() map[string]string {
	return map[string]string{
		"-s": facts.MatchSource, "-d": facts.MatchDestination, "-i": facts.MatchIn, "-o": facts.MatchOut, "-p": facts.MatchProtocol,
		"--sport": facts.MatchSourcePort, "--dport": facts.MatchPort, "--sports": facts.MatchSourcePort, "--dports": facts.MatchPort,
		"--ctstate": facts.MatchState, "--state": facts.MatchState, "--ctstatus": facts.MatchStatus,
		"--dst-type": facts.MatchDestinationType, "--pkt-type": facts.MatchPacketType, "--src-range": facts.MatchSource, "--dst-range": facts.MatchDestination,
	}
}

// parseIptablesRule returns the rule with the arguments words, as iptables-save prints
// them. What it does not know becomes an unknown condition.
func parseIptablesRule(words []string) facts.FilterRule {
	r := facts.FilterRule{Text: strings.Join(words, " ")}
	keys := iptablesKeys()
	not := false
	for i := 0; i < len(words); i++ {
		flag, value := words[i], ""
		if i+1 < len(words) {
			value = words[i+1]
		}
		key, known := keys[flag]
		switch {
		case flag == "!":
			not = true
			continue
		case known:
			r.Matches = append(r.Matches, facts.FilterMatch{Key: key, Not: not, Values: iptablesValues(key, value)})
			i++
		case flag == "-j" || flag == "-g":
			r.Verdict, r.Target = iptablesVerdict(flag, value)
			i = len(words) // the rest are options of the target
		case flag == matchSet && i+2 < len(words):
			r.Matches = append(r.Matches, facts.FilterMatch{Key: facts.MatchUnknown, Not: not, Values: []string{flag, value}})
			i += 2
		case flag == "-m" && value == "rpfilter":
			// A packet of the cluster arrives where its reply leaves.
			for i++; i+1 < len(words) && strings.HasPrefix(words[i+1], "--"); i++ {
				if words[i+1] == "--invert" {
					r.Matches = append(r.Matches, facts.FilterMatch{Key: facts.MatchNever})
				}
			}
		case flag == "--tcp-flags" && i+2 < len(words):
			r.Matches = append(r.Matches, facts.FilterMatch{Key: facts.MatchFlags, Not: not, Values: []string{strings.ToLower(value + "=" + words[i+2])}})
			i += 2
		case flag == "--comment":
			i++
		case flag == "-m":
			i++ // the conditions of the module follow
		default:
			r.Matches = append(r.Matches, facts.FilterMatch{Key: facts.MatchUnknown, Values: []string{flag}})
			for i+1 < len(words) && !strings.HasPrefix(words[i+1], "-") && words[i+1] != "!" {
				i++
			}
		}
		not = false
	}
	if r.Verdict == "drop" {
		ignoreBlocklists(r.Matches)
	}
	return r
}

// matchSet is the first value of an unknown condition on the content of a set.
const matchSet = "--match-set"

// ignoreBlocklists replaces the conditions of a rule that drops what is in an address
// set (fail2ban, CrowdSec): its content is not known, but hosts of the cluster are not
// expected there. A rule that drops what is not in a set remains unknown.
func ignoreBlocklists(matches []facts.FilterMatch) {
	for i, m := range matches {
		if m.Key == facts.MatchUnknown && m.Values[0] == matchSet && !m.Not {
			matches[i] = facts.FilterMatch{Key: facts.MatchNever}
		}
	}
}

// iptablesValues returns the values of a condition in the notation of facts.
func iptablesValues(key, value string) []string {
	switch key {
	case facts.MatchIn, facts.MatchOut:
		if name, isPrefix := strings.CutSuffix(value, "+"); isPrefix {
			value = name + "*"
		}
		return []string{value}
	case facts.MatchSourcePort, facts.MatchPort:
		value = strings.ReplaceAll(value, ":", "-")
	}
	return strings.Split(strings.ToLower(value), ",")
}

// iptablesVerdict returns what a rule with the flag -j or -g does. A target in lower
// case or with a prefix is a chain; of the others in capitals, those that decide are
// known, and a chain may have such a name too.
func iptablesVerdict(flag, target string) (verdict, chain string) {
	switch target {
	case "ACCEPT":
		return "accept", ""
	case "DROP", "REJECT", "TARPIT":
		return "drop", ""
	case "RETURN":
		return "return", ""
	case "QUEUE", "NFQUEUE":
		return "unknown", ""
	case "LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "CT", "NOTRACK", "TCPMSS", "TRACE", "SET", "CONNSECMARK", "SECMARK", "CHECKSUM", "DSCP", "TOS", "TTL", "CLASSIFY", "AUDIT", "RATEEST", "TEE", "HL":
		return "", ""
	}
	if flag == "-g" {
		return "goto", target
	}
	return "jump", target
}

// unreadableTable matches what iptables-save prints for a table that it cannot read.
var unreadableTable = regexp.MustCompile("(?m)^# Table `([a-z]+)' is incompatible, use 'nft' tool")

// parseForeignTables returns the tables that iptables of the given family ("ip",
// "ip6") cannot read. iptables-save prints a comment and ends with 0; every command
// that lists rules fails (iptables 1.8.9, iptables/nft.c).
func parseForeignTables(text []byte, family string) []string {
	var all []string
	for _, m := range unreadableTable.FindAllSubmatch(text, -1) {
		all = append(all, family+" "+string(m[1]))
	}
	return all
}
