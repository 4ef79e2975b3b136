package hostpreflight

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
)

// IdentityChanges returns what of this host's identity differs from was, which an install
// or join recorded, and what to do about it; "" if nothing differs. What cannot be
// determined does not differ.
func IdentityChanges(f facts.Facts, was facts.Identity) (found, fix string) {
	var changes, undos []string
	mayBeClone := was.MachineID != "" && f.MachineID != was.MachineID && f.UnknownReason(facts.FactMachineID) == ""
	change := func(undo, format string, args ...any) {
		changes, undos = append(changes, fmt.Sprintf(format, args...)), append(undos, undo)
	}
	known := func(fact string) bool { return f.UnknownReason(fact) == "" }
	if now := strings.ToLower(f.Hostname); was.Node != "" && now != was.Node && now != "" && known(facts.FactHostname) {
		change("sudo hostnamectl set-hostname "+was.Node, "this host was renamed: its node is %s, its name is now %s", was.Node, now)
	}
	if mayBeClone {
		change(fmt.Sprintf("echo %s | sudo tee /etc/machine-id", was.MachineID), "its machine id was %s and is now %s", was.MachineID, cmp.Or(f.MachineID, "none"))
	}
	moved := was.Address.IsValid() && len(f.Network.Interfaces) > 0 && !f.Network.HasAddress(was.Address) && known(facts.FactNetwork)
	if moved {
		at, dev := formerPlace(f.Network, was.Address)
		change(fmt.Sprintf("sudo ip address add %s dev %s, and make it permanent: a static address, or a reservation on the DHCP server", at, dev), "it no longer has its node's address %s", was.Address)
	}
	if changes == nil {
		return "", ""
	}
	fix = "to undo this:\n  " + strings.Join(undos, "\n  ")
	switch {
	case moved && was.Repairing: // k0s may have the new address, and not be enabled
		fix += "\n  sudo plinth repair address --address " + was.Address.String()
	case was.Unit != "":
		fix += "\n  sudo systemctl restart " + was.Unit
	}
	switch {
	case moved && len(changes) == 1 && was.Repairing:
		return changes[0], fix + "\nto keep it, finish the repair: sudo plinth repair address"
	case moved && len(changes) == 1 && was.Controller:
		return changes[0], fix + "\nto keep it, on the only controller of a cluster: sudo plinth repair address\nto keep it on another host: let it leave the cluster with `sudo plinth reset node`, then join again"
	}
	fix += "\nto keep it: remove the cluster from this host with `sudo plinth reset node`, or `sudo plinth reset cluster` if it is the only node, then install or join again"
	if mayBeClone { // its files contain the original's key, with which a reset acts as the original
		fix += "\na clone of node " + was.Node + ": disconnect it from the network first; else the reset removes the original's node from the cluster"
	}
	return strings.Join(changes, "; "), fix
}

// formerPlace returns address with the length of its network, and its interface, as the
// arguments of `ip address add`, as far as n still shows them.
func formerPlace(n facts.Network, address netip.Addr) (at, dev string) {
	for _, i := range n.Interfaces {
		for _, p := range i.Addresses {
			if p.Contains(address) {
				return netip.PrefixFrom(address, p.Bits()).String(), i.Name
			}
		}
	}
	return address.String() + "/LENGTH", "INTERFACE"
}
