package join

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/preflight"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

const dataDir, version = "/var/lib/plinth", "v1.2.3"

// newVendorKey returns a vendor's key pair.
func newVendorKey(t *testing.T) (trust.PrivateKey, trust.PublicKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	testkit.Must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	testkit.Must(t, err)
	private, err := trust.ParsePrivateKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	testkit.Must(t, err)
	public, err := private.Public()
	testkit.Must(t, err)
	return private, public
}

// cluster is an agent that answers with info, and serves blobs.
type cluster struct {
	info  agent.ClusterInfo
	blobs map[digest.Digest][]byte
	read  sync.Map // digests of the blobs that were requested
}

func (c *cluster) DescribeCluster(context.Context, agent.Caller) (agent.ClusterInfo, error) {
	return c.info, nil
}

func (c *cluster) Admit(context.Context, agent.Caller, agent.JoinRequest) (agent.JoinResponse, error) {
	return agent.JoinResponse{}, nil
}
func (c *cluster) Renew(context.Context, agent.Caller, agent.RenewRequest) (agent.RenewResponse, error) {
	return agent.RenewResponse{}, nil
}
func (c *cluster) CheckReadAccess(context.Context, agent.Caller) error { return nil }
func (c *cluster) CheckNode(context.Context, nodecert.NodeID) error    { return nil }

type content struct{ *bytes.Reader }

func (content) Close() error { return nil }

func (c *cluster) Open(_ context.Context, d digest.Digest) (agent.BlobContent, error) {
	data, ok := c.blobs[d]
	if !ok {
		return nil, fs.ErrNotExist
	}
	c.read.Store(d, true)
	return content{bytes.NewReader(data)}, nil
}

// bundleFile is a bundle with the repository's Installer.
type bundleFile struct {
	path   string
	bundle *airgap.Bundle
	docs   map[string][]byte
}

// newBundle writes a bundle with the signature that sign returns; nil for none.
func newBundle(t *testing.T, release int64, sign func([]byte) ([]byte, error)) bundleFile {
	t.Helper()
	req := airgaptest.NewRequest(t)
	var err error
	req.Installer, err = os.ReadFile("../../../installer.yaml")
	testkit.Must(t, err)
	req.Release, req.Sign = release, sign
	b := bundleFile{path: airgaptest.WriteBundle(t, req)}
	b.bundle, err = airgap.Open(t.Context(), b.path)
	testkit.Must(t, err)
	t.Cleanup(func() { _ = b.bundle.Close() })
	b.docs, err = b.bundle.Documents(t.Context())
	testkit.Must(t, err)
	return b
}

// installer returns the Installer of the bundle.
func (b bundleFile) installer(t *testing.T) *spec.Installer {
	t.Helper()
	raw, err := b.bundle.Installer(t.Context())
	testkit.Must(t, err)
	in, findings := spec.ParseInstaller("installer.yaml", raw)
	if in == nil {
		t.Fatalf("%+v", findings)
	}
	return in
}

// site is a cluster with the given bundle, a token for it, and the environment of a host
// that joins.
type site struct {
	cluster *cluster
	token   token.Token
	env     *action.Env
}

// newSite starts a cluster whose administrator installed b with the vendor's key.
func newSite(t *testing.T, b bundleFile, key trust.PublicKey) site {
	t.Helper()
	ca, err := pki.NewCA("kubernetes-ca", time.Now())
	testkit.Must(t, err)
	authority, err := ca.Leaf()
	testkit.Must(t, err)
	identity, err := node.NewIdentity(time.Now())
	testkit.Must(t, err)
	identity, err = identity.Issue(nodecert.Identity{Node: "a", UID: "uid", Role: token.Controller, Address: "127.0.0.1"}, ca, time.Now())
	testkit.Must(t, err)
	c := &cluster{blobs: map[digest.Digest][]byte{}}
	for _, data := range b.docs {
		c.blobs[digest.FromBytes(data)] = data
	}
	c.info = agent.ClusterInfo{Time: time.Now(), Cluster: "my-app", Role: token.Worker, Bundle: b.bundle.Digest(), CA: ca.Cert, VendorKey: key.PEM(),
		Fields: desired.SharedConfig(b.installer(t), b.bundle.Digest().String(), dataDir, version)}
	if !key.IsZero() {
		c.info.Signature = b.bundle.Signature()
	}
	pair, err := identity.TLS()
	testkit.Must(t, err)
	srv := httptest.NewUnstartedServer(agent.Service{Backend: c, Store: c}.Handler())
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)

	h := hosttest.New(t).Host()
	testkit.Must(t, h.Write("/etc/machine-id", strings.NewReader("m1\n"), 0o644))
	env := &action.Env{Host: h, GlobalOptions: action.GlobalOptions{DataDir: dataDir, Now: time.Now, Version: version, Note: func(string) {}}}
	_, err = env.OpenJournal()
	testkit.Must(t, err)
	return site{cluster: c, env: env, token: token.Token{Cluster: "my-app", Addresses: []string{srv.Listener.Addr().String()}, Pin: token.PublicKeyPin(authority),
		Role: token.Worker, ID: "id", Secret: "secret", Expires: time.Now().Add(time.Hour),
		Bundle: b.bundle.Digest().String(), SharedConfig: desired.SharedConfigDigest(c.info.Fields), VendorKey: key.Fingerprint()}}
}

