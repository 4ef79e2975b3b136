package host_test

import (
	"bytes"
	"context"
	"errors"
	"github.com/plinthdev/plinth/internal/testkit"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/internal/host"
)

func shell(script string) host.Cmd { return host.Cmd{Argv: []string{"sh", "-c", script}} }

// runFailing runs c, which must fail, and returns its error.
func runFailing(ctx context.Context, t *testing.T, c host.Cmd) *host.CommandError {
	t.Helper()
	_, err := host.Local("/").Run(ctx, c)
	var ce *host.CommandError
	if !errors.As(err, &ce) {
		t.Fatalf("error is %v", err)
	}
	return ce
}

func TestRun_ReturnsStdoutAndCopiesBothStreams(t *testing.T) {
	var copied bytes.Buffer
	c := shell(`cat; echo "$WORD"; echo aside >&2`)
	c.Stdin, c.Env, c.Output = strings.NewReader("in\n"), []string{"WORD=from the environment"}, &copied
	out, err := host.Local("/").Run(t.Context(), c)
	if err != nil || string(out) != "in\nfrom the environment\n" {
		t.Errorf("out %q, error %v", out, err)
	}
	for _, want := range []string{"in\n", "from the environment\n", "aside\n"} { // in any order: two streams
		if !strings.Contains(copied.String(), want) {
			t.Errorf("Output got %q, want also %q", copied.String(), want)
		}
	}
}

func TestRun_KeepsTheEndOfStdout(t *testing.T) {
	c := shell(`seq 3000; echo aside >&2; echo the end`)
	c.MaxOutput = 15
	out, err := host.Local("/").Run(t.Context(), c)
	if err != nil || string(out) != "9\n3000\nthe end\n" {
		t.Errorf("out %q, error %v", out, err)
	}
}

func TestCommandError_NamesCommandCodeAndLastOutput(t *testing.T) {
	ce := runFailing(t.Context(), t, shell(`exec >&2; i=0; while [ $i -lt 600 ]; do echo line $i; i=$((i+1)); done; echo the reason; exit 3`))
	if ce.Code != 3 || ce.Argv[0] != "sh" || ce.Err != nil {
		t.Errorf("it is %+v", ce)
	}
	if !strings.HasSuffix(ce.Tail, "line 599\nthe reason") || len(ce.Tail) > 2048 || strings.Contains(ce.Tail, "line 0\n") {
		t.Errorf("tail of %d bytes ends in %q", len(ce.Tail), ce.Tail[max(0, len(ce.Tail)-40):])
	}
	if s := ce.Error(); !strings.Contains(s, "`sh -c") || !strings.Contains(s, "exited with code 3") || !strings.Contains(s, "the reason") {
		t.Errorf("it reads %s", s)
	}
}

func TestCommandError_HasNoCodeWhenNeverRunOrKilled(t *testing.T) {
	ce := runFailing(t.Context(), t, host.Cmd{Argv: []string{"/no/such/program"}})
	if ce.Code != -1 || !errors.Is(ce, os.ErrNotExist) {
		t.Errorf("missing program: %+v", ce)
	}
	if ce := runFailing(t.Context(), t, shell("kill -9 $$")); ce.Code != -1 || !strings.Contains(ce.Error(), "killed") {
		t.Errorf("killed program: %v", ce)
	}
}

func TestRun_HidesUserVariablesFromCommands(t *testing.T) {
	t.Setenv("KUBECONFIG", "/home/user/conf")
	t.Setenv("LC_ALL", "de_DE.UTF-8")
	t.Setenv("HOME", "/root")
	out, err := host.Local("/").Run(t.Context(), host.Cmd{Argv: []string{"env"}, Env: []string{"MINE=1"}})
	got := string(out)
	if err != nil || strings.Contains(got, "KUBECONFIG") || !strings.Contains(got, "LC_ALL=C\n") || !strings.Contains(got, "HOME=/root\n") || !strings.Contains(got, "MINE=1\n") {
		t.Errorf("%v: %s", err, got)
	}
}

func TestRun_FindsProgramsWithoutUsersPath(t *testing.T) {
	here := t.TempDir()
	testkit.WriteFiles(t, here, 0o755, map[string]string{"id": "#!/bin/sh\necho mine\n"})
	t.Chdir(here)
	const standard = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for given, want := range map[string]string{
		"": standard, ":": standard, ".:/usr/bin:": "/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/bin",
		"/opt/my/bin:/usr/bin:/bin": "/opt/my/bin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin", standard: standard,
	} {
		t.Run("PATH="+given, func(t *testing.T) {
			t.Setenv("PATH", given)
			for script, want := range map[string]string{"echo $PATH": want, "id -u": strconv.Itoa(os.Geteuid())} {
				out, err := host.Local("/").Run(t.Context(), shell(script))
				if got := strings.TrimSpace(string(out)); err != nil || got != want {
					t.Errorf("%s: %q, %v; want %q", script, got, err, want)
				}
			}
		})
	}
}

