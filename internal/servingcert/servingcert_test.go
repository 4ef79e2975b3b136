package servingcert

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/pki"
)

func TestService_IssuesOnceAndRenewsInTime(t *testing.T) {
	server, client := kubetest.New(t)
	s := Service{Kube: client, Namespace: "velero", Name: "object-store", IP: "10.96.0.12", Domain: "corp.local"}
	now := time.Now()
	if err := s.Renew(t.Context(), now); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("before Ensure: %v", err)
	}
	for _, step := range []struct{ at, want string }{{"0s", "the object store has no certificate"}, {"0s", ""}, {"13200h", "the certificate of the object store ends on"}} {
		after, err := time.ParseDuration(step.at)
		if err != nil {
			t.Fatal(err)
		}
		at := now.Add(after)
		if reason, err := s.NeedsRenewal(t.Context(), at); err != nil || step.want == "" && reason != "" || !strings.HasPrefix(reason, step.want) {
			t.Errorf("after %s: %q, %v", step.at, reason, err)
		}
		if err := s.Ensure(t.Context(), at); err != nil {
			t.Fatal(err)
		}
	}
	if writes := server.Writes(); len(writes) != 3 { // authority, certificate, certificate again
		t.Errorf("wrote %q", writes)
	}
	raw, err := s.Certificate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := pki.ParseCertificate(raw)
	if err != nil || strings.Join(pki.Hosts(leaf), " ") != "10.96.0.12 object-store.velero.svc object-store.velero.svc.corp.local" {
		t.Errorf("%v, %v", leaf, err)
	}
}
