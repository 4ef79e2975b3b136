package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/registry"
)

func TestWatchRegistryCert_RenewsBeforeExpiry(t *testing.T) {
	server, client := kubetest.New(t)
	r := &registry.Registry{Kube: client, Namespace: "registry", IP: "10.96.0.11", Domain: "cluster.local", HostsDir: "/etc/k0s/certs.d"}
	now := time.Now()
	nearExpiry := now.Add(pki.ServerLifetime - 20*24*time.Hour)
	var notes []string
	check := func(at time.Time, of *registry.Registry, err error) (wrote string) {
		t.Helper()
		notes = nil
		server.Writes()
		ctx, cancel := context.WithCancel(t.Context())
		tick, done := make(chan time.Time), make(chan struct{})
		go func() {
			defer close(done)
			WatchRegistryCert(ctx, tick, func(context.Context) (*registry.Registry, error) { return of, err }, func(text string) { notes = append(notes, text) })
		}()
		tick <- at
		tick <- at // received only after the first was processed
		cancel()
		<-done
		return strings.Join(server.Writes(), " ")
	}
	if wrote := check(nearExpiry, nil, nil); wrote != "" || notes != nil {
		t.Errorf("a cluster without a registry: wrote %q, notes %q", wrote, notes)
	}
	if wrote := check(nearExpiry, r, nil); wrote != "" || notes != nil {
		t.Errorf("before the registry is installed: wrote %q, notes %q", wrote, notes)
	}
	if err := r.Prepare(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{now, now.Add(pki.ServerLifetime / 2)} {
		if wrote := check(at, r, nil); wrote != "" || notes != nil {
			t.Errorf("long before its expiry: wrote %q, notes %q", wrote, notes)
		}
	}
	if wrote := check(nearExpiry, r, nil); wrote != "PUT /api/v1/namespaces/registry/secrets/registry-tls" || len(notes) != 1 || !strings.Contains(notes[0], "ends on") {
		t.Errorf("shortly before its expiry: wrote %q, notes %q", wrote, notes)
	}
	if wrote := check(nearExpiry, r, nil); wrote != "" || notes != nil {
		t.Errorf("renewed a second time: wrote %q, notes %q", wrote, notes)
	}
	if check(nearExpiry, nil, errors.New("the API server is down")); len(notes) == 0 || notes[0] != "cannot check the registry's certificate: the API server is down" {
		t.Errorf("notes %q", notes)
	}
}
