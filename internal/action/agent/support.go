package agent

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/node"
)

// supportCollector collects the part of a support bundle that describes this node, for controllers.
type supportCollector struct{ *action.Env }

var _ agent.SupportCollector = supportCollector{}

// Names in the folder of a collection.
const (
	supportPartExt  = ".tar.gz"
	supportStartExt = ".started" // an empty file: the collection was started
)

// SupportState returns the state of the last collection.
func (c supportCollector) SupportState(ctx context.Context) (s agent.SupportState, err error) {
	if s.ID, _, err = c.readFolder(); err != nil || s.ID == "" {
		return s, err
	}
	if s.Running, err = c.runs(ctx); err != nil || s.Running {
		return s, err
	}
	_, part, err := c.readFolder() // again: it may have ended in between
	if err != nil {
		return s, err
	}
	if part == nil {
		s.Failed = "the collection has failed; see there: sudo journalctl -u " + desired.SupportUnit
		return s, nil
	}
	s.Size = part.Size()
	return s, nil
}

// readFolder returns the id of the last collection, "" if there was none, and the file with its part, nil if there is
// none.
func (c supportCollector) readFolder() (started string, part fs.FileInfo, err error) {
	entries, err := c.Host.ReadDir(desired.SupportDir(c.DataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, nil
	}
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), supportStartExt); ok && !strings.HasPrefix(id, ".") {
			started = id
		}
	}
	if err != nil || started == "" {
		return "", nil, err
	}
	part, err = c.Host.Lstat(desired.SupportPartPath(c.DataDir, started))
	if errors.Is(err, fs.ErrNotExist) {
		return started, nil, nil
	}
	return started, part, err
}

// runs reports whether a collection runs.
func (c supportCollector) runs(ctx context.Context) (bool, error) {
	st, err := c.Host.UnitState(ctx, desired.SupportUnit+".service")
	return st.StartingOrRunning() || st.Active == "deactivating", err
}

// StartSupport starts a collection as a transient unit, with the rights that it needs to read the host. The part of an
// earlier one is removed.
func (c supportCollector) StartSupport(ctx context.Context, q agent.SupportRequest) error {
	running, err := c.runs(ctx)
	if err != nil {
		return err
	}
	if running {
		started, _, err := c.readFolder()
		if err != nil || started == q.ID {
			return err
		}
		return &agent.StatusError{Reason: "it collects another support bundle now", Status: http.StatusLocked}
	}
	dir := desired.SupportDir(c.DataDir)
	if err := c.Host.RemoveAll(dir); err != nil {
		return err
	}
	if err := c.Host.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := c.Host.Write(path.Join(dir, q.ID+supportStartExt), strings.NewReader(""), 0o600); err != nil {
		return err
	}
	_, err = c.Host.Run(ctx, host.Cmd{Argv: append(supportUnitCommand(), node.AgentBinary, "--data-dir", strings.ReplaceAll(c.DataDir, "$", "$$"),
		"--progress", "none", "agent", "--support-part", q.ID, "--support-since", strconv.FormatInt(q.Since, 10)+"s",
		"--support-bytes", strconv.FormatInt(q.Limit, 10)), Timeout: time.Minute})
	return err
}

// supportUnitProperties restrict the unit of a collection. It reads files and processes of all users, and rules of the
// packet filter, so it has the capabilities for this; it writes only what root owns, and Plinth writes only the part. It
// has no mount namespace (ProtectSystem and the like), because it would see other mounts and settings of the kernel than
// the host has. systemd-run refuses what systemd does not know: all are in version 239 (RHEL 8).
var supportUnitProperties = []string{
	"RuntimeMaxSec=" + strconv.Itoa(int(desired.SupportRunTime.Seconds())),
	"Nice=10", "IOSchedulingClass=idle", "MemoryMax=1G", "TasksMax=256", "UMask=0077",
	"NoNewPrivileges=yes",
	"CapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_SYS_PTRACE CAP_NET_ADMIN CAP_NET_RAW",
	"SystemCallArchitectures=native",
	"SystemCallFilter=~@cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap",
	"SystemCallErrorNumber=EPERM",
	"RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
	"RestrictNamespaces=yes", "RestrictRealtime=yes", "LockPersonality=yes",
}

// supportUnitCommand returns the beginning of the command that starts a collection, up to the program.
func supportUnitCommand() []string {
	argv := []string{"systemd-run", "--quiet", "--collect", "--unit=" + desired.SupportUnit, "--description=Plinth collects the state and the logs of this node",
		"--setenv=GOMEMLIMIT=512MiB", "--setenv=GOMAXPROCS=2"}
	for _, p := range supportUnitProperties {
		argv = append(argv, "--property="+p)
	}
	return argv
}

// TakeSupport removes the part of a collection, and returns its content and size.
func (c supportCollector) TakeSupport(id string) (io.ReadCloser, int64, error) {
	started, part, err := c.readFolder()
	if err != nil {
		return nil, 0, err
	}
	if part == nil || started != id {
		return nil, 0, fs.ErrNotExist
	}
	content, err := c.Host.OpenFile(desired.SupportPartPath(c.DataDir, id))
	if err != nil {
		return nil, 0, err
	}
	if err := c.Host.RemoveAll(desired.SupportDir(c.DataDir)); err != nil {
		return nil, 0, errors.Join(err, content.Close())
	}
	return content, part.Size(), nil // it is read although it has no name any more
}

// supportMaxAge is how long a part stays on a node whose controller does not fetch it.
const supportMaxAge = 10 * time.Minute

// removeStale removes what collections have left: parts that no controller has fetched, and those of killed runs.
func (c supportCollector) removeStale(ctx context.Context) error {
	dir := desired.SupportDir(c.DataDir)
	info, err := c.Host.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || c.Now().Sub(info.ModTime()) < supportMaxAge {
		return err
	}
	if running, err := c.runs(ctx); err != nil || running {
		return err
	}
	return c.Host.RemoveAll(dir)
}

// watchStale removes stale parts at each tick until ctx ends.
func (c supportCollector) watchStale(ctx context.Context, tick <-chan time.Time) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick:
			if err := c.removeStale(ctx); err != nil && ctx.Err() == nil {
				c.Note("cannot remove what is left of a support bundle: " + err.Error())
			}
		}
	}
}
