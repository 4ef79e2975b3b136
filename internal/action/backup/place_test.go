package backup

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/internal/objectstore"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestVerify_RefusesWhatIsNoFile(t *testing.T) {
	f, env := newController(t)
	at := f.Root + "/mnt/backup/"
	testkit.Must(t, unix.Mkfifo(at+"pipe", 0o600), os.Symlink("pipe", at+"link"), unix.Mknod(at+"zero", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))))
	for name, want := range map[string]string{"pipe": "it is a pipe or a socket, not a file", "link": "it is a pipe or a socket, not a file",
		"zero": "it is a device, not a file", ".": "is a directory"} {
		t.Run(name, func(t *testing.T) {
			_, err := Verify(t.Context(), env, "/mnt/backup/"+name, KeyFlags{}, objectstore.Settings{})
			if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), want) || problem.Hint(err) == "" {
				t.Errorf("exit %d, %v → %s", problem.ExitCode(err), err, problem.Hint(err))
			}
		})
	}
}

// TestVerify_OfAHugeFileEndsAtAnInterrupt verifies a sparse file that takes an hour to read.
func TestVerify_OfAHugeFileEndsAtAnInterrupt(t *testing.T) {
	f, env := newController(t)
	for name, c := range map[string]Options{
		"plain.plinth-backup":  {Lock: KeyFlags{Unencrypted: true}},
		"secret.plinth-backup": {Lock: KeyFlags{PassphraseFile: passphraseFile(t, "five random words here")}},
	} {
		t.Run(name, func(t *testing.T) {
			c.To = "/mnt/backup/" + name
			_, err := run(t, env, c, fakeData{etcd: "etcd"})
			testkit.Must(t, err, os.Truncate(f.Root+c.To, 1<<40))
			interrupted := errors.New("interrupted")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(200*time.Millisecond, func() { cancel(interrupted) })
			started := time.Now()
			_, err = Verify(ctx, env, c.To, KeyFlags{}, objectstore.Settings{})
			if !errors.Is(err, interrupted) || time.Since(started) > 2*time.Second {
				t.Errorf("%v after %s", err, time.Since(started))
			}
		})
	}
}
