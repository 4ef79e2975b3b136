package printer

import (
	"fmt"
	"io"
	"strings"

	"github.com/plinthdev/plinth/internal/action/nodes"
	"github.com/plinthdev/plinth/internal/action/preflight"
)

// WriteNodeList writes the nodes of a cluster, its API servers and its etcd members.
func WriteNodeList(w io.Writer, v nodes.ClusterView) {
	writeCluster(w, v)
	if v.Balancer == nil { // on a controller
		writeAbsentNodes(w, v.Nodes)
	}
	writeNextCommand(w, "plinth status")
}

// writeAbsentNodes writes how nodes that are not Ready are removed or, after a restore on a host with another address,
// join again.
func writeAbsentNodes(w io.Writer, all []nodes.Node) {
	for _, n := range all {
		if n.Ready || !n.Admitted || n.Joining {
			continue
		}
		fmt.Fprintf(w, "\n%s is not Ready.\n  if it is lost:   plinth node remove %s --force\n", n.Name, QuoteShellWord(n.Name))
		if n.Role == nodes.Worker {
			fmt.Fprint(w, "  if it runs, and all controllers were replaced: plinth token create --role worker   (prints the line to run on it)\n")
		}
	}
}

// writeCluster writes the nodes, the API servers, the load balancer and the etcd
// members, as far as they are known.
func writeCluster(w io.Writer, v nodes.ClusterView) {
	if len(v.Nodes) == 0 {
		return
	}
	t := newTable(w, "NODE", "ROLE", "READY", "VERSION", "ADDRESSES")
	for _, n := range v.Nodes {
		state := formatReady(n.Ready, n.Reason)
		if n.Cordoned {
			state += ", cordoned"
		}
		switch {
		case n.Joining:
			state += ", not admitted yet"
		case !n.Admitted:
			state += ", not admitted"
		}
		writeRow(t, n.Name, n.Role, state, n.Version, strings.Join(n.Addresses, ", "))
	}
	_ = t.Flush()
	if len(v.API)+len(v.Etcd) > 0 || v.Balancer != nil {
		fmt.Fprintln(w)
	}
	if len(v.API) > 0 {
		fmt.Fprintf(w, "API servers    %s\n", formatEndpoints(v.API))
	}
	if v.Balancer != nil {
		fmt.Fprintf(w, "Load balancer  %s\n", formatEndpoints([]nodes.Endpoint{*v.Balancer}))
	}
	if len(v.Etcd) > 0 {
		fmt.Fprintf(w, "etcd           %s\n", formatEtcdMembers(v.Etcd))
	}
}

// formatEndpoints returns each endpoint with its state, separated by commas.
func formatEndpoints(all []nodes.Endpoint) string {
	var out []string
	for _, e := range all {
		s := e.Address + " ready"
		if !e.Ready {
			s = e.Address + " not ready: " + e.Reason
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

// formatEtcdMembers returns each member with its role, separated by commas.
func formatEtcdMembers(all []nodes.Member) string {
	var out []string
	hasLeader := false
	for _, m := range all {
		s := m.Name
		if s == "" {
			s = m.Address + " (never started)"
		}
		switch {
		case m.Leader:
			hasLeader = true
			s += " (leader)"
		case m.Learner:
			s += " (learner)"
		}
		out = append(out, s)
	}
	s := strings.Join(out, ", ")
	if !hasLeader {
		s += "; no leader"
	}
	return s
}

// WriteNodeResult writes how a drain or a removal ended.
func WriteNodeResult(w io.Writer, r nodes.Result, removed bool) {
	verb := "drain"
	if removed {
		verb = "remove"
	}
	switch {
	case len(r.Plan) > 0:
		for _, l := range r.Losses {
			fmt.Fprintf(w, "Lost: %s\n", l)
		}
		writePlan(w, r.Plan, "sudo plinth node "+verb+" "+QuoteShellWord(r.Node))
		return
	case !r.Changed:
		fmt.Fprintf(w, "Nothing to do: %s is already drained.\n", r.Node)
	case removed:
		fmt.Fprintf(w, "Removed %s from the cluster: its pods are moved and its credentials are revoked.\n", r.Node)
		if r.Role == nodes.Controller {
			fmt.Fprintln(w, "The host was a controller and still stores the cluster's private keys: reset it now.")
		}
	default:
		fmt.Fprintf(w, "Drained %s: it gets no new pods until you run: plinth kubectl uncordon %s\n", r.Node, QuoteShellWord(r.Node))
	}
	if r.Log != "" {
		fmt.Fprintf(w, "Log  %s\n", r.Log)
	}
	if removed {
		writeNextCommand(w, "plinth reset node   (on "+r.Node+")")
	} else {
		writeNextCommand(w, "plinth node list")
	}
}

// ListenInstructions returns what to run on the other hosts.
func ListenInstructions(l preflight.ListenerInfo) string {
	return fmt.Sprintf("This host is listening until Ctrl-C. On each other host, run:\n  echo %s | sudo plinth preflight --peers %s --peer-code-file -", l.Code, l.Address)
}

// WriteListenResult writes that the host stopped listening.
func WriteListenResult(w io.Writer, l preflight.ListenerInfo) {
	fmt.Fprintf(w, "%s stopped listening; its ports are free.\n", l.Address)
	writeNextCommand(w, "plinth install --bundle FILE")
}
