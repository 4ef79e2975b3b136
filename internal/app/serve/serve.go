// Package serve owns the agent of a node: a controller answers hosts that join
// and renews the certificate of the cluster's registry, and every node gives
// hosts that join what it holds of the bundle. It refuses to hold anything of
// its own: what it serves lies where containerd, k0s and the install put it.
package serve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/app/gateway"
	"github.com/plinthdev/plinth/internal/app/nodes"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/app/serve/renew"
	"github.com/plinthdev/plinth/internal/app/serve/voter"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/kots/registry"
	"github.com/plinthdev/plinth/internal/problem"
)

// Agent is what the service plinth-agent runs until ctx ends: on a worker the
// node's way to the API, on a controller what hosts that join ask.
func Agent(ctx context.Context, r *run.Run) error {
	if err := run.NeedRoot("run the agent"); err != nil {
		return err
	}
	if why, err := gateway.SeedNeeded(r.Host, r.DataDir); err == nil && why == "" {
		return worker(ctx, r)
	}
	every, look := time.NewTicker(renew.Every), time.NewTicker(voter.Every)
	defer every.Stop()
	defer look.Stop()
	openStore := func() (voter.Store, error) { return etcd.New(r.Host) }
	end := beside(ctx,
		func(ctx context.Context) {
			renew.Watch(ctx, every.C, func(ctx context.Context) (*registry.Registry, error) { return registryOf(ctx, r) }, r.Note)
		},
		func(ctx context.Context) { voter.Watch(ctx, look.C, openStore, r.Note) })
	defer end()
	identity := &identity{Run: r, load: loadController}
	return serve(ctx, r, identity, agent.Service{Cluster: door{r}, Store: newStore(r), Leaver: nodes.Door{Run: r}, Peers: between(r),
		Electors: voter.Door{Files: r.Host, K0s: voter.K0s, Etcd: openStore}})
}

// beside runs watches until end is called, which waits for them.
func beside(ctx context.Context, watches ...func(context.Context)) (end func()) {
	ctx, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	for _, watch := range watches {
		watching.Go(func() { watch(ctx) })
	}
	return func() { stop(); watching.Wait() }
}

// registryOf is the registry of this controller's cluster, nil for none.
func registryOf(ctx context.Context, r *run.Run) (*registry.Registry, error) {
	c, err := Look(ctx, r)
	if err != nil {
		return nil, err
	}
	return c.registry(r.DataDir)
}

// worker is the node's way to the API, whatever becomes of what it serves.
func worker(ctx context.Context, r *run.Run) error {
	identity := &identity{Run: r, load: loadWorker}
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() {
		if err := serve(ctx, r, identity, agent.Service{Cluster: &relay{Run: r}, Store: newStore(r), Streams: workerStreams}); err != nil {
			r.Note("this node serves no blobs: " + err.Error())
		}
	})
	return gateway.Run(ctx, r.Host, r.DataDir, r.Note)
}

// serve answers until ctx ends.
func serve(ctx context.Context, r *run.Run, identity *identity, service agent.Service) error {
	const doing = "serve this node's artifacts"
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+strconv.Itoa(agent.Port))
	if err != nil {
		return problem.New(problem.ExitInternal, doing, err, "")
	}
	srv := &http.Server{
		Handler:           service.Handler(),
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: identity.config},
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1 only: one blob, one connection
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      2 * time.Minute, // a handshake may wait for etcd; blobs have their own
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          log.New(quiet{}, "", 0), // scanners and broken pipes are not worth a line each
	}
	r.Note(fmt.Sprintf("plinth %s serves on port %d", r.Version, agent.Port))
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(last) // what still runs is cut off by the end of the process
	}()
	if err = srv.ServeTLS(listener, "", ""); errors.Is(err, http.ErrServerClosed) {
		<-stopped
		err = nil
	}
	return err
}

type quiet struct{}

func (quiet) Write(p []byte) (int, error) { return len(p), nil }

// config is what one caller meets: the node's certificate as it is now, and the
// authority that nodes' certificates must come from.
func (i *identity) config(*tls.ClientHelloInfo) (*tls.Config, error) {
	cert, ca, err := i.current()
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool,
		NextProtos: []string{"http/1.1"}}, nil
}
