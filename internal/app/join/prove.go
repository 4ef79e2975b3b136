package join

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/internal/agent/peer"
	"github.com/plinthdev/plinth/internal/app/compose"
	"github.com/plinthdev/plinth/internal/app/reset/parting"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/host/argv"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
	"github.com/plinthdev/plinth/internal/wait"
)

// FromCommandLine takes a token that stood on this process's command line, and has
// it stand there no more: a join takes minutes, and ps shows it to everybody.
func FromCommandLine(token string) string { return argv.Hide(token) }

// How far a host's clock may be off the cluster's. etcd warns at 1 s;
// certificates that were just made are not valid yet for a clock that is
// behind.
const (
	clockWarn = 2 * time.Second
	clockMost = time.Minute
)

// clockOffset is how far this host's clock is ahead, when it asked at one time
// and was answered at another.
func clockOffset(asked, answered, cluster time.Time) time.Duration {
	middle := asked.Add(answered.Sub(asked) / 2)
	return middle.Sub(cluster)
}

func judgeClock(offset time.Duration) error {
	if offset.Abs() <= clockMost {
		return nil
	}
	side := "ahead of"
	if offset < 0 {
		side = "behind"
	}
	return refused(fmt.Errorf("this host's clock is %s %s the cluster's; at most %s is safe", offset.Abs().Round(time.Second), side, clockMost),
		"set the clock, best by time synchronisation: timedatectl set-ntp true")
}

// leaving refuses a host that is about to leave a cluster: of what is on it
// nobody would know what counts.
func leaving(j *journal.Journal) error {
	if left, ok := parting.Leaving(j); ok {
		return refused(fmt.Errorf("this host is about to leave a cluster: its reset stopped at step %s", left.At()), "finish that first: sudo plinth reset node")
	}
	return nil
}

// another refuses a host that is, or began to be, part of something else.
func (a job) another(r journal.Receipt) error {
	const hint = "`plinth reset node` has this host leave that cluster and takes away what is here; `plinth reset cluster` does where this host is all of it"
	if r.Role != "" && r.Role != a.token.Role {
		return refused(fmt.Errorf("this host is a %s of %s, and the token is for a %s", r.Role, r.Name, a.token.Role), hint)
	}
	raw, err := a.Host.ReadFile(k0s.CACert)
	if err != nil {
		return nil // there is no cluster here
	}
	if block, _ := pem.Decode(raw); block != nil {
		if ca, err := x509.ParseCertificate(block.Bytes); err == nil && token.Pin(ca) == a.token.Pin {
			return nil
		}
	}
	return refused(fmt.Errorf("this host is part of another cluster than the token's, %s", a.token.Cluster), hint)
}

// The journal's names for what a join was asked for.
const (
	argRole = "role"
	argPin  = "pin" // of the cluster's authority
)

// other refuses a host whose reset stopped halfway, and a token that is for
// something else than the unfinished join that it would go on with.
func other(runs []journal.Run, t token.Token) error {
	if len(runs) == 0 {
		return nil
	}
	last := runs[len(runs)-1]
	began := last.Began.Format(time.RFC3339)
	switch {
	case last.Verb == "reset" && last.Unfinished():
		return refused(fmt.Errorf("the reset begun at %s is not finished: what it left is no place for a node", began), "finish it first: sudo plinth reset cluster")
	case last.Verb != "join" || !last.Unfinished():
		return nil
	}
	const hint = "give a token for what was begun, or take it back first: plinth reset cluster"
	if was := last.Args[argRole]; was != "" && was != t.Role {
		return refused(fmt.Errorf("this host began to join as a %s at %s, and the token is for a %s", was, began, t.Role), hint)
	}
	if was := last.Args[argPin]; was != "" && was != t.Pin {
		return refused(fmt.Errorf("this host began to join another cluster than the token's at %s, %s", began, last.Args[run.ArgName]), hint)
	}
	return nil
}

