package printer

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/action/join"
	"github.com/plinthdev/plinth/internal/action/tokens"
	"github.com/plinthdev/plinth/internal/ui"
)

// WriteNewToken writes the command to run on a new host, then the limits of its token.
func WriteNewToken(w io.Writer, m tokens.CreatedToken) {
	where := "It downloads plinth from this controller into the current directory, verifies it, and joins."
	if m.FetchCommand == "" {
		where = "That host needs plinth: this node does not offer the program now. Check its agent: systemctl status plinth-agent"
	}
	fmt.Fprintf(w, "On the new host, run this line:\n\n  %s\n\n%s\n", m.JoinCommand, where)
	fmt.Fprintf(w, "Token %s is valid for %s with the role %s until %s.\n", m.ID, ui.FormatCount(m.Uses, "host"), m.Role, m.Expires.Format(time.RFC3339))
	fmt.Fprintf(w, "\nThe token alone, for join --token-file FILE:\n\n  %s\n", m.Token)
	writeNextCommand(w, "plinth token list")
}

// WriteTokenList writes a table of tokens.
func WriteTokenList(w io.Writer, all []tokens.Record) {
	if len(all) == 0 {
		fmt.Fprintln(w, "There are no join tokens.")
		writeNextCommand(w, "plinth token create --role worker")
		return
	}
	t := newTable(w, "ID", "ROLE", "STATE", "CREATED", "EXPIRES", "USES LEFT", "USED BY")
	for _, r := range all {
		var by []string
		for _, u := range r.UsedBy {
			by = append(by, u.Node)
		}
		writeRow(t, r.ID, r.Role, r.State, r.Created.Format(time.RFC3339), r.Expires.Format(time.RFC3339),
			strconv.Itoa(r.UsesLeft)+" of "+strconv.Itoa(r.Uses), strings.Join(by, ", "))
	}
	_ = t.Flush()
	if slices.ContainsFunc(all, func(r tokens.Record) bool { return r.State == "active" }) {
		writeNextCommand(w, "plinth node list   (after a host has joined)")
		return
	}
	writeNextCommand(w, "plinth token create --role worker")
}

// WriteRevokedToken writes that a token was revoked.
func WriteRevokedToken(w io.Writer, r tokens.Record) {
	fmt.Fprintf(w, "Token %s was revoked at %s. Nodes that joined with it are not affected.\n", r.ID, r.Revoked.Format(time.RFC3339))
	writeNextCommand(w, "plinth token list")
}

// WriteJoinResult writes what a join found, planned or did; failed reports that
// the join returned an error.
func WriteJoinResult(w io.Writer, r join.Result, failed bool) {
	if len(r.Mismatches) > 0 {
		t := newTable(w, "FIELD", "HERE", "CLUSTER")
		for _, d := range r.Mismatches {
			writeRow(t, d[0], orNone(d[1]), orNone(d[2]))
		}
		_ = t.Flush()
	}
	switch {
	case r.Preflights != nil && r.Preflights.Failed > 0:
		fmt.Fprint(w, r.Preflights.Text())
	case failed:
	case r.Plan != nil:
		writePreflightWarnings(w, r.Preflights)
		writePlan(w, r.Plan, "echo TOKEN | sudo plinth join -")
	default:
		if !r.Changed {
			writePreflightWarnings(w, r.Preflights)
			fmt.Fprintf(w, "Nothing to do: this host is node %s of %s.\n", r.Node, r.Cluster)
		} else {
			fmt.Fprintf(w, "This host is now node %s of %s, a %s.\nLog  %s\n", r.Node, r.Cluster, r.Role, r.Log)
		}
		writeNextCommand(w, "plinth status")
	}
}

// orNone returns s, or "(none)" for an empty s.
func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}
