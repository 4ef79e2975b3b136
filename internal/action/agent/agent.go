// Package agent runs the agent of a node: it admits joining hosts, serves bundle blobs and load-balances the API.
// It stores no blobs itself; it serves those of containerd, k0s and the install.
package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/certificates"
	"github.com/plinthdev/plinth/internal/action/nodes"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/loadbalancer"
	"github.com/plinthdev/plinth/internal/problem"
)

// Run runs the service plinth-agent until ctx ends. On a worker, it runs the API load
// balancer and serves blobs. On a controller, it also admits joining hosts, renews
// certificates and promotes etcd learners.
func Run(ctx context.Context, env *action.Env) error {
	if err := action.RequireRoot("run the agent"); err != nil {
		return err
	}
	if why, err := loadbalancer.SeedNeeded(env.Host, env.DataDir); err == nil && why == "" {
		return runWorker(ctx, env)
	}
	identity := &identity{Env: env, load: loadControllerCert}
	d := joinServer{env}
	records := &RecordCache{Read: d.nodeRecords, Now: env.Now}
	openStore := func() (LearnerStore, error) { return openLearnerStore(env.Host) }
	watches := append(d.watches(openStore), every(removalInterval, newRemovalWatch(env, d.refreshControllers).run),
		every(supportMaxAge, supportCollector{env}.watchStale), every(registrySnapshotInterval, registrySnapshots{env}.watch))
	end := runBackground(ctx, append(watches, func(ctx context.Context) {
		serveAuthorizer(ctx, &Authorizer{Records: records}, identity, env.Note)
	}, func(ctx context.Context) { serveMetrics(ctx, env) })...)
	defer end()
	store := newBlobStore(env)
	return serveHTTPS(ctx, env, identity, agent.Service{Backend: d, Store: store, Upgrader: newNodeUpgrader(env, store), UpgradeOffer: upgradeOffer(env),
		Support: supportCollector{env}, NodeRemover: nodes.NewLeaveServer(env), PeerCheck: peerCheckHandler(env), Membership: membershipServer{d, records}.Membership,
		EtcdJoiner: EtcdJoinProxy{Files: env.Host, Check: d.CheckJoiningController, Etcd: openStore},
		Secrets:    SecretsReader{Files: env.Host, Check: d.CheckJoiningController}.Read})
}

// every returns a function that runs watch with a tick at each interval.
func every(interval time.Duration, watch func(context.Context, <-chan time.Time)) func(context.Context) {
	return func(ctx context.Context) {
		t := time.NewTicker(interval)
		defer t.Stop()
		watch(ctx, t.C)
	}
}

// watches returns what a controller's agent does besides serving.
func (d joinServer) watches(openStore func() (LearnerStore, error)) []func(context.Context) {
	return []func(context.Context){
		every(certificates.WatchInterval, (&certificates.Watch{Env: d.Env}).Run),
		every(PromoteInterval, func(ctx context.Context, tick <-chan time.Time) {
			PromoteLearners(ctx, tick, openStore, func(names []string) {
				d.Note("caught up and now voters of etcd: " + strings.Join(names, ", "))
				d.recordVoters(ctx)
			})
		}),
		every(votersInterval, func(ctx context.Context, tick <-chan time.Time) {
			for ctx.Err() == nil {
				select {
				case <-ctx.Done():
				case <-tick:
					d.recordVoters(ctx)
				}
			}
		}),
		every(SignInterval, func(ctx context.Context, tick <-chan time.Time) { WatchRequests(ctx, tick, d.signRequests, d.Note) }),
	}
}

// nodeRecords reads the records of admitted nodes.
func (d joinServer) nodeRecords(ctx context.Context) (kube.NodeRecords, error) {
	client, err := d.KubeClient()
	if err != nil {
		return nil, err
	}
	return client.NodeRecords(ctx)
}

// votersInterval is how often controllers record voters that another controller has promoted
// before it was lost.
const votersInterval = 10 * time.Second

// recordVoters records the controllers whose etcd members vote now. It tries again at the next tick.
func (d joinServer) recordVoters(ctx context.Context) {
	client, err := d.KubeClient()
	if err != nil {
		return
	}
	store, err := etcd.New(d.Host)
	if err != nil {
		return
	}
	members, err := store.Members(ctx)
	if err != nil {
		return
	}
	joined, err := recordVoters(ctx, client, members)
	for _, name := range joined {
		if err == nil {
			d.Note("controller " + name + " has joined: it gets no keys of the cluster any more")
		}
	}
}

// signRequests signs what kubelets request, once this host is a controller.
func (d joinServer) signRequests(ctx context.Context) error {
	if _, ok, err := journal.ReadReceipt(d.Host, d.DataDir); err != nil || !ok {
		return err
	}
	client, err := d.KubeClient()
	if err != nil {
		return err
	}
	s := Signer{Requests: client.Certificates(), Records: client.NodeRecords, CA: d.readAuthority, Now: d.Now,
		Audit: func(e agent.AuditEvent) { d.Note(e.String()) }}
	return s.SignAll(ctx)
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

// runWorker runs the load balancer of a worker, and the blob server beside it. If the
// server fails, the load balancer keeps running.
func runWorker(ctx context.Context, env *action.Env) error {
	identity, w, store := &identity{Env: env, load: loadStoredCert}, &workerServer{Env: env}, newBlobStore(env)
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() { every(renewalInterval, w.watchCertificate)(ctx) })
	serving.Go(func() { every(removalInterval, newRemovalWatch(env, nil).run)(ctx) })
	serving.Go(func() { serveMetrics(ctx, env) })
	serving.Go(func() { every(supportMaxAge, supportCollector{env}.watchStale)(ctx) })
	serving.Go(func() {
		service := agent.Service{Backend: w, Store: store, Upgrader: newNodeUpgrader(env, store), Support: supportCollector{env}, MaxStreams: agent.WorkerStreams}
		if err := serveHTTPS(ctx, env, identity, service); err != nil {
			env.Note("cannot serve blobs on this node: " + err.Error())
		}
	})
	receipt, _, err := journal.ReadReceipt(env.Host, env.DataDir) // none before the host has joined
	if err != nil {
		env.Note("cannot find controllers at the additional address of the API: " + err.Error())
	}
	return loadbalancer.Run(ctx, env.Host, env.DataDir, receipt.API, env.Note)
}

// serveHTTPS serves the agent's API on agent.Port until ctx ends.
func serveHTTPS(ctx context.Context, env *action.Env, identity *identity, service agent.Service) error {
	const doing = "serve this node's artifacts"
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+strconv.Itoa(agent.Port))
	if err != nil {
		return problem.New(problem.ExitInternal, doing, err, "")
	}
	env.Note(fmt.Sprintf("plinth %s listens on port %d", env.Version, agent.Port))
	service.Audit, service.Authority, service.Now = env.Note, identity.authority, env.Now
	return service.Serve(ctx, listener, identity.tlsConfig)
}

// tlsConfig returns the TLS configuration of one connection, with the node's current
// certificate. Clients may show any certificate: it shows their key, and agent.Service
// verifies who has signed it.
func (i *identity) tlsConfig(*tls.ClientHelloInfo) (*tls.Config, error) {
	cert, _, err := i.currentCert()
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert, NextProtos: []string{"http/1.1"}}, nil
}