// unreachable words why nobody let this host in.
func (a job) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	again := "make a new token on a controller: sudo plinth token create --role " + a.token.Role
	var no *peer.Denied
	switch {
	case errors.As(err, &no):
		return refused(no, again)
	case errors.Is(err, peer.ErrPin):
		return refused(fmt.Errorf("who answers at %s is not the cluster that the token is for: %w", strings.Join(a.token.Addresses, ", "), peer.ErrPin), again)
	case a.Now().After(a.token.Expires):
		err = fmt.Errorf("no controller answers, and the token expired at %s: %w", a.token.Expires.Format(time.RFC3339), err)
		return refused(err, again)
	}
	return refused(fmt.Errorf("no controller answers: %w", err),
		"this host must reach port 9444/tcp of a controller; on the controller: systemctl status plinth-agent")
}

// openBundle opens the file that was given, or what the cluster's nodes hold.
func (a job) openBundle(ctx context.Context, s *site, file string) (err error) {
	if file != "" {
		s.bundle, err = airgap.Open(ctx, file)
	} else {
		s.bundle, err = a.held(ctx, s)
	}
	if err != nil {
		return err
	}
	s.close = func() { _ = s.bundle.Close() }
	raw, err := s.bundle.Installer(ctx)
	if err != nil {
		return err
	}
	var findings []spec.Finding
	if s.installer, findings = spec.ParseInstaller("installer.yaml in the bundle", raw); s.installer == nil {
		return spec.Problem("use the bundle", findings)
	}
	return nil
}

func (a job) held(ctx context.Context, s *site) (*airgap.Bundle, error) {
	a.cluster.Spread(s.offer.Nodes)
	index, err := a.cluster.Document(ctx, s.offer.Bundle, blob.MaxDocument)
	if err != nil {
		return nil, problem.New(problem.ExitBundle, "fetch the bundle's index from the cluster", err, "bring the bundle to this host and name it with --bundle; nothing on this host was changed")
	}
	return airgap.OpenHeld(ctx, index, a.cluster, "the bundle of cluster "+s.offer.Cluster)
}

// agree refuses what would only show once the node is up, or never.
func (a job) agree(s *site) error {
	here := compose.Agreement(s.installer, s.bundle.Digest().String(), a.DataDir, a.Version)
	s.differ = compose.Differ(here, s.offer.Fields)
	if len(s.differ) == 0 {
		return nil
	}
	var names []string
	for _, d := range s.differ {
		names = append(names, d[0])
	}
	return refused(fmt.Errorf("this host's configuration differs from the cluster's in %s", strings.Join(names, ", ")),
		"leave --bundle away to take all from the cluster, or use the bundle, the plinth and the --data-dir that it was installed with")
}

// door is how the steps are let in.
type door struct {
	job
	site site
}

// admitTimeout is how long a host waits for its turn.
const admitTimeout = 10 * time.Minute

// Admit asks until the cluster is no longer busy.
func (d door) Admit(ctx context.Context, report step.Report) (k0sToken []byte, files map[string][]byte, err error) {
	err = wait.Until(ctx, wait.Options{What: "the cluster to let this host in", Timeout: admitTimeout, Interval: 2 * time.Second,
		Next:     "sudo plinth node list   (on a controller)",
		OnReason: func(reason string) { report(reason, 0, 0) }},
		func(ctx context.Context) (bool, string, error) {
			a, err := d.cluster.Admit(ctx, d.claim(d.site))
			var later *peer.Busy
			if errors.As(err, &later) {
				return false, later.Why, nil
			}
			var no *peer.Denied
			if errors.As(err, &no) {
				return false, "", problem.New(problem.ExitJoin, "join", no, "make a new token on a controller and run join with it: it goes on where it stopped")
			}
			if err != nil {
				return false, err.Error(), nil
			}
			d.Secrets.Hide(a.Token)
			k0sToken, files = []byte(a.Token), a.Files
			return true, "", nil
		})
	return k0sToken, files, err
}