// inspect runs the part of a join that precedes the preflights.
func (s site) inspect(t *testing.T, bundle string) (*operation, error) {
	t.Helper()
	o := &operation{token: s.token, cluster: agent.NewClient(s.token, nil), opts: Options{Bundle: bundle}}
	t.Cleanup(o.close)
	return o, o.inspect(t.Context(), s.env)
}

func TestInspect_RefusesAHostThatChangedSinceTheJoinFailed(t *testing.T) {
	for name, c := range map[string]struct {
		was   journal.Args
		flags preflight.AddressFlags
		exit  int
		want  string
	}{
		"another machine id":   {journal.Args{Node: "w1", MachineID: "m0"}, preflight.AddressFlags{}, problem.ExitPreflight, "its machine id was m0 and is now m1"},
		"another address":      {journal.Args{Node: "w1", MachineID: "m1", Address: "203.0.113.77"}, preflight.AddressFlags{}, problem.ExitPreflight, "no longer has its node's address 203.0.113.77"},
		"no address in a flag": {journal.Args{}, preflight.AddressFlags{Address: "w1"}, problem.ExitUsage, "is not an IPv4 address"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, newBundle(t, 1, nil), trust.PublicKey{})
			c.was.Role, c.was.CAPin = s.token.Role, s.token.Pin
			testkit.Must(t, s.env.Journal().BeginRun("join", c.was))
			o := &operation{token: s.token, cluster: agent.NewClient(s.token, nil), opts: Options{NodeAddress: c.flags}}
			t.Cleanup(o.close)
			// Without a routing table, the host's network would be unknown.
			testkit.Must(t, s.env.Host.Write("/proc/net/route", strings.NewReader("Iface\n"), 0o644))
			err := o.inspect(t.Context(), s.env)
			if problem.ExitCode(err) != c.exit || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want exit code %d and %q", err, c.exit, c.want)
			}
		})
	}
}

