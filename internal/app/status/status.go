// Package status owns the look at what is installed and how it is. It refuses
// to change anything, and to fail because a cluster does not answer.
package status

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/plinthdev/plinth/internal/app/compose"
	"github.com/plinthdev/plinth/internal/app/nodes"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kots/front"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/member"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/problem"
)

// Status is what is installed on this host and how it is; its JSON form is
// public.
type Status struct {
	Installed bool              `json:"installed"`
	Name      string            `json:"name,omitempty"`
	Role      string            `json:"role,omitempty"`
	Bundle    string            `json:"bundle,omitempty"`
	Versions  map[string]string `json:"versions,omitempty"`
	Service   string            `json:"service,omitempty"` // systemd's word for k0s: active, failed, …
	Agent     string            `json:"agent,omitempty"`   // systemd's word for plinth-agent
	nodes.View
	AddOns       []AddOnStatus  `json:"addons,omitempty"`
	Console      *ConsoleStatus `json:"console,omitempty"`
	Certificates []Certificate  `json:"certificates,omitempty"`
	Unfinished   *Unfinished    `json:"unfinished,omitempty"` // a run that was killed or failed
	Running      *Running       `json:"running,omitempty"`    // a run that changes this host now
	Warnings     []string       `json:"warnings,omitempty"`   // what was skipped on request, and what is wrong now
}

// AddOnStatus is one component that was installed into the cluster.
type AddOnStatus struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Ready   bool   `json:"ready"`
	Reason  string `json:"reason,omitempty"` // why it is not ready
}

// ConsoleStatus is the KOTS admin console.
type ConsoleStatus struct {
	URL     string `json:"url"`
	Ready   bool   `json:"ready"`
	Version string `json:"version,omitempty"` // that the console itself tells
	Reason  string `json:"reason,omitempty"`  // why it is not ready
}

// Certificate is one that ends some day.
type Certificate struct {
	Path    string    `json:"path"`
	Expires time.Time `json:"expires"`
}

// Unfinished is a run that has to be resumed or reset.
type Unfinished struct {
	Verb   string    `json:"verb"`
	Began  time.Time `json:"began"`
	Step   string    `json:"step"`             // where it stopped
	Failed string    `json:"failed,omitempty"` // why; empty when it was killed
}

// Running is a run that goes on while the status is told.
type Running struct {
	journal.Holder
	Step  string `json:"step,omitempty"`  // that it is at; "" while it only looks
	Begun int    `json:"begun,omitempty"` // steps, that one included
	Steps int    `json:"steps,omitempty"` // that there were to do when it began; 0 where it did not say
}

// While is s while holder changes the host: an unfinished run that is its own
// goes on.
func (s Status) While(holder journal.Holder, runs []journal.Run) Status {
	s.Running = &Running{Holder: holder}
	if s.Unfinished == nil || len(runs) == 0 {
		return s
	}
	last := runs[len(runs)-1]
	if last.Ended != nil || last.Verb != holder.Verb || last.Began.Before(holder.Began) {
		return s // it has not begun to change anything
	}
	s.Unfinished = nil
	s.Running.Begun = len(last.Steps)
	s.Running.Steps, _ = strconv.Atoi(last.Args[run.ArgSteps])
	if len(last.Steps) > 0 {
		s.Running.Step = last.At()
	}
	return s
}

// statusTimeout bounds how long a cluster may take to answer: an answer comes
// within two seconds, also when the cluster does not.
const statusTimeout = 1500 * time.Millisecond

// Of looks at the host that r runs on and at its cluster; it changes nothing.
func Of(ctx context.Context, r *run.Run) (Status, error) {
	if err := run.NeedRoot("tell the status"); err != nil {
		return Status{}, err
	}
	s, err := Look(ctx, r.ReadOnly().Host, r.DataDir, r.Now)
	holder, held := r.Holder()
	if err != nil || !held {
		return s, err
	}
	j, err := journal.Open(r.ReadOnly().Host, r.DataDir, r.Now)
	if err == nil {
		s = s.While(holder, j.Runs())
	}
	return s, err
}

