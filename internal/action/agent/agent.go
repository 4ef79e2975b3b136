// Package agent runs the agent of a node: it admits joining hosts, serves bundle blobs and load-balances the API.
// It stores no blobs itself; it serves those of containerd, k0s and the install.
package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/nodes"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/loadbalancer"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/registry"
)

// Run runs the service plinth-agent until ctx ends. On a worker, it runs the API load
// balancer and serves blobs. On a controller, it also admits joining hosts, renews the
// registry's certificate and promotes etcd learners.
func Run(ctx context.Context, env *action.Env) error {
	if err := action.RequireRoot("run the agent"); err != nil {
		return err
	}
	if why, err := loadbalancer.SeedNeeded(env.Host, env.DataDir); err == nil && why == "" {
		return runWorker(ctx, env)
	}
	renewTick, promoteTick := time.NewTicker(RenewInterval), time.NewTicker(PromoteInterval)
	defer renewTick.Stop()
	defer promoteTick.Stop()
	openStore := func() (LearnerStore, error) { return openLearnerStore(env.Host) }
	end := runBackground(ctx,
		func(ctx context.Context) {
			WatchRegistryCert(ctx, renewTick.C, func(ctx context.Context) (*registry.Registry, error) { return clusterRegistry(ctx, env) }, env.Note)
		},
		func(ctx context.Context) { PromoteLearners(ctx, promoteTick.C, openStore, env.Note) })
	defer end()
	identity := &identity{Env: env, load: loadControllerCert}
	return serveHTTPS(ctx, env, identity, agent.Service{Backend: joinServer{env}, Store: newBlobStore(env), NodeRemover: nodes.LeaveServer{Env: env}, PeerCheck: peerCheckHandler(env),
		EtcdJoiner: EtcdJoinProxy{Files: env.Host, JoinAPI: K0sJoinAPI, Etcd: openStore}})
}

// runBackground starts the watches. end stops them and waits until they have returned.
func runBackground(ctx context.Context, watches ...func(context.Context)) (end func()) {
	ctx, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	for _, watch := range watches {
		watching.Go(func() { watch(ctx) })
	}
	return func() { stop(); watching.Wait() }
}

// clusterRegistry returns the built-in registry of this controller's cluster, or nil.
func clusterRegistry(ctx context.Context, env *action.Env) (*registry.Registry, error) {
	c, err := ReadClusterState(ctx, env)
	if err != nil {
		return nil, err
	}
	return c.builtinRegistry(env.DataDir)
}

// runWorker runs the load balancer of a worker, and the blob server beside it. If the
// server fails, the load balancer keeps running.
func runWorker(ctx context.Context, env *action.Env) error {
	identity := &identity{Env: env, load: loadWorkerCert}
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() {
		if err := serveHTTPS(ctx, env, identity, agent.Service{Backend: &workerServer{Env: env}, Store: newBlobStore(env), MaxStreams: agent.WorkerStreams}); err != nil {
			env.Note("cannot serve blobs on this node: " + err.Error())
		}
	})
	return loadbalancer.Run(ctx, env.Host, env.DataDir, env.Note)
}

// serveHTTPS serves the agent's API on agent.Port until ctx ends.
func serveHTTPS(ctx context.Context, env *action.Env, identity *identity, service agent.Service) error {
	const doing = "serve this node's artifacts"
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+strconv.Itoa(agent.Port))
	if err != nil {
		return problem.New(problem.ExitInternal, doing, err, "")
	}
	env.Note(fmt.Sprintf("plinth %s listens on port %d", env.Version, agent.Port))
	service.Audit = env.Note
	return service.Serve(ctx, listener, identity.tlsConfig)
}

// tlsConfig returns the TLS configuration of one connection: the node's current
// certificate, and the CA that must have issued client certificates.
func (i *identity) tlsConfig(*tls.ClientHelloInfo) (*tls.Config, error) {
	cert, ca, err := i.currentCert()
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool,
		NextProtos: []string{"http/1.1"}}, nil
}
