package renew

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/kots/pki"
	"github.com/plinthdev/plinth/internal/kots/registry"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
)

func TestTheRegistrysCertificateIsRenewedBeforeItsEnd(t *testing.T) {
	server, client := kubetest.New(t)
	r := &registry.Registry{Kube: client, Namespace: "registry", IP: "10.96.0.11", HostsDir: "/etc/k0s/certs.d"}
	now := time.Now()
	late := now.Add(pki.ServerLife - 20*24*time.Hour)
	var said []string
	look := func(at time.Time, of *registry.Registry, err error) (wrote string) {
		t.Helper()
		said = nil
		server.Writes()
		ctx, cancel := context.WithCancel(t.Context())
		tick, done := make(chan time.Time), make(chan struct{})
		go func() {
			defer close(done)
			Watch(ctx, tick, func(context.Context) (*registry.Registry, error) { return of, err }, func(text string) { said = append(said, text) })
		}()
		tick <- at
		tick <- at // taken only when the first was dealt with
		cancel()
		<-done
		return strings.Join(server.Writes(), " ")
	}
	if wrote := look(late, nil, nil); wrote != "" || said != nil {
		t.Errorf("a cluster without a registry: wrote %q, said %q", wrote, said)
	}
	if wrote := look(late, r, nil); wrote != "" || said != nil {
		t.Errorf("before the registry is installed: wrote %q, said %q", wrote, said)
	}
	if err := r.Prepare(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{now, now.Add(pki.ServerLife - 32*24*time.Hour)} {
		if wrote := look(at, r, nil); wrote != "" || said != nil {
			t.Errorf("long before its end: wrote %q, said %q", wrote, said)
		}
	}
	if wrote := look(late, r, nil); wrote != "PUT /api/v1/namespaces/registry/secrets/registry-tls" || len(said) != 1 || !strings.Contains(said[0], "is to be renewed") {
		t.Errorf("near its end: wrote %q, said %q", wrote, said)
	}
	if wrote := look(late, r, nil); wrote != "" || said != nil {
		t.Errorf("renewed a second time: wrote %q, said %q", wrote, said)
	}
	if look(late, nil, errors.New("the API server is down")); len(said) == 0 || said[0] != "cannot look at the registry's certificate: the API server is down" {
		t.Errorf("said %q", said)
	}
}
