package certificates

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/token"
)

// WatchInterval is how often the agent of a controller reads the certificates in files. The first time is that long
// after its start, when the clock of a host that has just booted is right.
const WatchInterval = 5 * time.Minute

// clusterInterval is how often it reads those in the cluster: each read is a line in the audit log.
const clusterInterval = time.Hour

// Watch renews the certificates of this controller and of its cluster when they are due.
type Watch struct {
	*action.Env
	clusterRead time.Time // when those of the cluster were read
}

// Run checks at each tick until ctx ends.
func (w *Watch) Run(ctx context.Context, tick <-chan time.Time) {
	failure := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		err := w.check(ctx)
		if err != nil && err.Error() != failure && ctx.Err() == nil {
			w.Note("cannot renew certificates: " + err.Error())
		}
		if failure = ""; err != nil {
			failure = err.Error()
		}
	}
}

// check starts a renewal if a certificate is due and the last attempt is long enough ago. It does nothing while a
// command changes this host, and on a host that the cluster has removed.
func (w *Watch) check(ctx context.Context) error {
	if _, held := w.LockHolder(); held {
		return nil
	}
	receipt, installed, err := journal.ReadReceipt(w.Host, w.DataDir)
	if err != nil || !installed || receipt.Role == token.Worker {
		return err
	}
	if _, removed, err := node.ReadRemoval(w.Host, w.DataDir); err != nil || removed {
		return err
	}
	due, clusterErr := w.readDue(ctx, receipt)
	if len(due) == 0 {
		return clusterErr
	}
	last, err := readAttempt(w.Host, w.DataDir)
	if err != nil {
		return err
	}
	now := w.Now()
	if since := now.Sub(last); since >= 0 && since < urgencyOf(leastLeft(due)).retry { // a time in the future is of a wrong clock
		return clusterErr
	}
	if err := writeAttempt(w.Host, w.DataDir, now); err != nil {
		return err
	}
	return errors.Join(clusterErr, w.startRenewal(ctx))
}

// readDue returns the certificates that are due: those in files and, once in clusterInterval, those of the cluster.
func (w *Watch) readDue(ctx context.Context, receipt journal.Receipt) (due []Certificate, err error) {
	all := ReadHost(w.Host, w.DataDir, w.Now())
	if since := w.Now().Sub(w.clusterRead); since < 0 || since >= clusterInterval {
		if all, err = readAll(ctx, w.Env, receipt); err == nil {
			w.clusterRead = w.Now()
		}
	}
	return slices.DeleteFunc(all, func(c Certificate) bool { return !c.Due }), err
}

// renewalUnit is the transient unit that renews certificates.
const renewalUnit = "plinth-renew-certificates"

// startRenewal starts `plinth certificates renew` outside of the restrictions of the agent's unit, which may not
// write the files of k0s and take the lock of the host.
func (w *Watch) startRenewal(ctx context.Context) error {
	st, err := w.Host.UnitState(ctx, renewalUnit+".service")
	if err != nil || st.StartingOrRunning() {
		return err
	}
	_, err = w.Host.Run(ctx, host.Cmd{Timeout: time.Minute, Argv: []string{"systemd-run", "--quiet", "--collect", "--unit=" + renewalUnit,
		"--property=RuntimeMaxSec=20min", "--description=Plinth renews certificates that will end",
		node.AgentBinary, "--data-dir", strings.ReplaceAll(w.DataDir, "$", "$$"), "--progress", "none", "certificates", "renew", "--yes"}})
	return err
}

// attempt is what the agent stores about the last renewal that it has started.
type attempt struct {
	At time.Time `json:"at"` // UTC
}

// attemptPath returns the file of the last attempt. It limits restarts of k0s also if the agent restarts often.
func attemptPath(dataDir string) string { return dataDir + "/agent/renewal.json" }

// readAttempt returns when the last attempt was; zero for never. A damaged file counts as never, because it is
// replaced with the next attempt.
func readAttempt(h host.Files, dataDir string) (time.Time, error) {
	raw, err := h.ReadFile(attemptPath(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	var a attempt
	if err == nil && json.Unmarshal(raw, &a) != nil {
		return time.Time{}, nil
	}
	return a.At, err
}

func writeAttempt(h host.Files, dataDir string, now time.Time) error {
	raw, err := json.Marshal(attempt{now.UTC()})
	if err != nil {
		return err
	}
	return h.Write(attemptPath(dataDir), strings.NewReader(string(raw)+"\n"), 0o600)
}
