package firewall

import (
	"slices"
	"strings"
)

// ufwComment is the comment of Plinth's rules, by which a reset finds them.
const ufwComment = " comment 'plinth'"

// UFWRules returns the rules in the form in which ufw prints them, without their comment: "allow 6443/tcp".
func (r Rules) UFWRules() []string {
	a := r.Access
	var all []string
	ports := func(numbers []int, protocol string) {
		switch {
		case len(numbers) == 0:
		case len(a.Networks) == 0:
			all = append(all, "allow "+list(numbers, ",")+"/"+protocol)
		default:
			for _, p := range a.Networks {
				all = append(all, "allow from "+network(p)+" to any port "+list(numbers, ",")+" proto "+protocol)
			}
		}
	}
	if len(a.Public) > 0 {
		all = append(all, "allow "+list(a.Public, ",")+"/tcp")
	}
	ports(a.Nodes, "tcp")
	ports(a.NodesUDP, "udp")
	pods := a.Pods.Masked().String()
	all = append(all, "allow from "+pods, "route allow from "+pods, "route allow to "+pods)
	if len(a.Outgoing) == 0 {
		return all
	}
	for _, p := range a.Networks {
		all = append(all, "allow out to "+network(p)+" port "+list(a.Outgoing, ",")+" proto tcp")
		if len(a.NodesUDP) > 0 {
			all = append(all, "allow out to "+network(p)+" port "+list(a.NodesUDP, ",")+" proto udp")
		}
	}
	if len(a.Networks) == 0 {
		all = append(all, "allow out "+list(a.Outgoing, ",")+"/tcp")
		if len(a.NodesUDP) > 0 {
			all = append(all, "allow out "+list(a.NodesUDP, ",")+"/udp")
		}
	}
	return append(all, "allow out to "+pods)
}

// UFWCommand returns the command that adds rule.
func UFWCommand(rule string) Command {
	return append(append(Command{"ufw"}, strings.Fields(rule)...), "comment", "plinth")
}

// UFWDelete returns the command that deletes rule.
func UFWDelete(rule string) Command {
	words := strings.Fields(rule)
	if words[0] == "route" {
		return append(Command{"ufw", "route", "delete"}, words[1:]...)
	}
	return append(Command{"ufw", "delete"}, words...)
}

// MissingUFW returns the rules of r that listing, the output of ufw show added, does not have, with
// any comment.
func (r Rules) MissingUFW(listing string) []string {
	var have []string
	for line := range strings.Lines(listing) {
		rule, _, _ := strings.Cut(strings.TrimSpace(line), " comment '")
		have = append(have, strings.TrimPrefix(rule, "ufw "))
	}
	return slices.DeleteFunc(r.UFWRules(), func(rule string) bool { return slices.Contains(have, rule) })
}

// StaleUFW returns the rules with Plinth's comment in listing, the output of ufw show added, that r does
// not have: those of other networks.
func (r Rules) StaleUFW(listing string) []string {
	want := r.UFWRules()
	return slices.DeleteFunc(OwnUFW(listing), func(rule string) bool { return slices.Contains(want, rule) })
}

// OwnUFW returns the rules in listing, the output of ufw show added, that have Plinth's comment.
func OwnUFW(listing string) []string {
	var all []string
	for line := range strings.Lines(listing) {
		if rule, own := strings.CutSuffix(strings.TrimSpace(line), ufwComment); own {
			all = append(all, strings.TrimPrefix(rule, "ufw "))
		}
	}
	return all
}
