//go:build e2e || bench

// Package e2e proves the user's story on real hosts: real systemd, real k0s,
// real KOTS, no network but the lab's.
package e2e

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
)

// Where the tests put things on a host.
const (
	binary = "/usr/local/sbin/plinth"
	bundle = "/srv/my-app.bundle"
)

// env is a setting that `make test-e2e` supplies.
func env(t testing.TB, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		t.Fatalf("%s is not set: run make test-e2e", name)
	}
	return v
}

// upWithPlinth boots a fresh host that has the binary and the bundle, as a
// customer's administrator would have copied them.
func upWithPlinth(t testing.TB, name string, opts ...lab.Option) *lab.Host {
	t.Helper()
	h := lab.Up(t, name, opts...)
	h.Copy(env(t, "PLINTH_E2E_BINARY"), binary)
	h.Copy(env(t, "PLINTH_E2E_BUNDLE"), bundle)
	return h
}

// minutes is a context that ends the test's work in time to clean up.
func minutes(t testing.TB, n int) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(n)*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// reply is the last line of -o json.
type reply struct {
	Result struct {
		Changed    bool
		ConsoleURL string
		Password   string
		Plan       []struct{ Step, State, Why string }
		Installed  bool
		Versions   map[string]string
		Nodes      []struct {
			Name  string
			Ready bool
		}
		AddOns []struct {
			Name   string
			Ready  bool
			Reason string
		}
		Console  *struct{ URL, Version, Reason string }
		Warnings []string
	}
	Error *struct {
		Doing, Cause, Hint string
		Exit               int
	}
	Events []event
}

type event struct{ Step, State, Message string }

// parse reads the JSON lines of one run.
func parse(t testing.TB, stdout string) (r reply) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	for _, line := range lines[:len(lines)-1] {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("not an event: %v: %s", err, line)
		}
		r.Events = append(r.Events, e)
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatalf("last line is no answer: %v: %s", err, stdout)
	}
	return r
}

// plinth runs a command that must end with code, with -o json.
func plinth(t testing.TB, ctx context.Context, h *lab.Host, code int, args ...string) reply {
	t.Helper()
	start := time.Now()
	stdout, stderr, got := h.Run(ctx, append([]string{binary, "-o", "json"}, args...)...)
	t.Logf("plinth %s: exit %d in %.1fs", strings.Join(args, " "), got, time.Since(start).Seconds())
	if got != code {
		t.Fatalf("plinth %s: exit %d, want %d\n%s\n%s", strings.Join(args, " "), got, code, tail(stdout, 40), tail(stderr, 40))
	}
	return parse(t, stdout)
}

func tail(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
