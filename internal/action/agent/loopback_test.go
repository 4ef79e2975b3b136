package agent

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/wait"
)

// get returns the answer to a GET request.
func get(ctx context.Context, url string) (body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	return string(raw), err
}

func TestServeLoopback(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	testkit.Must(t, err)
	_, port, err := net.SplitHostPort(taken.Addr().String())
	testkit.Must(t, err)
	srv := newLoopbackServer(port, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	t.Run("notes a port that another program has", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		noted := ""
		serveLoopback(ctx, srv, func(err error) { noted = err.Error(); cancel() })
		if !strings.Contains(noted, "address already in use") {
			t.Error(noted)
		}
	})
	testkit.Must(t, taken.Close())
	t.Run("serves until the context ends", func(t *testing.T) {
		srv := newLoopbackServer(port, srv.Handler)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			serveLoopback(ctx, srv, func(err error) { t.Error(err) })
		}()
		o := wait.Options{What: "the server to answer", Timeout: 10 * time.Second, Interval: time.Millisecond}
		testkit.Must(t, wait.Until(t.Context(), o, func(ctx context.Context) (bool, string, error) {
			body, err := get(ctx, "http://"+srv.Addr)
			if err != nil {
				return false, err.Error(), nil
			}
			return body == "hello", body, nil
		}))
		cancel()
		<-ended
		if _, err := get(t.Context(), "http://"+srv.Addr); err == nil {
			t.Error("it still answers")
		}
	})
}
