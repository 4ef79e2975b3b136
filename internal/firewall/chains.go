package firewall

import (
	"fmt"
	"strings"
)

// Chain is a chain of the packet filter that drops packets of the cluster. A rule in another table
// cannot help: a packet has to pass every chain of its hook. So Plinth gets a chain of its own in the
// same table, and one jump to it before the rules that are there.
type Chain struct {
	Table  string   `json:"table"`  // "inet host", or "iptables filter" for a table of iptables
	Name   string   `json:"name"`   // "input"
	Accept []string `json:"accept"` // conditions of the packets to accept, in the notation of nft or iptables
}

// ScriptPath is the shell script that adds the rules to the chains at each boot.
const ScriptPath = "/etc/plinth-firewall.sh"

// Own returns the name of Plinth's chain.
func (c Chain) Own() string {
	if c.isIptables() {
		return "PLINTH-" + c.Name
	}
	return "plinth-" + c.Name
}

// isIptables reports whether the chain belongs to iptables.
func (c Chain) isIptables() bool { return strings.HasPrefix(c.Table, "iptables") }

// iptables returns the command iptables with args, for the table of the chain.
func (c Chain) iptables(args ...string) Command {
	tool, table, _ := strings.Cut(c.Table, " ")
	command := Command{tool}
	if table != "filter" {
		command = append(command, "-t", table)
	}
	return append(command, args...)
}

// nft returns the command nft: first the verb, then the table of the chain, then args.
func (c Chain) nft(verb string, args ...string) Command {
	family, table, _ := strings.Cut(c.Table, " ")
	command := append(Command{"nft"}, strings.Fields(verb)...)
	return append(append(command, family, table), args...)
}

// Commands returns the commands that create Plinth's chain, and the jump to it last.
func (c Chain) Commands() []Command {
	own := c.Own()
	if c.isIptables() {
		all := []Command{c.iptables("-N", own)}
		for _, accept := range c.Accept {
			all = append(all, c.iptables(append(append([]string{"-A", own}, strings.Fields(accept)...), "-j", "ACCEPT")...))
		}
		return append(all, c.iptables("-I", c.Name, "-j", own))
	}
	all := []Command{c.nft("add chain", own)}
	for _, accept := range c.Accept {
		all = append(all, c.nft("add rule", own, accept+" accept"))
	}
	return append(all, c.nft("insert rule", c.Name, "jump", own))
}

// Query returns the command that lists the chain, of which HasJump judges the output.
func (c Chain) Query() Command {
	if c.isIptables() {
		return c.iptables("-S", c.Name)
	}
	return c.nft("list chain", c.Name)
}

// HasJump reports whether listing, the output of Query, has the jump to Plinth's chain.
func (c Chain) HasJump(listing string) bool {
	for line := range strings.Lines(listing) {
		line = " " + strings.TrimSpace(line) + " "
		if strings.Contains(line, " -j "+c.Own()+" ") || strings.Contains(line, " jump "+c.Own()+" ") {
			return true
		}
	}
	return false
}

// QueryOwn returns the command that lists Plinth's chain; it fails if there is none.
func (c Chain) QueryOwn() Command {
	if c.isIptables() {
		return c.iptables("-S", c.Own())
	}
	return c.nft("list chain", c.Own())
}

// Script returns the shell script that adds the rules of r (start) or removes them (stop). A chain
// that the host does not have any more needs no rules.
func (r Rules) Script() string {
	var start, stop strings.Builder
	for _, c := range r.Chains {
		fmt.Fprintf(&start, "if %s >/dev/null 2>&1; then\n", shell(c.Query()))
		for _, command := range c.Commands() {
			fmt.Fprintf(&start, "\t%s\n", shell(command))
		}
		start.WriteString("fi\n")
		stop.WriteString(c.removal())
	}
	return `#!/bin/sh
# Lets the packets of the cluster through the packet filter. Written by plinth install or join with
# --configure-firewall, run by plinth-firewall.service, removed by plinth reset.
remove() {
` + indent(stop.String()) + `}
remove
[ "$1" = start ] || exit 0
set -e
` + start.String()
}

// removal returns the shell commands that remove Plinth's chain and every jump to it.
func (c Chain) removal() string {
	own := c.Own()
	if c.isIptables() {
		return fmt.Sprintf("while %s 2>/dev/null; do :; done\n%s 2>/dev/null\n%s 2>/dev/null\n",
			shell(c.iptables("-D", c.Name, "-j", own)), shell(c.iptables("-F", own)), shell(c.iptables("-X", own)))
	}
	list := append(Command{"nft", "-a"}, c.nft("list chain", c.Name)[1:]...)
	return fmt.Sprintf("%s 2>/dev/null | sed -n 's/^.*jump %s .*# handle \\([0-9]*\\)$/\\1/p' | while read -r handle; do\n\t%s handle \"$handle\"\ndone\n%s 2>/dev/null\n%s 2>/dev/null\n",
		shell(list), own, shell(c.nft("delete rule", c.Name)), shell(c.nft("flush chain", own)), shell(c.nft("delete chain", own)))
}

// shell returns the command for a script that root runs.
func shell(c Command) string { return strings.TrimPrefix(c.String(), "sudo ") }

// indent returns the lines of text with a tab before each.
func indent(text string) string {
	return "\t" + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n\t") + "\n"
}
