package host

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// procfs implements Processes with /proc.
type procfs struct{ root string }

var _ Processes = procfs{}

func (p procfs) ListProcesses() ([]Process, error) {
	dirs, err := filepath.Glob(filepath.Join(p.root, "/proc/[0-9]*"))
	if err != nil {
		return nil, err
	}
	var all []Process
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		// A process that ends while it is being read is left out.
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		exe, _ := os.Readlink(filepath.Join(dir, "exe"))
		all = append(all, Process{PID: pid, PPID: parsePPID(stat), Exe: strings.TrimSuffix(exe, " (deleted)"), Args: splitArgs(cmdline)})
	}
	return all, nil
}

func (procfs) Terminate(pid int) error { return sendSignal(pid, unix.SIGTERM) }

func (procfs) Kill(pid int) error { return sendSignal(pid, unix.SIGKILL) }

func sendSignal(pid int, s unix.Signal) error {
	if err := unix.Kill(pid, s); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// parsePPID returns the pid of the parent from the content of /proc/PID/stat: the second field
// after the command name, which is in parentheses and may itself contain parentheses. It returns 0
// if the field is missing.
func parsePPID(stat []byte) int {
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	ppid, _ := strconv.Atoi(fields[1])
	return ppid
}

// splitArgs returns the arguments in the content of /proc/PID/cmdline.
func splitArgs(cmdline []byte) []string {
	cmdline = bytes.TrimRight(cmdline, "\x00")
	if len(cmdline) == 0 {
		return nil
	}
	return strings.Split(string(cmdline), "\x00")
}
