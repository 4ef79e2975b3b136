package printer

import (
	"fmt"
	"io"
	"strings"

	"github.com/plinthdev/plinth/internal/action/repair"
)

// WriteRepairResult writes which address a node has now, and which nodes have to learn it. again is the command line
// without --plan.
func WriteRepairResult(w io.Writer, r repair.Result, again string) {
	switch {
	case len(r.Plan) > 0:
		writePlan(w, r.Plan, again)
		return
	case !r.Changed:
		fmt.Fprintf(w, "Nothing to do: this host has the address of its node, %s.\n", r.To)
		return
	}
	fmt.Fprintf(w, "Node %s has the address %s. It had %s.\n", r.Node, r.To, r.From)
	writeWorkersWithOldAddress(w, r)
	writeFormerAddress(w, r)
	if r.ConsoleURL != "" {
		fmt.Fprintf(w, "Admin console  %s\n", r.ConsoleURL)
	}
	if r.Log != "" {
		fmt.Fprintf(w, "Log            %s\n", r.Log)
	}
	writeNextCommand(w, "plinth status")
}

// writeWorkersWithOldAddress writes how the workers of the cluster learn the new address.
func writeWorkersWithOldAddress(w io.Writer, r repair.Result) {
	if len(r.Workers) == 0 {
		return
	}
	fmt.Fprintf(w, "Workers: %s\n", strings.Join(r.Workers, ", "))
	if r.API != "" {
		fmt.Fprintf(w, "They find this host at %s, once that leads to it. Otherwise:\n", r.API)
	} else {
		fmt.Fprintln(w, "They keep their pods and their data, but know only the old address:")
	}
	fmt.Fprint(w, "  here:      plinth token create --role worker   (prints the line to run on each; it changes only the address)\n")
}

// writeFormerAddress writes how to remove the former address from this host without losing the new one.
func writeFormerAddress(w io.Writer, r repair.Result) {
	f := r.Former
	if f == nil {
		return
	}
	fmt.Fprintf(w, "This host still has %s. To remove it, leave only %s in its network configuration, and reboot; or at once:\n", r.From, r.To)
	if f.SameNetwork {
		setting := "net.ipv4.conf." + f.Interface + ".promote_secondaries"
		if strings.Contains(f.Interface, ".") { // of a VLAN
			setting = "net/ipv4/conf/" + f.Interface + "/promote_secondaries"
		}
		fmt.Fprintf(w, "  sudo sysctl -w %s=1   (else Linux removes %s with it)\n", setting, r.To)
	}
	fmt.Fprintf(w, "  sudo ip address del %s dev %s\n", f.Address, f.Interface)
	fmt.Fprintf(w, "  ip route   (routes with src %s are gone: add them again with src %s)\n", r.From, r.To)
}
