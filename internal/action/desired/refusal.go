package desired

import (
	"fmt"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/token"
)

// InstallRefusal returns why no install can begin on a host, whatever the bundle, and
// what to do; "" if one can. receipt is that of the host, zero if there is none.
func InstallRefusal(files host.Files, dataDir string, j *journal.Journal, receipt journal.Receipt) (why, fix string) {
	if why, fix := JoinRefusal(files, dataDir, j); why != "" {
		return why, fix
	}
	if receipt.Role == token.Worker { // the steps of an install would make it a second cluster's controller
		return "this host is a worker of the cluster " + receipt.Name, "run it on a controller of the cluster"
	}
	if last, ok := j.LastUnfinished(); ok && last.Verb == "join" {
		return last.DescribeUnfinished(), "continue it with its token: plinth join; or start over: sudo plinth reset node"
	}
	return "", ""
}

// JoinRefusal returns why neither an install nor a join can begin on a host, and what
// to do; "" if one can.
func JoinRefusal(files host.Files, dataDir string, j *journal.Journal) (why, fix string) {
	if why, fix := RunRefusal(files, dataDir, j); why != "" {
		return why, fix
	}
	last, ok := j.LastUnfinished()
	if !ok {
		return "", ""
	}
	const rollBack = "sudo plinth upgrade --rollback"
	switch last.Verb {
	case "upgrade":
		return last.DescribeUnfinished(), "finish it with the bundle " + last.Args.Bundle + ": plinth upgrade --bundle FILE; or roll it back: " + rollBack
	case "rollback":
		return fmt.Sprintf("the rollback of an upgrade, started at %s, is not finished", last.StartedAt.Format(time.RFC3339)), "finish it: " + rollBack
	case "restore":
		return last.DescribeUnfinished(), "finish it: run the same `plinth restore` again"
	case "repair":
		fix := "finish it: run the same `plinth repair address` again"
		if last.Args.From != "" {
			fix += fmt.Sprintf("; or go back: give the host its address %s again, then: sudo plinth repair address --address %s", last.Args.From, last.Args.From)
		}
		return last.DescribeUnfinished(), fix
	}
	return "", ""
}

// RunRefusal returns why no run that changes the cluster of a host can begin, and what to
// do; "" if one can.
func RunRefusal(files host.Files, dataDir string, j *journal.Journal) (why, fix string) {
	if why, fix := j.InstallRefusal(); why != "" {
		return why, fix
	}
	// Its agent stops k0s as often as a command starts it, until it is admitted again.
	if removed, ok, err := node.ReadRemoval(files, dataDir); err == nil && ok {
		return removed.String(), "reset it first: sudo plinth reset node"
	}
	return "", ""
}
