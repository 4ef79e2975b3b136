package node

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

var (
	noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	w1   = nodecert.Identity{Node: "w1", UID: "uid", Role: token.Worker, Address: "192.0.2.21"}
)

func newCA(t *testing.T) pki.Pair {
	t.Helper()
	ca, err := pki.NewCA(pki.ClusterCAName, noon)
	testkit.Must(t, err)
	return ca
}

func newIdentity(t *testing.T) Identity {
	t.Helper()
	i, err := NewIdentity(noon)
	testkit.Must(t, err)
	return i
}

func TestIdentity_KeepsItsKeyFromFirstRequestToCertificate(t *testing.T) {
	h := hosttest.New(t).Host()
	if _, err := ReadIdentity(h, "/data"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	first := newIdentity(t)
	testkit.Must(t, first.Write(h, "/data"))
	if info, err := h.Lstat(IdentityPath("/data")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	stored, err := ReadIdentity(h, "/data")
	testkit.Must(t, err)
	if ca, err := stored.Authority(); ca != nil || err != nil {
		t.Errorf("a host that was not admitted has the authority %v, %v", ca, err)
	}
	if p, ok := stored.NodeID(); ok {
		t.Errorf("a host that was not admitted is %+v", p)
	}
	ca := newCA(t)
	issued, err := stored.Issue(w1, ca, noon)
	testkit.Must(t, err)
	testkit.Must(t, issued.Write(h, "/data"))
	if stored, err = ReadIdentity(h, "/data"); err != nil || string(stored.Pair.Key) != string(first.Pair.Key) {
		t.Errorf("another key: %v", err)
	}
	authority, err := ca.Leaf()
	testkit.Must(t, err)
	if got, err := stored.Authority(); err != nil || !got.Equal(authority) {
		t.Errorf("another authority: %v", err)
	}
	if p, ok := stored.NodeID(); !ok || p != (nodecert.NodeID{Node: "w1", UID: "uid", Role: token.Worker}) {
		t.Errorf("%+v", p)
	}
	if cert, err := stored.TLS(); err != nil || len(cert.Certificate) != 2 || cert.Leaf.VerifyHostname("192.0.2.21") != nil {
		t.Errorf("%v", err)
	}
}

func TestReadIdentity_RefusesDamagedFile(t *testing.T) {
	one, other := newIdentity(t), newIdentity(t)
	for name, content := range map[string][]byte{
		"empty":          nil,
		"text":           []byte("x"),
		"no key":         one.Pair.Cert,
		"no certificate": one.Pair.Key,
		"another key":    slices.Concat(one.Pair.Cert, other.Pair.Key),
		"cut off":        slices.Concat(one.Pair.Cert, one.Pair.Key[:100]),
	} {
		t.Run(name, func(t *testing.T) {
			h := hosttest.New(t).Host()
			testkit.Must(t, h.Write(IdentityPath("/data"), strings.NewReader(string(content)), 0o600))
			if _, err := ReadIdentity(h, "/data"); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), IdentityPath("/data")) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestIdentityWithCertificate_AcceptsOnlyThatOfItsAuthorityAndKey(t *testing.T) {
	i, ca, otherCA := newIdentity(t), newCA(t), newCA(t)
	sign := func(i Identity, kind nodecert.Kind, ca pki.Pair) []byte {
		t.Helper()
		key, err := i.Key()
		testkit.Must(t, err)
		request, err := nodecert.NewRequest(kind, w1, key)
		testkit.Must(t, err)
		cert, err := nodecert.Sign(kind, w1, request, ca, noon)
		testkit.Must(t, err)
		return cert
	}
	good, foreign := sign(i, nodecert.Agent, ca), sign(i, nodecert.Agent, otherCA)
	for name, tt := range map[string]struct {
		cert, ca []byte
		accepted bool
	}{
		"its certificate":                     {good, ca.Cert, true},
		"of another authority":                {foreign, ca.Cert, false},
		"with another authority":              {slices.Concat(foreign, otherCA.Cert), ca.Cert, false},
		"with its authority":                  {slices.Concat(good, ca.Cert), ca.Cert, false},
		"for another key":                     {sign(newIdentity(t), nodecert.Agent, ca), ca.Cert, false},
		"of a kubelet":                        {sign(i, nodecert.KubeletClient, ca), ca.Cert, false},
		"self-signed":                         {i.Pair.Cert, ca.Cert, false},
		"authority itself":                    {ca.Cert, ca.Cert, false},
		"none":                                {nil, ca.Cert, false},
		"text":                                {[]byte("x"), ca.Cert, false},
		"without an authority":                {good, nil, false},
		"with two authorities":                {good, slices.Concat(ca.Cert, otherCA.Cert), false},
		"with an authority that has not sign": {good, otherCA.Cert, false},
	} {
		t.Run(name, func(t *testing.T) {
			next, err := i.WithCertificate(tt.cert, tt.ca)
			if tt.accepted != (err == nil) || !tt.accepted && next.Pair.Cert != nil {
				t.Errorf("%v", err)
			}
			if _, ok := next.NodeID(); ok != tt.accepted {
				t.Error("it is the identity of a node")
			}
		})
	}
}
