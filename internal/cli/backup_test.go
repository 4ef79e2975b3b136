package cli

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/action/backup"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/testkit/storetest"
)

func TestBackupList_NamesTheStoreInTheNextCommand(t *testing.T) {
	store := storetest.New(t, "bucket").Settings
	credentials := filepath.Join(t.TempDir(), "my credentials")
	testkit.Must(t, os.WriteFile(credentials, []byte("[default]\naws_access_key_id="+storetest.AccessKey+"\naws_secret_access_key="+storetest.SecretKey+"\n"), 0o600))
	next := " plinth backup --to s3://bucket/p --s3-endpoint " + store.Endpoint + " --s3-ca-file " + store.CAFile + " --s3-credentials-file '" + credentials + "'\n"
	for name, c := range map[string]struct {
		environ []string
		sudo    bool
		want    string
	}{
		"of root":                   {nil, false, "\nNext:" + next},
		"of a user":                 {nil, true, "\nNext: sudo" + next},
		"of a user with a variable": {[]string{"AWS_REGION=us-east-1"}, true, "\nNext: sudo -E" + next},
		"of a user with a home":     {[]string{"HOME=/root"}, true, "\nNext: sudo" + next},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := Run(t.Context(), Process{Out: &stdout, Err: &stderr, NeedsSudo: c.sudo, Environ: c.environ},
				[]string{"backup", "list", "s3://bucket/p", "--s3-credentials-file", credentials, "--s3-endpoint", store.Endpoint, "--s3-ca-file", store.CAFile})
			if want := "There is no backup in s3://bucket/p.\n" + c.want; code != 0 || stdout.String() != want {
				t.Errorf("exit %d, %q, want %q\n%s", code, stdout.String(), want, stderr.String())
			}
		})
	}
}

func TestAskPassphrase_EndsAtOnceWithoutAnAnswer(t *testing.T) {
	const first, again = "Passphrase of the backup: ", "The same passphrase again: "
	type typed struct{ question, keys string }
	const interrupt = "interrupt" // the terminal turns Ctrl-C into a signal, which main turns into the end of the context
	for name, c := range map[string]struct {
		isNew  bool
		typed  []typed
		want   string
		exit   int
		err    string
		idleBy bool // an interrupt is not announced as a stop at a safe point
	}{
		"a passphrase":             {false, []typed{{first, "five words\n"}}, "five words", 0, "", false},
		"a new one":                {true, []typed{{first, "five words\n"}, {again, "five words\n"}}, "five words", 0, "", false},
		"another one":              {true, []typed{{first, "five words\n"}, {again, "six words\n"}}, "", 2, "the two are different", false},
		"an empty one":             {false, []typed{{first, "\n"}}, "", 2, "it is empty", false},
		"Ctrl-D":                   {false, []typed{{first, "\x04"}}, "", 130, "the input has ended", false},
		"Ctrl-D within a line":     {false, []typed{{first, "five\x04\x04"}}, "", 130, "the input has ended", false},
		"Ctrl-D at the repetition": {true, []typed{{first, "five words\n"}, {again, "\x04"}}, "", 130, "the input has ended", false},
		"Ctrl-C":                   {false, []typed{{first, interrupt}}, "", 130, "interrupted", true},
		"Ctrl-C at the repetition": {true, []typed{{first, "five words\n"}, {again, interrupt}}, "", 130, "interrupted", true},
	} {
		t.Run(name, func(t *testing.T) {
			user, terminal := testkit.OpenTerminal(t)
			s := commandSet{&runner{Process: Process{In: terminal, Err: terminal}}}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			var key backup.KeyFlags
			s.prepareKeyFlags(&key)
			type answer struct {
				text string
				err  error
			}
			answered := make(chan answer, 1)
			go func() {
				text, err := key.Ask(ctx, c.isNew)
				answered <- answer{text, err}
			}()
			for _, k := range c.typed {
				question := make([]byte, len(k.question))
				_, err := io.ReadFull(user, question)
				testkit.Must(t, err)
				if string(question) != k.question || testkit.ShowsInput(t, terminal) {
					t.Errorf("%q, the terminal shows what is typed: %t", question, testkit.ShowsInput(t, terminal))
				}
				if k.keys == interrupt {
					cancel(ErrInterrupted)
					continue
				}
				_, err = user.WriteString(k.keys)
				testkit.Must(t, err)
				end := make([]byte, 2)
				if _, err := io.ReadFull(user, end); err != nil || string(end) != "\r\n" {
					t.Errorf("%q %v is shown after the answer", end, err)
				}
			}
			got := <-answered
			if problem.ExitCode(got.err) != c.exit || got.err == nil && got.text != c.want ||
				got.err != nil && (!strings.Contains(got.err.Error(), c.err) || !strings.HasSuffix(problem.Hint(got.err), "nothing was changed")) {
				t.Errorf("%q, exit %d, %v → %s", got.text, problem.ExitCode(got.err), got.err, problem.Hint(got.err))
			}
			if !testkit.ShowsInput(t, terminal) || s.idle.Load() != c.idleBy {
				t.Errorf("the terminal shows what is typed: %t, idle: %t", testkit.ShowsInput(t, terminal), s.idle.Load())
			}
		})
	}
}
