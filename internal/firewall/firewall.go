// Package firewall lists the rules that let the packets of a cluster through the firewall of a host,
// as command lines. The preflights print them, and the step of an install runs them. It is pure.
package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plinthdev/plinth/internal/problem"
)

// Kind is the program that manages the packet filter of a host.
type Kind string

// The kinds. Filter is any other program, or none: its rules were written for nft or iptables.
const (
	Firewalld Kind = "firewalld"
	UFW       Kind = "ufw"
	Filter    Kind = "packet filter"
)

// Access is what the cluster needs on a host.
type Access struct {
	Public   []int          `json:"public,omitempty"`   // TCP ports that everyone reaches
	Nodes    []int          `json:"nodes,omitempty"`    // TCP ports that other nodes reach
	NodesUDP []int          `json:"nodesUDP,omitempty"` // the same of UDP
	Networks []netip.Prefix `json:"networks,omitempty"` // networks of the other nodes; none for everyone
	Pods     netip.Prefix   `json:"pods"`               // pod network
	Outgoing []int          `json:"outgoing,omitempty"` // TCP ports of other nodes that this host reaches, if the firewall filters what the host sends
}

// Rules are the rules of one firewall. The JSON encoding is stored in the journal.
type Rules struct {
	Kind   Kind    `json:"kind"`
	Access Access  `json:"access,omitzero"`  // of Firewalld and UFW
	Chains []Chain `json:"chains,omitempty"` // of Filter: the chains that drop packets of the cluster
}

// Command is one command line.
type Command []string

// String returns the command as a user types it in a shell.
func (c Command) String() string {
	words := []string{"sudo"}
	for _, w := range c {
		words = append(words, problem.QuoteWord(w))
	}
	return strings.Join(words, " ")
}

// Commands returns the command lines that add the rules to a firewall that has none of them.
func (r Rules) Commands() []Command {
	switch r.Kind {
	case Firewalld:
		return r.firewalldCommands()
	case UFW:
		var all []Command
		for _, rule := range r.UFWRules() {
			all = append(all, UFWCommand(rule))
		}
		return all
	}
	var all []Command
	for _, c := range r.Chains {
		all = append(all, c.Commands()...)
	}
	return all
}

// Lines returns the rules in words, for a plan.
func (r Rules) Lines() []string {
	var all []string
	if r.Kind == Filter {
		for _, c := range r.Chains {
			for _, accept := range c.Accept {
				all = append(all, c.Table+" "+c.Name+": accept "+accept)
			}
		}
		return all
	}
	add := func(format string, args ...any) { all = append(all, string(r.Kind)+": "+fmt.Sprintf(format, args...)) }
	a := r.Access
	if len(a.Public) > 0 {
		add("%s/tcp from everywhere", list(a.Public, ", "))
	}
	from := "everywhere"
	if len(a.Networks) > 0 {
		from = networks(a.Networks, ", ")
	}
	if len(a.Nodes) > 0 {
		add("%s/tcp from %s", list(a.Nodes, ", "), from)
	}
	if len(a.NodesUDP) > 0 {
		add("%s/udp from %s", list(a.NodesUDP, ", "), from)
	}
	add("everything from pods (%s)", a.Pods)
	add("forwarded packets from and to pods (%s)", a.Pods)
	if len(a.Outgoing) > 0 {
		add("%s/tcp to %s, and everything to pods", list(a.Outgoing, ", "), from)
	}
	return all
}

// list returns numbers with separator between them.
func list(numbers []int, separator string) string {
	sorted := slices.Sorted(slices.Values(numbers))
	var all []string
	for _, n := range sorted {
		all = append(all, strconv.Itoa(n))
	}
	return strings.Join(all, separator)
}

// networks returns all with separator between them; a single address has no length, as ufw prints it.
func networks(all []netip.Prefix, separator string) string {
	var texts []string
	for _, p := range all {
		texts = append(texts, network(p))
	}
	return strings.Join(texts, separator)
}

// network returns the text of p; a single address has no length.
func network(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.Masked().String()
}
