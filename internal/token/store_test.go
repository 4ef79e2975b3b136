package token_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/token"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func newTestStore(t *testing.T, at *time.Time) (token.Store, *kubetest.Server) {
	t.Helper()
	s, c := kubetest.New(t)
	return token.Store{Core: c.Core(), Now: func() time.Time { return *at }}, s
}

func addToken(t *testing.T, b token.Store, uses int) (bearer string) {
	t.Helper()
	id, secret := token.NewSecret()
	r := token.Record{ID: id, Role: token.Worker, Hash: token.HashSecret(secret), Created: b.Now(), Expires: b.Now().Add(time.Hour), Uses: uses}
	if err := b.Add(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return id + "." + secret
}

func reasonOf(t *testing.T, err error) string {
	t.Helper()
	var no *token.RejectedError
	if err != nil && !errors.As(err, &no) {
		t.Fatal(err)
	}
	if no == nil {
		return ""
	}
	return no.Reason
}

func TestCheck_AcceptsTokenUntilItEnds(t *testing.T) {
	at := noon
	b, _ := newTestStore(t, &at)
	bearer := addToken(t, b, 1)
	id, _, _ := token.SplitBearer(bearer)
	check := func(name, bearer, key, want string) {
		t.Helper()
		_, err := b.Check(t.Context(), bearer, key)
		if got := reasonOf(t, err); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	check("new", bearer, "k1", "")
	check("unknown", "other."+strings.Repeat("x", 32), "k1", "does not know")
	check("wrong secret", id+".wrong", "k1", "does not know")
	check("empty bearer", "", "k1", "no token")
	check("path as ID", "a/b.y", "k1", "no token")
	if _, err := b.Use(t.Context(), bearer, token.Use{Node: "n1", MachineID: "m1", At: at, Key: "k1"}); err != nil {
		t.Fatal(err)
	}
	check("the host that used it", bearer, "k1", "")
	check("another host", bearer, "k2", "used up, by n1")
	check("a host without a key", bearer, "", "used up, by n1")
	if _, err := b.Use(t.Context(), bearer, token.Use{Node: "n1", MachineID: "m1", At: at, Key: "k1"}); err != nil {
		t.Errorf("the same host cannot resume: %v", err)
	}
	at = noon.Add(time.Hour)
	check("later", bearer, "k1", "expired at 2026-05-01T13:00:00Z")
	at = noon.Add(time.Minute)
	if r, err := b.Revoke(t.Context(), id); err != nil || r.State != token.Revoked {
		t.Errorf("%+v %v", r, err)
	}
	check("revoked", bearer, "k1", "revoked at 2026-05-01T12:01:00Z")
	if _, err := b.Revoke(t.Context(), "unknown"); !errors.Is(err, token.ErrNotFound) {
		t.Errorf("revoking an unknown token: %v", err)
	}
}

func TestAdd_DoesNotStoreSecret(t *testing.T) {
	at := noon
	b, s := newTestStore(t, &at)
	bearer := addToken(t, b, 1)
	id, secret, _ := token.SplitBearer(bearer)
	obj := s.Object("/api/v1/namespaces/kube-system/secrets/plinth-join-" + id)
	if obj == nil {
		t.Fatal("there is no record")
	}
	for key, value := range obj["data"].(map[string]any) {
		if strings.Contains(value.(string), secret) {
			t.Errorf("%s contains the secret", key)
		}
	}
}

func TestUse_AdmitsOneHostPerUse(t *testing.T) {
	at := noon
	b, _ := newTestStore(t, &at)
	bearer := addToken(t, b, 1)
	var wg sync.WaitGroup
	var mu sync.Mutex
	in := 0
	for _, key := range []string{"k1", "k2", "k3", "k4"} {
		wg.Go(func() {
			_, err := b.Use(context.WithoutCancel(t.Context()), bearer, token.Use{Node: key, MachineID: "m1", At: noon, Key: key})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				in++
			}
		})
	}
	wg.Wait()
	if in != 1 {
		t.Errorf("%d hosts joined with one use", in)
	}
}

func TestList_KeepsTokensForADayAfterTheirEnd(t *testing.T) {
	at := noon
	b, _ := newTestStore(t, &at)
	first := addToken(t, b, 2)
	if _, err := b.Use(t.Context(), first, token.Use{Node: "n1", MachineID: "m1", At: at, Key: "k1"}); err != nil {
		t.Fatal(err)
	}
	at = noon.Add(20 * time.Hour)
	addToken(t, b, 1)
	all, err := b.List(t.Context())
	if err != nil || len(all) != 2 || all[0].State != token.Active || all[1].State != token.Expired || all[1].UsesLeft != 1 || all[1].UsedBy[0].Node != "n1" {
		t.Fatalf("%+v %v", all, err)
	}
	at = noon.Add(26 * time.Hour)
	addToken(t, b, 1)
	if all, err = b.List(t.Context()); err != nil || len(all) != 2 {
		t.Errorf("a token that expired long ago is still listed: %+v %v", all, err)
	}
}

func TestCheckReadAccess_AcceptsHashForReadingOnly(t *testing.T) {
	at := noon
	b, _ := newTestStore(t, &at)
	bearer := addToken(t, b, 1)
	id, secret, _ := token.SplitBearer(bearer)
	reader := token.Token{ID: id, Secret: secret}.ReadOnlyBearer()
	key := ""
	reads := func(name, shown, want string) {
		t.Helper()
		if got := reasonOf(t, b.CheckReadAccess(t.Context(), shown, key)); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	reads("the token", bearer, "")
	reads("its hash", reader, "")
	reads("nothing", "", "no token")
	reads("another secret", id+".wrong", "does not know")
	reads("the hash of the hash", id+"."+token.HashSecret(token.HashSecret(secret)), "does not know")
	if _, err := b.Check(t.Context(), reader, "k1"); reasonOf(t, err) == "" {
		t.Error("the hash admits a host")
	}
	if _, err := b.Use(t.Context(), bearer, token.Use{Node: "n1", MachineID: "m1", At: at, Key: "k1"}); err != nil {
		t.Fatal(err)
	}
	reads("used up by another host", reader, "used up, by n1")
	key = "k1"
	reads("used up by this host", reader, "")
	at = noon.Add(time.Hour)
	reads("later", reader, "expired")
	at = noon
	if _, err := b.Revoke(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	reads("revoked", reader, "revoked")
}

func TestEndUses_KeepsARemovedHostFromJoiningAgain(t *testing.T) {
	at := noon
	b, _ := newTestStore(t, &at)
	first, second := addToken(t, b, 3), addToken(t, b, 1)
	for _, bearer := range []string{first, second} {
		if _, err := b.Use(t.Context(), bearer, token.Use{Node: "w1", MachineID: "m1", At: at, Key: "k1"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.EndUses(t.Context(), "k1"); err != nil {
		t.Fatal(err)
	}
	for name, bearer := range map[string]string{"a token with uses left": first, "a used-up token": second} {
		t.Run(name, func(t *testing.T) {
			_, checked := b.Check(t.Context(), bearer, "k1")
			_, used := b.Use(t.Context(), bearer, token.Use{Node: "w1", MachineID: "m1", At: at, Key: "k1"})
			for what, err := range map[string]error{"check": checked, "use": used, "read": b.CheckReadAccess(t.Context(), bearer, "k1")} {
				if got := reasonOf(t, err); !strings.Contains(got, "node w1, which joined with this token, was removed") {
					t.Errorf("%s: %q", what, got)
				}
			}
		})
	}
	if _, err := b.Check(t.Context(), first, "k2"); err != nil {
		t.Errorf("another host: %v", err)
	}
}