func TestInspect_AcceptsOnlyTheBundleOfTheToken(t *testing.T) {
	private, public := newVendorKey(t)
	stranger, strangerPublic := newVendorKey(t)
	ours, theirs := newBundle(t, 2, private.Sign), newBundle(t, 3, stranger.Sign)
	forged, err := stranger.Sign(ours.docs["index.json"])
	testkit.Must(t, err)
	_, otherCA := authority(t)
	for name, c := range map[string]struct {
		answer func(*agent.ClusterInfo)
		bundle string
		want   string // in the refusal; "" if accepted
	}{
		"the same":               {func(*agent.ClusterInfo) {}, "", ""},
		"the same, from a file":  {func(*agent.ClusterInfo) {}, ours.path, ""},
		"another bundle":         {func(i *agent.ClusterInfo) { i.Bundle = theirs.bundle.Digest() }, "", "the bundle is " + theirs.bundle.Digest().String() + " instead of " + ours.bundle.Digest().String()},
		"another bundle in file": {func(*agent.ClusterInfo) {}, theirs.path, "the bundle on this host differs from the cluster's"},
		"another answer, consistent": {func(i *agent.ClusterInfo) {
			i.Bundle, i.Signature, i.VendorKey = theirs.bundle.Digest(), theirs.bundle.Signature(), strangerPublic.PEM()
			i.Fields = desired.SharedConfig(theirs.installer(t), i.Bundle.String(), dataDir, version)
		}, "", "the bundle is"},
		"another configuration":    {func(i *agent.ClusterInfo) { i.Fields[3].Value = "10.9.0.0/16" }, "", "the digest of the configuration that all hosts share is"},
		"no configuration":         {func(i *agent.ClusterInfo) { i.Fields = nil }, "", "configuration"},
		"another vendor's key":     {func(i *agent.ClusterInfo) { i.VendorKey, i.Signature = strangerPublic.PEM(), forged }, "", "the vendor's key is " + strangerPublic.Fingerprint() + " instead of " + public.Fingerprint()},
		"no vendor's key":          {func(i *agent.ClusterInfo) { i.VendorKey = nil }, "", "the vendor's key is none"},
		"a key that is text":       {func(i *agent.ClusterInfo) { i.VendorKey = []byte("key") }, "", "the vendor's key is unusable"},
		"a long key":               {func(i *agent.ClusterInfo) { i.VendorKey = append(public.PEM(), make([]byte, maxVendorKey)...) }, "", "the vendor's key is unusable"},
		"no signature":             {func(i *agent.ClusterInfo) { i.Signature = nil }, "", "is not valid for the vendor's key"},
		"a stranger's signature":   {func(i *agent.ClusterInfo) { i.Signature = forged }, "", "is not valid for the vendor's key"},
		"a signature, from a file": {func(i *agent.ClusterInfo) { i.Signature = forged }, ours.path, "is not valid for the vendor's key"},
		"a long signature":         {func(i *agent.ClusterInfo) { i.Signature = append(slices.Clone(i.Signature), make([]byte, 1<<10)...) }, "", "is not valid for the vendor's key"},
		"another role":             {func(i *agent.ClusterInfo) { i.Role = token.Controller }, "", "the role of the token is controller instead of worker"},
		"another name":             {func(i *agent.ClusterInfo) { i.Cluster = "other" }, "", "the cluster's name is other instead of my-app"},
		"another authority":        {func(i *agent.ClusterInfo) { i.CA = otherCA }, "", "certificate authority"},
		"a second authority":       {func(i *agent.ClusterInfo) { i.CA = slices.Concat(i.CA, otherCA) }, "", "certificate authority"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, ours, public)
			for _, data := range theirs.docs { // a false cluster serves a whole other bundle
				s.cluster.blobs[digest.FromBytes(data)] = data
			}
			c.answer(&s.cluster.info)
			o, err := s.inspect(t, c.bundle)
			if c.want == "" {
				if err != nil || o.installer == nil || o.vendorRecord() != (journal.Vendor{Key: o.vendorRecord().Key, Fingerprint: public.Fingerprint(), Release: 2}) || len(o.warnings) != 0 {
					t.Errorf("%v (%s)", err, problem.Hint(err))
				}
				return
			}
			if problem.ExitCode(err) != problem.ExitJoin || !strings.Contains(err.Error(), c.want) || !strings.Contains(problem.Hint(err), "nothing on this host was changed") ||
				!strings.Contains(problem.Hint(err), "token create --role worker") {
				t.Errorf("%v (%s), want %q", err, problem.Hint(err), c.want)
			}
			if o.installer != nil {
				t.Error("the Installer was parsed")
			}
			s.cluster.read.Range(func(d, _ any) bool {
				if d != ours.bundle.Digest() {
					t.Errorf("%s was read", d)
				}
				return true
			})
		})
	}
}

func TestInspect_AcceptsUnsignedBundleOnlyIfTheTokenSaysSo(t *testing.T) {
	private, public := newVendorKey(t)
	b := newBundle(t, 1, private.Sign)
	s := newSite(t, b, trust.PublicKey{})
	s.cluster.info.Signature = b.bundle.Signature() // without a key: not kept
	o, err := s.inspect(t, "")
	if err != nil || len(o.warnings) != 1 || !strings.Contains(o.warnings[0], "--allow-unsigned") || o.vendor.Signature != nil || o.vendorRecord() != (journal.Vendor{}) {
		t.Errorf("%q, %v", o.warnings, err)
	}
	s.cluster.info.VendorKey = public.PEM()
	if _, err := s.inspect(t, ""); problem.ExitCode(err) != problem.ExitJoin || !strings.Contains(err.Error(), "instead of none (--allow-unsigned)") {
		t.Errorf("a key that the token does not name: %v", err)
	}
}

func TestVerifyClusterInfo_RequiresTheEmbeddedKey(t *testing.T) {
	private, public := newVendorKey(t)
	_, other := newVendorKey(t)
	b := newBundle(t, 1, private.Sign)
	for name, c := range map[string]struct {
		cluster, embedded trust.PublicKey
		accepted          bool
	}{
		"no embedded key":       {public, trust.PublicKey{}, true},
		"the same":              {public, public, true},
		"another":               {public, other, false},
		"a cluster without one": {trust.PublicKey{}, other, false},
		"neither has one":       {trust.PublicKey{}, trust.PublicKey{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, b, c.cluster)
			o := &operation{token: s.token, clusterInfo: s.cluster.info}
			err := o.verifyClusterInfo(c.embedded)
			if c.accepted != (err == nil) || !c.accepted && (problem.ExitCode(err) != problem.ExitJoin || !strings.Contains(err.Error(), other.Fingerprint())) {
				t.Errorf("%v", err)
			}
		})
	}
}
