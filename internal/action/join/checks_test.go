package join

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

func TestCheckClock_RefusesAnOffsetAboveTheLimit(t *testing.T) {
	noon := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		sent, answered, cluster time.Time
		want                    string // in the refusal; "" for none
	}{
		"the same":               {noon, noon, noon, ""},
		"a slow answer":          {noon, noon.Add(20 * time.Second), noon.Add(10 * time.Second), ""},
		"a little off":           {noon, noon, noon.Add(30 * time.Second), ""},
		"ten minutes ahead":      {noon.Add(10 * time.Minute), noon.Add(10 * time.Minute), noon, "10m0s ahead of the cluster's"},
		"ten minutes behind":     {noon, noon, noon.Add(10 * time.Minute), "10m0s behind the cluster's"},
		"just more than allowed": {noon, noon, noon.Add(61 * time.Second), "1m1s behind"},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkClock(clockOffset(c.sent, c.answered, c.cluster))
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (problem.ExitCode(err) != problem.ExitJoin || !strings.Contains(err.Error(), c.want) || !strings.Contains(problem.Hint(err), "nothing on this host was changed")):
				t.Errorf("%v (%s), want %q", err, problem.Hint(err), c.want)
			}
		})
	}
}

// authority returns a certificate authority and its PEM encoding.
func authority(t *testing.T) (*x509.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestCheckOtherCluster_RefusesHostsOfOtherClusters(t *testing.T) {
	ours, ourPEM := authority(t)
	_, theirPEM := authority(t)
	for name, c := range map[string]struct {
		ca      []byte
		receipt journal.Receipt
		want    string
	}{
		"a bare host":               {nil, journal.Receipt{}, ""},
		"half joined":               {ourPEM, journal.Receipt{}, ""},
		"a node of the cluster":     {ourPEM, journal.Receipt{Name: "my-app", Role: token.Worker}, ""},
		"a node of another cluster": {theirPEM, journal.Receipt{Name: "my-app", Role: token.Worker}, "belongs to another cluster"},
		"a controller":              {ourPEM, journal.Receipt{Name: "my-app", Role: token.Controller}, "is a controller of my-app, but the token is for a worker"},
	} {
		t.Run(name, func(t *testing.T) {
			h := hosttest.New(t).Host()
			if c.ca != nil {
				if err := h.Write(k0s.CACertPath, strings.NewReader(string(c.ca)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			env := &action.Env{Host: h}
			o := operation{token: token.Token{Role: token.Worker, Pin: token.PublicKeyPin(ours)}, receipt: c.receipt}
			err := o.checkOtherCluster(env)
			if c.want == "" && err != nil || c.want != "" && (problem.ExitCode(err) != problem.ExitJoin || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestCheckEarlierRuns_AcceptsTheSameJoinOnly(t *testing.T) {
	noon := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	args := journal.Args{Role: token.Worker, CAPin: "ours", Cluster: "my-app"}
	for name, c := range map[string]struct {
		verb  string
		args  journal.Args
		ended bool
		t     token.Token
		want  string
		hint  string
	}{
		"the same":                    {"join", args, false, token.Token{Role: token.Worker, Pin: "ours"}, "", ""},
		"another role":                {"join", args, false, token.Token{Role: token.Controller, Pin: "ours"}, "started to join as a worker at 2026-05-01T12:00:00Z, but the token is for a controller", "reset cluster"},
		"another cluster":             {"join", args, false, token.Token{Role: token.Worker, Pin: "theirs"}, "not valid for the cluster that this host started to join at 2026-05-01T12:00:00Z, my-app", "reset cluster"},
		"a join that ended":           {"join", args, true, token.Token{Role: token.Controller, Pin: "theirs"}, "", ""},
		"a join that was reset":       {"reset", journal.Args{}, true, token.Token{Role: token.Controller}, "", ""},
		"a join half reset":           {"reset", journal.Args{}, false, token.Token{Role: token.Worker, Pin: "ours"}, "the reset started at 2026-05-01T12:00:00Z is not finished", "reset cluster"},
		"a host that is leaving":      {"reset", journal.Args{Scope: "node"}, false, token.Token{Role: token.Worker, Pin: "ours"}, "is not finished", "reset node"},
		"started by an older program": {"join", journal.Args{}, false, token.Token{Role: token.Controller}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			env := &action.Env{Host: hosttest.New(t).Host(), GlobalOptions: action.GlobalOptions{DataDir: journal.DefaultDir, Now: func() time.Time { return noon }}}
			j, err := env.OpenJournal()
			testkit.Must(t, err)
			testkit.Must(t, j.BeginRun("join", args), j.EndRun(nil), j.BeginRun(c.verb, c.args))
			if c.ended {
				testkit.Must(t, j.EndRun(nil))
			}
			err = checkEarlierRuns(env, c.t)
			if c.want == "" && err != nil || c.want != "" && (problem.ExitCode(err) != problem.ExitJoin || !strings.Contains(err.Error(), c.want) || !strings.Contains(problem.Hint(err), c.hint)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestExplainFailure_NamesTheCauseAndTheNextCommand(t *testing.T) {
	noon := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		err        error
		expires    time.Time
		want, hint string
	}{
		"denied":                   {fmt.Errorf("a: %w", &agent.DeniedError{Reason: "the token was revoked"}), noon.Add(time.Hour), "revoked", "token create --role worker"},
		"another cluster":          {fmt.Errorf("10.0.0.1:9444: %w", agent.ErrPinMismatch), noon.Add(time.Hour), "is not the cluster for which the token is valid", "token create"},
		"no answer":                {errors.New("i/o timeout"), noon.Add(time.Hour), "no controller answers: i/o timeout", "9444/tcp"},
		"no answer, token expired": {errors.New("i/o timeout"), noon.Add(-time.Hour), "expired at 2026-05-01T11:00:00Z", "token create"},
	} {
		t.Run(name, func(t *testing.T) {
			env := &action.Env{GlobalOptions: action.GlobalOptions{Now: func() time.Time { return noon }}}
			o := operation{token: token.Token{Role: token.Worker, Expires: c.expires, Addresses: []string{"10.0.0.1:9444"}}}
			err := o.explainFailure(t.Context(), env, c.err)
			if problem.ExitCode(err) != problem.ExitJoin || !strings.Contains(err.Error(), c.want) || !strings.Contains(problem.Hint(err), c.hint) {
				t.Errorf("%v (%s)", err, problem.Hint(err))
			}
		})
	}
}

func TestHiddenNodes_AreThoseWhoseAddressThisHostHas(t *testing.T) {
	nodes := []agent.Node{{Name: "a", Addresses: []string{"10.0.0.1"}}, {Name: "b", Addresses: []string{"10.0.0.2", "::ffff:10.9.0.2"}}}
	nic := func(name string, up bool, addresses ...string) (i facts.Interface) {
		i.Name, i.Up = name, up
		for _, a := range addresses {
			i.Addresses = append(i.Addresses, netip.MustParsePrefix(a))
		}
		return i
	}
	for name, c := range map[string]struct {
		nics []facts.Interface
		self string
		want []string
	}{
		"none":                   {[]facts.Interface{nic("eth0", true, "10.0.0.9/24")}, "w", nil},
		"of a controller":        {[]facts.Interface{nic("eth0", true, "10.0.0.9/24"), nic("x", true, "10.0.0.1/24")}, "w", []string{"10.0.0.1 of node a"}},
		"another address of one": {[]facts.Interface{nic("eth0", true, "10.0.0.9/24", "10.9.0.2/24")}, "w", []string{"10.9.0.2 of node b"}},
		"of two":                 {[]facts.Interface{nic("x", true, "10.0.0.1/32", "10.0.0.2/32")}, "w", []string{"10.0.0.1 of node a", "10.0.0.2 of node b"}},
		"on an interface down":   {[]facts.Interface{nic("x", false, "10.0.0.1/24")}, "w", nil},
		"its own, joining again": {[]facts.Interface{nic("eth0", true, "10.0.0.2/24", "10.9.0.2/24")}, "b", nil},
		"the one it joins with":  {[]facts.Interface{nic("eth0", true, "10.0.0.9/24")}, "w", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := hiddenNodes(nodes, facts.Network{Interfaces: c.nics}, c.self, netip.MustParseAddr("10.0.0.9"))
			if len(got) != len(c.want) {
				t.Fatalf("%q, want %q", got, c.want)
			}
			for i, want := range c.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("%q, want %q", got[i], want)
				}
			}
		})
	}
}