func TestCommandError_MasksValuesOfEnv(t *testing.T) {
	c := shell(`echo "login failed for $SECRET" >&2; exit 1`)
	c.Env = []string{"SECRET=hunter2-hunter2", "SHORT=1"}
	if s := runFailing(t.Context(), t, c).Error(); strings.Contains(s, "hunter2") || !strings.Contains(s, "login failed for ******") {
		t.Errorf("error is %s", s)
	}
}

func TestRun_NamesTimeoutInError(t *testing.T) {
	c := shell("echo still trying; sleep 60")
	c.Timeout = 300 * time.Millisecond
	ce := runFailing(t.Context(), t, c)
	if ce.Code != -1 || !strings.Contains(ce.Error(), "timed out after 300ms") {
		t.Errorf("error is %v", ce)
	}
	if errors.Is(ce, context.DeadlineExceeded) {
		t.Errorf("it is a bare deadline: %v", ce)
	}
}

func TestRun_CancelEndsWholeProcessGroup(t *testing.T) {
	for name, script := range map[string]string{
		"children that end on SIGTERM":      `sleep 60 & echo $! >"$FILE"; wait`,
		"a grandchild that ignores SIGTERM": `(trap "" TERM; exec sleep 60) >/dev/null 2>&1 & echo $! >"$FILE"; wait`,
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pid")
			c := shell(script)
			c.Env = []string{"FILE=" + file}
			stop := errors.New("the user said stop")
			ctx, cancel := context.WithCancelCause(t.Context())
			pids := make(chan int, 1)
			go func() {
				pid := 0
				for ctx.Err() == nil && pid == 0 {
					b, _ := os.ReadFile(file)
					pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
					time.Sleep(time.Millisecond)
				}
				pids <- pid
				cancel(stop)
			}()
			if ce := runFailing(ctx, t, c); !errors.Is(ce, stop) || ce.Code != -1 {
				t.Errorf("error is %v, want the cause of the context", ce)
			}
			pid := <-pids
			if deadline := time.Now().Add(30 * time.Second); pid == 0 || !waitGone(pid, deadline) {
				t.Errorf("process %d is still there", pid)
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		})
	}
}

// crashingRunEnv is the environment variable that turns the test binary into a run that holds a
// lock, runs a program and is killed: see TestLock_HeldByProgramsOfKilledRun.
const crashingRunEnv = "PLINTH_TEST_RUNS_AND_DIES"

