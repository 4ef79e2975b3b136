package objectstore

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

// openImpatient returns a store at an address that is told of after some milliseconds, and given up after a quarter of a second.
func openImpatient(t *testing.T, address string) (s *Store, notes *atomic.Pointer[string]) {
	t.Helper()
	s, err := Open("bucket", Settings{Endpoint: "http://" + address, AccessKey: "a", SecretKey: "b"})
	testkit.Must(t, err)
	s.requests.slow, s.requests.limit = 20*time.Millisecond, 250*time.Millisecond
	notes = new(atomic.Pointer[string])
	s.Notify(func(text string) { notes.Store(&text) })
	return s, notes
}

func TestStore_GivesUpOneThatSendsNothing(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, and never reads
	testkit.Must(t, err)
	t.Cleanup(func() { _ = mute.Close() })
	stalled := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		w.Header().Set("ETag", `"x"`)
		if r.Method == http.MethodHead {
			return
		}
		_, _ = w.Write([]byte("the beginning"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(stalled.Close)
	for name, c := range map[string]struct {
		address string
		use     func(ctx context.Context, s *Store) error
	}{
		"before its first answer": {mute.Addr().String(), func(ctx context.Context, s *Store) error {
			_, err := s.List(ctx, "", true)
			return err
		}},
		"while an object is sent": {mute.Addr().String(), func(ctx context.Context, s *Store) error {
			return s.Write(ctx, "a", bytes.NewReader(make([]byte, 20<<20)))
		}},
		"within an object": {stalled.Listener.Addr().String(), func(ctx context.Context, s *Store) error {
			r, err := s.Open(ctx, "a")
			if err == nil {
				_, err = io.ReadAll(r)
			}
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s, note := openImpatient(t, c.address)
			started := time.Now()
			err := c.use(t.Context(), s)
			if want := "the object store " + c.address + " cannot be reached: no answer in 0.25 seconds"; err == nil || err.Error() != want || problem.Hint(err) == "" {
				t.Errorf("%v → %s, want %q", err, problem.Hint(err), want)
			}
			if took := time.Since(started); took > 10*time.Second { // it is not asked again and again
				t.Errorf("it took %s", took)
			}
			if want := "the object store " + c.address + " has not answered for 0.02 seconds; waiting for up to 0.25 seconds"; note.Load() == nil || *note.Load() != want {
				t.Errorf("the user is told %v", note.Load())
			}
		})
	}
}

func TestStore_WaitsForASlowReaderOfAnObject(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 1<<20)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"x"`)
		http.ServeContent(w, r, "a", time.Unix(1e9, 0), bytes.NewReader(data))
	}))
	t.Cleanup(server.Close)
	s, _ := openImpatient(t, server.Listener.Addr().String())
	r, err := s.Open(t.Context(), "a")
	testkit.Must(t, err)
	start := make([]byte, 10)
	_, err = io.ReadFull(r, start)
	testkit.Must(t, err)
	timer := time.NewTimer(2 * s.requests.limit) // as long as a question takes
	<-timer.C
	rest, err := io.ReadAll(r)
	if err != nil || len(rest) != len(data)-10 {
		t.Errorf("%d bytes, %v", len(rest), err)
	}
}

func TestSettings_RefuseAPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	testkit.Must(t, syscall.Mkfifo(pipe, 0o600))
	for name, c := range map[string]struct {
		settings Settings
		want     string
	}{
		"with credentials":   {Settings{CredentialsFile: pipe}, "its credentials in " + pipe + " cannot be read: "},
		"with the authority": {Settings{AccessKey: "a", SecretKey: "b", CAFile: pipe}, "its authority in " + pipe + " cannot be read: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.settings.Access()
			if err == nil || !strings.HasPrefix(err.Error(), c.want) || !strings.Contains(err.Error(), "it is a pipe") || problem.Hint(err) == "" {
				t.Errorf("%v → %s", err, problem.Hint(err))
			}
		})
	}
	t.Run("a missing file is named", func(t *testing.T) {
		_, err := Settings{CredentialsFile: pipe + "-missing"}.Access()
		if want := "there are no credentials for the object store: " + pipe + "-missing: no such file or directory"; err == nil || err.Error() != want {
			t.Errorf("%v, want %q", err, want)
		}
	})
	testkit.Must(t, os.Remove(pipe))
}
