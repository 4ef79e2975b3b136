package answer

import (
	"fmt"
	"io"
	"strings"

	"github.com/plinthdev/plinth/internal/app/nodes"
	"github.com/plinthdev/plinth/internal/app/preflight"
)

// NodeList shows the nodes of a cluster and what they share.
func NodeList(w io.Writer, v nodes.View) {
	cluster(w, v)
	next(w, "plinth node drain NAME")
}

// cluster shows the nodes, and what holds them together.
func cluster(w io.Writer, v nodes.View) {
	if len(v.Nodes) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := table(w, "NODE", "ROLE", "READY", "VERSION", "ADDRESSES")
	for _, n := range v.Nodes {
		is := ready(n.Ready, n.Reason)
		if n.Cordoned {
			is += ", takes no new pods"
		}
		row(t, n.Name, n.Role, is, n.Version, strings.Join(n.Addresses, ", "))
	}
	_ = t.Flush()
	if len(v.API)+len(v.Etcd) > 0 || v.Balancer != nil {
		fmt.Fprintln(w)
	}
	if len(v.API) > 0 {
		fmt.Fprintf(w, "API servers  %s\n", endpoints(v.API))
	}
	if v.Balancer != nil {
		fmt.Fprintf(w, "Balancer     %s\n", endpoints([]nodes.Endpoint{*v.Balancer}))
	}
	if len(v.Etcd) > 0 {
		fmt.Fprintf(w, "etcd         %s\n", members(v.Etcd))
	}
}

func endpoints(all []nodes.Endpoint) string {
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

func members(all []nodes.Member) string {
	var out []string
	led := false
	for _, m := range all {
		s := m.Name
		if s == "" {
			s = m.Address + " (never started)"
		}
		switch {
		case m.Leader:
			led = true
			s += " (leads)"
		case m.Learner:
			s += " (no vote yet)"
		}
		out = append(out, s)
	}
	s := strings.Join(out, ", ")
	if !led {
		s += "; none leads"
	}
	return s
}

// NodeChanged says how a drain or a removal ended.
func NodeChanged(w io.Writer, r nodes.Result, removed bool) {
	switch {
	case !r.Changed && removed:
		fmt.Fprintf(w, "Nothing to do: %s is no node of the cluster any more.\n", r.Node)
	case !r.Changed:
		fmt.Fprintf(w, "Nothing to do: %s is drained.\n", r.Node)
	case removed:
		fmt.Fprintf(w, "%s is out of the cluster: its pods are elsewhere, its credentials are refused.\n", r.Node)
		if r.Role == nodes.Controller {
			fmt.Fprintln(w, "As a controller it still holds the cluster's keys, which end only with its data: take that host back now.")
		}
	default:
		fmt.Fprintf(w, "%s is drained: it takes no new pods until: plinth kubectl uncordon %s\n", r.Node, Quote(r.Node))
	}
	if r.Log != "" {
		fmt.Fprintf(w, "Log  %s\n", r.Log)
	}
	if removed {
		next(w, "plinth reset node   (on "+r.Node+")")
	} else {
		next(w, "plinth node list")
	}
}

// Listening says what the other hosts are to do.
func Listening(l preflight.Listening) string {
	return fmt.Sprintf("This host answers others until Ctrl-C. On each of them:\n  echo %s | sudo plinth preflight --peers %s --peer-code-file -", l.Code, l.Address)
}

// Listened says how a host that answered others goes on.
func Listened(w io.Writer, l preflight.Listening) {
	fmt.Fprintf(w, "%s answers other hosts no more; its ports are free.\n", l.Address)
	next(w, "plinth install --bundle FILE")
}
