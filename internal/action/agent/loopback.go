package agent

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/metrics"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/ports"
	"github.com/plinthdev/plinth/internal/wait"
)

// listenInterval is how often serveLoopback tries to listen while another program has the port.
const listenInterval = 5 * time.Second

// newLoopbackServer returns a server for programs on the same host, with limits of a request.
func newLoopbackServer(port string, handler http.Handler) *http.Server {
	return &http.Server{Addr: net.JoinHostPort(k0s.Loopback, port), Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: log.New(io.Discard, "", 0)}
}

// serveLoopback runs srv, with TLS if it has a configuration for it, until ctx ends. While another program has the port it
// tries again; failed is called the first time.
func serveLoopback(ctx context.Context, srv *http.Server, failed func(error)) {
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	noted := false
	for {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", srv.Addr)
		switch {
		case err != nil:
		case srv.TLSConfig != nil:
			err = srv.ServeTLS(listener, "", "")
		default:
			err = srv.Serve(listener)
		}
		if ctx.Err() == nil && !noted {
			noted = true
			failed(err)
		}
		if wait.Sleep(ctx, listenInterval) != nil {
			return
		}
	}
}

// maxScrapes is how many scrapes are answered at the same time; further ones wait.
const maxScrapes = 4

// serveMetrics serves the metrics of this node to programs on the same host until ctx ends. They contain no secrets, so
// that clients need no credentials.
func serveMetrics(ctx context.Context, env *action.Env) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", limitRequests(maxScrapes, metrics.New(env)))
	serveLoopback(ctx, newLoopbackServer(ports.MetricsText, mux), func(err error) {
		env.Note("cannot serve metrics: " + err.Error())
	})
}
