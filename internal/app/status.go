package app

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
)

// Status is what is installed on this host and how it is; its JSON form is
// public.
type Status struct {
	Installed    bool              `json:"installed"`
	Name         string            `json:"name,omitempty"`
	Role         string            `json:"role,omitempty"`
	Bundle       string            `json:"bundle,omitempty"`
	Versions     map[string]string `json:"versions,omitempty"`
	Service      string            `json:"service,omitempty"` // systemd's word for k0s: active, failed, …
	Nodes        []NodeStatus      `json:"nodes,omitempty"`
	AddOns       []AddOnStatus     `json:"addons,omitempty"`
	Console      *ConsoleStatus    `json:"console,omitempty"`
	Certificates []Certificate     `json:"certificates,omitempty"`
	Unfinished   *Unfinished       `json:"unfinished,omitempty"` // a run that was killed or failed
	Warnings     []string          `json:"warnings,omitempty"`   // what was skipped on request, and what is wrong now
}

// NodeStatus is one node of the cluster.
type NodeStatus struct {
	Name      string   `json:"name"`
	Ready     bool     `json:"ready"`
	Reason    string   `json:"reason,omitempty"` // why it is not Ready
	Version   string   `json:"version"`
	Addresses []string `json:"addresses"`
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
	Reason  string `json:"reason,omitempty"`  // why it does not answer
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

// statusTimeout bounds how long a cluster may take to answer.
const statusTimeout = 10 * time.Second

// Status looks at this host and its cluster; it changes nothing. A cluster
// that does not answer is a warning in the answer, not an error.
func (a *App) Status(ctx context.Context) (Status, error) {
	if err := needRoot("tell the status"); err != nil {
		return Status{}, err
	}
	look := a.readOnly()
	j, err := journal.Open(look.host, a.DataDir, a.Now)
	if err != nil {
		return Status{}, err
	}
	r, installed, err := journal.ReadReceipt(look.host, a.DataDir)
	if err != nil {
		return Status{}, err
	}
	s := Status{Installed: installed, Name: r.Name, Role: r.Role, Bundle: r.Bundle, Versions: r.Versions, Warnings: slices.Clone(r.Warnings)}
	if runs := j.Runs(); len(runs) > 0 {
		if last := runs[len(runs)-1]; last.Unfinished() {
			s.Unfinished = &Unfinished{Verb: last.Verb, Began: last.Began, Step: last.At(), Failed: last.Failed}
		}
	} else {
		return s, nil
	}
	unit, err := look.host.UnitState(ctx, k0s.Unit)
	if err != nil {
		return s, err
	}
	s.Service = unit.Active
	s.Certificates = look.certificates()
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	if err := look.clusterStatus(ctx, r, &s); err != nil {
		s.Warnings = append(s.Warnings, "the cluster does not answer: "+err.Error())
	}
	return s, nil
}

// clusterStatus asks the cluster for its nodes, add-ons and console.
func (a *App) clusterStatus(ctx context.Context, r journal.Receipt, s *Status) error {
	client, err := a.kube()
	if err != nil {
		return err
	}
	nodes, err := client.Nodes(ctx)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		s.Nodes = append(s.Nodes, NodeStatus{Name: n.Name, Ready: n.Ready, Reason: n.Reason, Version: n.Version, Addresses: n.Addresses})
	}
	for _, part := range r.AddOns {
		reason, err := client.PodsReason(ctx, part.Namespace)
		if err != nil {
			return err
		}
		s.AddOns = append(s.AddOns, AddOnStatus{Name: part.Name, Version: part.Version, Ready: reason == "", Reason: reason})
	}
	return nil
}

// kube is a client of this host's cluster.
func (a *App) kube() (*kube.Client, error) {
	conf, err := a.host.ReadFile(k0s.AdminConf)
	if err != nil {
		return nil, err
	}
	return kube.New(conf)
}

// certificates lists the cluster's own certificates on this host, the first to
// end first.
func (a *App) certificates() []Certificate {
	dir := filepath.Join(k0s.DataDir, "pki")
	entries, err := a.host.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []Certificate
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".crt") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		raw, err := a.host.ReadFile(path)
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
