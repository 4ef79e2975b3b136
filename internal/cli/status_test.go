package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action/status"
	"github.com/plinthdev/plinth/internal/testkit"
)

// writes is an output that calls after with the number of each write.
type writes struct {
	text  bytes.Buffer
	count int
	after func(count int) error
}

func (w *writes) Write(p []byte) (int, error) {
	n, _ := w.text.Write(p)
	w.count++
	return n, w.after(w.count)
}

func TestStatusWatch_EndsWithoutAnError(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the status needs root")
	}
	errNoReader := errors.New("no reader")
	for name, c := range map[string]struct {
		args  []string
		after func(cancel func()) error
		want  string // begin of the output
	}{
		"Ctrl-C":                {nil, func(cancel func()) error { cancel(); return nil }, "Since 20"},
		"Ctrl-C, JSON":          {[]string{"-o", "json"}, func(cancel func()) error { cancel(); return nil }, `{"v":1,"result":{"time":"20`},
		"a pipe without reader": {nil, func(func()) error { return errNoReader }, "Since 20"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			out := &writes{after: func(int) error { return c.after(func() { cancel(ErrInterrupted) }) }}
			var stderr bytes.Buffer
			p := Process{In: strings.NewReader(""), Out: out, Err: &stderr, ErrNoReader: errNoReader}
			code := Run(ctx, p, append([]string{"status", "--watch", "--data-dir", t.TempDir()}, c.args...))
			if code != 0 || stderr.Len() > 0 || !strings.HasPrefix(out.text.String(), c.want) || out.count != 1 {
				t.Errorf("exit %d, %d writes: %s%s", code, out.count, out.text.String(), stderr.String())
			}
		})
	}
	t.Run("a full disk is an error", func(t *testing.T) {
		var stderr bytes.Buffer
		out := &writes{after: func(int) error { return errors.New("no space left on device") }}
		code := Run(t.Context(), Process{In: strings.NewReader(""), Out: out, Err: &stderr, ErrNoReader: errNoReader}, []string{"status", "--watch", "--data-dir", t.TempDir()})
		if code != 1 || !strings.HasPrefix(stderr.String(), "cannot write the output: no space left on device") {
			t.Errorf("exit %d: %s", code, stderr.String())
		}
	})
}

func TestNewStatusWriter_WritesOneAfterTheOther(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	running := status.Status{Time: at, Installed: true, Name: "my-app", Role: "controller", Service: "active", Versions: map[string]string{"k0s": "v1.33.8+k0s.1"}}
	failed := running
	failed.Time, failed.Service = at.Add(time.Minute), "failed"
	write := func(t *testing.T, s *runner) string {
		t.Helper()
		show := commandSet{s}.newStatusWriter()
		testkit.Must(t, show(running), show(failed))
		return s.Out.(*bytes.Buffer).String()
	}
	t.Run("as text", func(t *testing.T) {
		want := `Since 2026-01-02T03:04:05Z:

my-app  controller  k0s v1.33.8+k0s.1 (active)

Next: plinth console url

Since 2026-01-02T03:05:05Z:

my-app  controller  k0s v1.33.8+k0s.1 (failed)

Next: sudo systemctl start k0scontroller.service
`
		if got := write(t, newTestRunner()); got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	})
	t.Run("as JSON", func(t *testing.T) {
		s := newTestRunner()
		s.outputFormat = formatJSON
		lines := strings.SplitAfter(write(t, s), "\n")
		if len(lines) != 3 || lines[2] != "" {
			t.Fatalf("%q", lines)
		}
		for i, service := range []string{"active", "failed"} {
			var doc struct {
				V      int
				Result status.Status
			}
			testkit.Must(t, json.Unmarshal([]byte(lines[i]), &doc))
			if doc.V != 1 || doc.Result.Service != service || doc.Result.Time.IsZero() {
				t.Errorf("%s", lines[i])
			}
		}
	})
}