func TestLock_HeldByProgramsOfKilledRun(t *testing.T) {
	dir := t.TempDir()
	lock, child, grandchild := filepath.Join(dir, "lock"), filepath.Join(dir, "child"), filepath.Join(dir, "grandchild")
	if os.Getenv(crashingRunEnv) != "" {
		dir = os.Getenv(crashingRunEnv)
		if _, _, err := host.Lock(filepath.Join(dir, "lock"), nil); err != nil {
			t.Fatal(err)
		}
		script := "sleep 60 & echo $! >" + dir + "/.g; mv " + dir + "/.g " + dir + "/grandchild; echo $$ >" + dir + "/.c; mv " + dir + "/.c " + dir + "/child; wait"
		_, err := host.Local("/").Run(t.Context(), shell(script))
		t.Fatalf("the program ended: %v", err)
	}
	run := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	run.Env = append(os.Environ(), crashingRunEnv+"="+dir)
	testkit.Must(t, run.Start())
	pid := func(file string) (n int) {
		for n == 0 {
			b, _ := os.ReadFile(file)
			n, _ = strconv.Atoi(strings.TrimSpace(string(b)))
			time.Sleep(time.Millisecond)
		}
		return n
	}
	theirs, below := pid(child), pid(grandchild)
	testkit.Must(t, run.Process.Kill())
	_ = run.Wait()
	if !waitGone(theirs, time.Now().Add(5*time.Second)) {
		t.Errorf("the program %d outlived the run", theirs)
	}
	if _, _, err := host.Lock(lock, nil); !errors.Is(err, host.ErrLocked) {
		t.Errorf("what the program had started runs, but the lock is free: %v", err)
	}
	testkit.Must(t, unix.Kill(below, unix.SIGKILL))
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		release, _, err := host.Lock(lock, nil)
		if err == nil {
			testkit.Must(t, release())
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// waitGone reports whether pid ends before deadline. A zombie has ended.
func waitGone(pid int, deadline time.Time) bool {
	for time.Now().Before(deadline) {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

func TestReadOnly_RefusesEveryChange(t *testing.T) {
	root := t.TempDir()
	writeFile(t, host.Local(root), "/etc/app/conf", "as it was")
	h := host.ReadOnly(host.Local(root))
	ctx := t.Context()
	marker := filepath.Join(root, "marker")
	for name, err := range map[string]error{
		"Run":         errorOf(h.Run(ctx, shell("touch "+marker))),
		"Write":       h.Write("/etc/app/conf", strings.NewReader("changed"), 0o600),
		"MkdirAll":    h.MkdirAll("/etc/app/dir", 0o755),
		"RemoveAll":   h.RemoveAll("/etc/app"),
		"Symlink":     h.Symlink("other", "/etc/app/conf"),
		"StartUnit":   h.StartUnit(ctx, "plinth-test-none.service"),
		"StopUnit":    h.StopUnit(ctx, "plinth-test-none.service"),
		"RestartUnit": h.RestartUnit(ctx, "plinth-test-none.service"),
		"Terminate":   h.Terminate(1 << 29),
		"Kill":        h.Kill(1 << 29),
		"DestroySet":  h.DestroySet("plinth-test-none"),
	} {
		t.Run(name, func(t *testing.T) {
			if err == nil || !strings.Contains(err.Error(), "this run is read-only") {
				t.Errorf("error is %v", err)
			}
		})
	}
	if readFile(t, h, "/etc/app/conf") != "as it was" || listNames(t, h, "/etc/app") != "conf" || listNames(t, h, "/") != "etc" {
		t.Error("something changed")
	}
	query := shell("echo seen")
	query.ReadOnly = true
	if out, err := h.Run(ctx, query); err != nil || string(out) != "seen\n" {
		t.Errorf("a read-only command: %q, %v", out, err)
	}
}

func TestKill_IgnoresMissingProcess(t *testing.T) {
	if err := errors.Join(host.Local("/").Kill(1<<29), host.Local("/").Terminate(1<<29)); err != nil {
		t.Error(err)
	}
}

func TestLock_ReturnsHolderWhenLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	release, _, err := host.Lock(path, []byte("first"))
	if err != nil {
		t.Fatal(err)
	}
	if _, holder, err := host.Lock(path, []byte("second")); !errors.Is(err, host.ErrLocked) || string(holder) != "first" {
		t.Errorf("second: holder %q, error %v", holder, err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	release, _, err = host.Lock(path, []byte("third"))
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "third" {
		t.Errorf("note is %q", b)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
}

func TestLock_LocksAndLogsAreReadableByOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	release, _, err := host.Lock(filepath.Join(dir, "lock"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = release() }()
	log, err := host.CreateLogFile(filepath.Join(dir, "logs/run.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	h := host.Local(dir)
	for path, want := range map[string]os.FileMode{"/lock": 0o600, "/logs": 0o700, "/logs/run.log": 0o600} {
		t.Run(path, func(t *testing.T) {
			if got := filePerm(t, h, path); got != want {
				t.Errorf("%s has mode %o, want %o", path, got, want)
			}
		})
	}
	// A symbolic link that a user created is not followed.
	symlink(t, dir, "/precious", "/user-link")
	if _, _, err := host.Lock(filepath.Join(dir, "user-link"), nil); err == nil {
		t.Error("the lock followed a link")
	}
	if _, err := host.CreateLogFile(filepath.Join(dir, "user-link")); err == nil {
		t.Error("the log followed a link")
	}
}

func TestListProcesses_ReadsProc(t *testing.T) {
	root := t.TempDir()
	h := host.Local(root)
	writeFile(t, h, "/proc/1/stat", "1 (systemd) S 0 1 1 0")
	writeFile(t, h, "/proc/1/cmdline", "/sbin/init\x00")
	writeFile(t, h, "/proc/42/stat", "42 (odd ) S 9 (name) R 7 42 42 0")
	writeFile(t, h, "/proc/42/cmdline", "/usr/local/bin/k0s\x00controller\x00--data-dir\x00\x00")
	writeFile(t, h, "/proc/43/stat", "43 (kworker/0:1) I 2 0 0 0") // kernel threads have no command line
	writeFile(t, h, "/proc/43/cmdline", "")
	writeFile(t, h, "/proc/44/cmdline", "ended while being read\x00")
	writeFile(t, h, "/proc/9x/stat", "9 (not a process) S 1")
	writeFile(t, h, "/proc/meminfo", "")
	if err := os.Symlink("/usr/local/bin/k0s (deleted)", filepath.Join(root, "proc/42/exe")); err != nil {
		t.Fatal(err)
	}
	got, err := h.ListProcesses()
	if err != nil {
		t.Fatal(err)
	}
	want := []host.Process{
		{PID: 1, PPID: 0, Args: []string{"/sbin/init"}},
		{PID: 42, PPID: 7, Exe: "/usr/local/bin/k0s", Args: []string{"/usr/local/bin/k0s", "controller", "--data-dir"}},
		{PID: 43, PPID: 2},
	}
	slices.SortFunc(got, func(x, y host.Process) int { return x.PID - y.PID })
	if !slices.EqualFunc(got, want, func(x, y host.Process) bool {
		return x.PID == y.PID && x.PPID == y.PPID && x.Exe == y.Exe && slices.Equal(x.Args, y.Args)
	}) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestListProcesses_FindsThisProcess(t *testing.T) {
	all, err := host.Local("/").ListProcesses()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if p.PID == os.Getpid() {
			if p.PPID != os.Getppid() || !slices.Equal(p.Args, os.Args) {
				t.Errorf("it is %+v", p)
			}
			return
		}
	}
	t.Error("this test is not among the processes")
}