// Look looks at a host and its cluster, through a host that can only look.
// A cluster that does not answer is a warning in the answer, not an error.
func Look(ctx context.Context, h host.Host, dataDir string, now func() time.Time) (Status, error) {
	j, err := journal.Open(h, dataDir, now)
	if err != nil {
		return Status{}, err
	}
	r, installed, err := journal.ReadReceipt(h, dataDir)
	if err != nil {
		return Status{}, err
	}
	s := Status{Installed: installed, Name: r.Name, Role: r.Role, Bundle: r.Bundle, Versions: r.Versions, Warnings: slices.Clone(r.Warnings)}
	if j.Notice() != "" {
		s.Warnings = append(s.Warnings, j.Notice())
	}
	if runs := j.Runs(); len(runs) > 0 {
		if last := runs[len(runs)-1]; last.Unfinished() {
			s.Unfinished = &Unfinished{Verb: last.Verb, Began: last.Began, Step: last.At(), Failed: last.Failed}
		}
	} else {
		return s, nil
	}
	service := k0s.Unit
	if r.Role == nodes.Worker {
		service = k0s.WorkerUnit
	}
	for unit, word := range map[string]*string{service: &s.Service, node.AgentUnit: &s.Agent} {
		state, err := h.UnitState(ctx, unit)
		if err != nil {
			return s, err
		}
		*word = state.Active
	}
	s.Certificates = certificates(h)
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	cluster(ctx, h, r, &s)
	return s, nil
}

// cluster asks the cluster for its nodes, add-ons and console, all at once.
// What does not answer is a warning.
func cluster(ctx context.Context, h host.Files, r journal.Receipt, s *Status) {
	client, _, err := nodes.Client(h)
	if err != nil {
		s.Warnings = append(s.Warnings, "the cluster does not answer: "+err.Error())
		return
	}
	var asking sync.WaitGroup
	if r.Role != nodes.Worker { // the rest is for controllers to see
		asking.Go(func() { s.AddOns = addOns(ctx, client, r) })
		if r.Console.Port != 0 {
			asking.Go(func() { s.Console = console(ctx, client, r) })
		}
	}
	s.View, err = nodes.Look(ctx, h)
	asking.Wait()
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		s.Warnings = append(s.Warnings, "the cluster does not answer within "+statusTimeout.String())
	case err != nil:
		s.Warnings = append(s.Warnings, "the cluster does not answer: "+err.Error())
	}
	s.Warnings = append(s.Warnings, s.Problems...)
}

// addOns asks for the pods of each add-on.
func addOns(ctx context.Context, client *kube.Client, r journal.Receipt) []AddOnStatus {
	out := make([]AddOnStatus, len(r.AddOns))
	var asking sync.WaitGroup
	for i, part := range r.AddOns {
		asking.Go(func() {
			reason, err := client.PodsReason(ctx, part.Namespace)
			switch {
			case errors.Is(err, context.DeadlineExceeded):
				reason = "the cluster did not say in time"
			case err != nil:
				reason = "the cluster did not say: " + err.Error()
			}
			out[i] = AddOnStatus{Name: part.Name, Version: part.Version, Ready: reason == "", Reason: reason}
		})
	}
	asking.Wait()
	return out
}

// console asks the console itself how it is, at the node's own address.
func console(ctx context.Context, client *kube.Client, r journal.Receipt) *ConsoleStatus {
	c := &ConsoleStatus{URL: compose.ConsoleURL(r.Console, r.Address)}
	var asking sync.WaitGroup
	var waits string
	asking.Go(func() { waits = stranded(ctx, client, r.Console.Namespace) })
	cert, _, err := front.Front{Kube: client, Namespace: r.Console.Namespace}.Certificate(ctx)
	if err == nil {
		var h front.Health
		h, err = front.Ask(ctx, compose.ConsoleURL(journal.Console{Port: r.Console.Port}, r.Address), cert)
		c.Version, c.Ready = h.Version, err == nil && h.Database && h.Storage
	}
	asking.Wait()
	switch {
	case !c.Ready && waits != "":
		c.Reason = waits
	case err != nil:
		c.Reason = problem.Plain(err.Error())
	case !c.Ready:
		c.Reason = "it answers, but its database or its storage is not available"
	}
	return c
}

// stranded says that the console waits for a node which has its files and is not
// there; "" where that is not so, or cannot be told.
func stranded(ctx context.Context, client *kube.Client, namespace string) string {
	name, err := member.Home(ctx, client, namespace, kots.FilesClaim)
	if err != nil || name == "" {
		return ""
	}
	if n, err := client.Node(ctx, name); err != nil || n.Ready {
		return ""
	}
	return fmt.Sprintf("its files are on node %s alone, which is not Ready; it answers again when that node is back. `plinth node remove %s --force` gives them up and has it begin on another node", name, name)
}

// certificates lists the cluster's own certificates on this host, the first to
// end first.
func certificates(h host.Files) []Certificate {
	dir := filepath.Join(k0s.DataDir, "pki")
	entries, err := h.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []Certificate
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".crt") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		raw, err := h.ReadFile(path)
		if err != nil {
			continue
		}
		block, _ := pem.Decode(raw)
		if block == nil {
			continue
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			out = append(out, Certificate{Path: path, Expires: cert.NotAfter.UTC()})
		}
	}
	slices.SortFunc(out, func(x, y Certificate) int { return x.Expires.Compare(y.Expires) })
	return out
}
