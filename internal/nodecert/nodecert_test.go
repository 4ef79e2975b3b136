package nodecert

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/token"
)

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

var w1 = Identity{Node: "w1", UID: "abcdefghijklmnopqrstuvwxyz", Role: token.Worker, Address: "192.0.2.21"}

// The keys are shared by all tests, because RSA keys take long to create.
var (
	testCA    = sync.OnceValue(func() pki.Pair { return must(pki.NewClusterCA(now)) })
	testRSA   = sync.OnceValue(func() crypto.Signer { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	testECDSA = sync.OnceValue(func() crypto.Signer { return newECDSA(elliptic.P256()) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newECDSA(c elliptic.Curve) crypto.Signer { return must(ecdsa.GenerateKey(c, rand.Reader)) }

// newTemplateRequest returns a request that CheckRequest accepts, for a test to change.
func newTemplateRequest(kind Kind, id Identity) *x509.CertificateRequest {
	organization, name, err := kind.subject(id)
	if err != nil {
		panic(err)
	}
	c := &x509.CertificateRequest{Subject: pkix.Name{Organization: []string{organization}, CommonName: name}}
	if kind.hasNames() {
		c.DNSNames, c.IPAddresses = []string{id.Node}, []net.IP{net.ParseIP(id.Address)}
	}
	return c
}

// withSecondName returns the subject with one more common name, which pkix.Name cannot contain.
func withSecondName(subject pkix.Name, name string) []byte {
	return must(asn1.Marshal(append(subject.ToRDNSequence(), pkix.RelativeDistinguishedNameSET{{Type: oidCommonName, Value: name}})))
}

// request is the outer structure of a request.
type request struct {
	Info      asn1.RawValue
	Algorithm asn1.RawValue
	Signature asn1.BitString
}

// replaceKey returns the request der with another public key and the old signature.
func replaceKey(t *testing.T, der []byte, public any) []byte {
	t.Helper()
	var outer request
	var info struct {
		Version    int
		Subject    asn1.RawValue
		Key        asn1.RawValue
		Attributes asn1.RawValue
	}
	must(asn1.Unmarshal(der, &outer))
	must(asn1.Unmarshal(outer.Info.FullBytes, &info))
	info.Key = asn1.RawValue{FullBytes: must(x509.MarshalPKIXPublicKey(public))}
	outer.Info = asn1.RawValue{FullBytes: must(asn1.Marshal(info))}
	return must(asn1.Marshal(outer))
}

func sanExtension(t *testing.T, names ...asn1.RawValue) pkix.Extension {
	t.Helper()
	return pkix.Extension{Id: oidSubjectAltName, Value: must(asn1.Marshal(names))}
}

func sanName(tag int, value string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(value)}
}

func TestCheckRequest_RefusesBrokenRule(t *testing.T) {
	dns, address := sanName(tagDNSName, "w1"), sanName(tagIPAddress, "\xc0\x00\x02\x15")
	for name, tc := range map[string]struct {
		kind   Kind
		change func(c *x509.CertificateRequest)
		want   string
	}{
		"controller's organization": {Agent, func(c *x509.CertificateRequest) { c.Subject.Organization = []string{controllerOrganization} }, `the organization is "plinth:controllers", not "plinth:workers"`},
		"administrators":            {KubeletClient, func(c *x509.CertificateRequest) { c.Subject.Organization = []string{"system:masters"} }, `the organization is "system:masters"`},
		"agent as kubelet":          {KubeletClient, func(c *x509.CertificateRequest) { c.Subject = newTemplateRequest(Agent, w1).Subject }, `the organization is "plinth:workers"`},
		"kubelet as agent":          {Agent, func(c *x509.CertificateRequest) { c.Subject = newTemplateRequest(KubeletClient, w1).Subject }, `the organization is "system:nodes"`},
		"second organization": {KubeletClient, func(c *x509.CertificateRequest) {
			c.Subject.Organization = append(c.Subject.Organization, "system:masters")
		}, "more than an organization"},
		"second organization in the same RDN": {KubeletClient, func(c *x509.CertificateRequest) {
			c.RawSubject = must(asn1.Marshal(pkix.RDNSequence{{{Type: oidOrganization, Value: "system:nodes"}, {Type: oidOrganization, Value: "system:masters"}}, {{Type: oidCommonName, Value: "system:node:w1"}}}))
		}, "more than an organization"},
		"no organization":    {KubeletClient, func(c *x509.CertificateRequest) { c.Subject.Organization = nil }, `the organization is ""`},
		"another node":       {KubeletClient, func(c *x509.CertificateRequest) { c.Subject.CommonName = "system:node:a" }, `the common name is "system:node:a", not "system:node:w1"`},
		"other case of name": {KubeletClient, func(c *x509.CertificateRequest) { c.Subject.CommonName = "system:node:W1" }, "the common name"},
		"another agent":      {Agent, func(c *x509.CertificateRequest) { c.Subject.CommonName = "plinth:node:a" }, "the common name"},
		"second common name": {KubeletClient, func(c *x509.CertificateRequest) {
			c.RawSubject = withSecondName(c.Subject, "system:node:a")
		}, "more than"},
		"no common name":        {KubeletClient, func(c *x509.CertificateRequest) { c.Subject.CommonName = "" }, "the common name"},
		"organizational unit":   {Agent, func(c *x509.CertificateRequest) { c.Subject.OrganizationalUnit = []string{"x"} }, "more than"},
		"name in client":        {KubeletClient, func(c *x509.CertificateRequest) { c.DNSNames = []string{"w1"} }, "has no names"},
		"empty names in client": {KubeletClient, func(c *x509.CertificateRequest) { c.ExtraExtensions = []pkix.Extension{sanExtension(t)} }, "has no names"},
		"another name":          {KubeletServing, func(c *x509.CertificateRequest) { c.DNSNames = []string{"w1", "kubernetes.default.svc"} }, `the name "kubernetes.default.svc" is not that of the node`},
		"wildcard":              {KubeletServing, func(c *x509.CertificateRequest) { c.DNSNames = []string{"*"} }, "is not that of the node"},
		"name with NUL": {Agent, func(c *x509.CertificateRequest) {
			c.ExtraExtensions = []pkix.Extension{sanExtension(t, sanName(tagDNSName, "w1\x00.a"))}
		}, "is not that of the node"},
		"another address": {KubeletServing, func(c *x509.CertificateRequest) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }, "the address 127.0.0.1 is not that of the node"},
		"second address": {Agent, func(c *x509.CertificateRequest) {
			c.IPAddresses = append(c.IPAddresses, net.IPv4(192, 0, 2, 11))
		}, "the address 192.0.2.11"},
		"no names":       {KubeletServing, func(c *x509.CertificateRequest) { c.DNSNames, c.IPAddresses = nil, nil }, "no name and no address"},
		"no names agent": {Agent, func(c *x509.CertificateRequest) { c.DNSNames, c.IPAddresses = nil, nil }, "no name and no address"},
		"email address":  {KubeletServing, func(c *x509.CertificateRequest) { c.EmailAddresses = []string{"a@example.com"} }, "another kind (1)"},
		"URI":            {Agent, func(c *x509.CertificateRequest) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "a"}} }, "another kind (6)"},
		"other name": {Agent, func(c *x509.CertificateRequest) {
			c.ExtraExtensions = []pkix.Extension{sanExtension(t, dns, address, sanName(8, "\x2a"))}
		}, "another kind (8)"},
		"authority": {Agent, func(c *x509.CertificateRequest) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Value: []byte{0x30, 3, 1, 1, 0xff}}}
		}, "asks for the extension 2.5.29.19"},
		"key usage": {KubeletClient, func(c *x509.CertificateRequest) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: []byte{0x30, 0}}}
		}, "asks for the extension 2.5.29.37"},
		"other attribute": {KubeletClient, func(c *x509.CertificateRequest) {
			//nolint:staticcheck // deprecated, but the only way to write an attribute that is not an extension
			c.Attributes = []pkix.AttributeTypeAndValueSET{{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, Value: [][]pkix.AttributeTypeAndValue{}}}
		}, "has the attribute 1.2.840.113549.1.9.7"},
		"too large": {KubeletServing, func(c *x509.CertificateRequest) { c.DNSNames = slices.Repeat([]string{"w1"}, 5000) }, "bytes, more than"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTemplateRequest(tc.kind, w1)
			tc.change(c)
			der := must(x509.CreateCertificateRequest(rand.Reader, c, testECDSA()))
			if _, err := CheckRequest(tc.kind, w1, der); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
			if cert, err := Sign(tc.kind, w1, der, testCA(), now); err == nil {
				t.Errorf("signed: %s", cert)
			}
		})
	}
}

func TestCheckRequest_RefusesKey(t *testing.T) {
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	valid := must(NewRequest(KubeletClient, w1, testECDSA()))
	validRSA := must(NewRequest(KubeletClient, w1, testRSA()))
	huge := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 8192, 1), E: 65537}
	for name, tc := range map[string]struct {
		der  []byte
		want string
	}{
		"not a request":          {[]byte("x"), "cannot parse"},
		"data after the request": {append(slices.Clone(valid), 0), "cannot parse"},
		"PEM":                    {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: valid}), "cannot parse"},
		"key of another":         {replaceKey(t, valid, newECDSA(elliptic.P256()).Public()), "not signed by its key"},
		"P-224":                  {must(NewRequest(KubeletClient, w1, newECDSA(elliptic.P224()))), "the curve P-224"},
		"P-521":                  {must(NewRequest(KubeletClient, w1, newECDSA(elliptic.P521()))), "the curve P-521"},
		"Ed25519":                {must(NewRequest(KubeletClient, w1, edKey)), "not ECDSA or RSA"},
		"short RSA":              {must(NewRequest(KubeletClient, w1, must(rsa.GenerateKey(rand.Reader, 1536)))), "1536 bits"},
		"huge RSA":               {replaceKey(t, validRSA, huge), "8193 bits"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := CheckRequest(KubeletClient, w1, tc.der); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestCheckRequest_RefusesIncompleteIdentity(t *testing.T) {
	der := must(NewRequest(Agent, w1, testECDSA()))
	for name, tc := range map[string]struct {
		kind   Kind
		change func(id *Identity)
		want   string
	}{
		"no name":         {Agent, func(id *Identity) { id.Node = "" }, "name of a node"},
		"invalid name":    {Agent, func(id *Identity) { id.Node = "w1:a" }, "name of a node"},
		"no role":         {Agent, func(id *Identity) { id.Role = "" }, "role of a node"},
		"no address":      {Agent, func(id *Identity) { id.Address = "" }, "IP address of a node"},
		"host as address": {Agent, func(id *Identity) { id.Address = "w1" }, "IP address of a node"},
		"unknown kind":    {"server", func(*Identity) {}, "unknown kind"},
		"no UID":          {Agent, func(id *Identity) { id.UID = "" }, "no UID"},
	} {
		t.Run(name, func(t *testing.T) {
			id := w1
			tc.change(&id)
			if _, err := Sign(tc.kind, id, der, testCA(), now); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestCheckRequest_AcceptsWhatKubeletSends(t *testing.T) {
	for name, change := range map[string]func(c *x509.CertificateRequest){
		"both names":   func(*x509.CertificateRequest) {},
		"name only":    func(c *x509.CertificateRequest) { c.IPAddresses = nil },
		"address only": func(c *x509.CertificateRequest) { c.DNSNames = nil },
		"IPv4 in IPv6": func(c *x509.CertificateRequest) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 21).To16()} },
		"foreign UID": func(c *x509.CertificateRequest) {
			c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: oidUID, Value: "of-another"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTemplateRequest(KubeletServing, w1)
			change(c)
			der := must(x509.CreateCertificateRequest(rand.Reader, c, testECDSA()))
			cert := parseCert(t, must(Sign(KubeletServing, w1, der, testCA(), now)))
			if node, uid, ok := KubeletUID(cert); node != w1.Node || uid != w1.UID || !ok {
				t.Errorf("%v %v %v", node, uid, ok)
			}
			if len(cert.DNSNames) != len(c.DNSNames) || len(cert.IPAddresses) != len(c.IPAddresses) {
				t.Errorf("%v %v", cert.DNSNames, cert.IPAddresses)
			}
		})
	}
}

func parseCert(t testing.TB, raw []byte) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode(raw)
	if block == nil || len(rest) > 0 {
		t.Fatalf("not one certificate: %s", raw)
		return nil
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func verify(t testing.TB, cert *x509.Certificate, usage x509.ExtKeyUsage) error {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(testCA().Cert)
	_, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
	return err
}

func TestSign_RoundTrip(t *testing.T) {
	c1 := Identity{Node: "c1.example.com", UID: NewUID(), Role: token.Controller, Address: "2001:db8::11"}
	keys := map[string]crypto.Signer{"P-256": testECDSA(), "P-384": newECDSA(elliptic.P384()), "RSA": testRSA()}
	for name, tc := range map[string]struct {
		kind           Kind
		id             Identity
		client, server bool
		subject        string
	}{
		"kubelet client":  {KubeletClient, w1, true, false, "CN=system:node:w1,O=system:nodes"},
		"kubelet serving": {KubeletServing, c1, false, true, "CN=system:node:c1.example.com,O=system:nodes"},
		"worker":          {Agent, w1, true, true, "CN=plinth:node:w1,O=plinth:workers"},
		"controller":      {Agent, c1, true, true, "CN=plinth:node:c1.example.com,O=plinth:controllers"},
	} {
		for algorithm, key := range keys {
			t.Run(name+" "+algorithm, func(t *testing.T) {
				cert := parseCert(t, must(Sign(tc.kind, tc.id, must(NewRequest(tc.kind, tc.id, key)), testCA(), now)))
				if err := verify(t, cert, x509.ExtKeyUsageClientAuth); (err == nil) != tc.client {
					t.Errorf("as client: %v", err)
				}
				if err := verify(t, cert, x509.ExtKeyUsageServerAuth); (err == nil) != tc.server {
					t.Errorf("as server: %v", err)
				}
				for _, host := range []string{tc.id.Node, tc.id.Address} {
					if err := cert.VerifyHostname(host); (err == nil) != tc.server {
						t.Errorf("%s: %v", host, err)
					}
				}
				if !key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(cert.PublicKey) {
					t.Error("the certificate has another key")
				}
				if got := (cert.KeyUsage & x509.KeyUsageKeyEncipherment) != 0; got != (algorithm == "RSA") {
					t.Errorf("key encipherment %v", got)
				}
				if !cert.NotBefore.Equal(now.Add(-time.Hour)) || !cert.NotAfter.Equal(now.Add(Lifetime)) {
					t.Errorf("valid from %s to %s", cert.NotBefore, cert.NotAfter)
				}
				if got := uidOf(cert); got != tc.id.UID || !strings.HasPrefix(subjectWithoutUID(cert), tc.subject) {
					t.Errorf("UID %q of %q", got, cert.Subject)
				}
			})
		}
	}
}

// uidOf returns the UID as kube-apiserver reads it.
func uidOf(cert *x509.Certificate) (uid string) {
	for _, a := range cert.Subject.Names {
		if a.Type.Equal(oidUID) {
			uid, _ = a.Value.(string)
		}
	}
	return uid
}

func subjectWithoutUID(cert *x509.Certificate) string {
	return pkix.Name{CommonName: cert.Subject.CommonName, Organization: cert.Subject.Organization}.String()
}

func TestSign_NeverOutlivesAuthority(t *testing.T) {
	der := must(NewRequest(Agent, w1, testECDSA()))
	late := now.Add(pki.CALifetime - 24*time.Hour)
	if cert := parseCert(t, must(Sign(Agent, w1, der, testCA(), late))); cert.NotAfter.After(now.Add(pki.CALifetime)) {
		t.Errorf("valid until %s", cert.NotAfter)
	}
	for name, when := range map[string]time.Time{"expired": now.Add(pki.CALifetime), "not valid yet": now.Add(-2 * time.Hour)} {
		t.Run(name, func(t *testing.T) {
			if _, err := Sign(Agent, w1, der, testCA(), when); err == nil || !strings.Contains(err.Error(), "the certificate authority is valid") {
				t.Error(err)
			}
		})
	}
	t.Run("not an authority", func(t *testing.T) {
		server := must(pki.NewSelfSigned([]string{"x"}, now))
		if _, err := Sign(Agent, w1, der, server, now); err == nil || !strings.Contains(err.Error(), "not a certificate authority") {
			t.Error(err)
		}
	})
}

func TestSign_APIAddressIsForAgentsOfControllersOnly(t *testing.T) {
	for name, tc := range map[string]struct {
		kind Kind
		role string
		want bool
	}{
		"controller":      {Agent, token.Controller, true},
		"worker":          {Agent, token.Worker, false},
		"kubelet serving": {KubeletServing, token.Controller, false},
		"kubelet client":  {KubeletClient, token.Controller, false},
	} {
		for _, api := range []string{"api.example.com", "192.0.2.100"} {
			t.Run(name+" "+api, func(t *testing.T) {
				id := w1
				id.Role, id.API = tc.role, api
				cert := parseCert(t, must(Sign(tc.kind, id, must(NewRequest(tc.kind, id, testECDSA())), testCA(), now)))
				if err := cert.VerifyHostname(api); (err == nil) != tc.want {
					t.Error(err)
				}
			})
		}
	}
}

func TestNodeIDOf(t *testing.T) {
	cert := func(kind Kind, change func(c *x509.Certificate)) *x509.Certificate {
		key := testECDSA()
		csr := must(CheckRequest(kind, w1, must(NewRequest(kind, w1, key))))
		template := must(newTemplate(kind, w1, csr, now))
		change(template)
		der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
		return must(x509.ParseCertificate(der))
	}
	if p, ok := NodeIDOf(cert(Agent, func(*x509.Certificate) {})); !ok || p != (NodeID{"w1", w1.UID, token.Worker}) {
		t.Errorf("%+v %v", p, ok)
	}
	for name, c := range map[string]*x509.Certificate{
		"kubelet client":  cert(KubeletClient, func(*x509.Certificate) {}),
		"kubelet serving": cert(KubeletServing, func(*x509.Certificate) {}),
		"kubelet's names with both usages": cert(KubeletClient, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		}),
		"kubelet's name":     cert(Agent, func(c *x509.Certificate) { c.Subject.CommonName = "system:node:w1" }),
		"no prefix":          cert(Agent, func(c *x509.Certificate) { c.Subject.CommonName = "w1" }),
		"prefix only":        cert(Agent, func(c *x509.Certificate) { c.Subject.CommonName = "plinth:node:" }),
		"kubelet's group":    cert(Agent, func(c *x509.Certificate) { c.Subject.Organization = []string{"system:nodes"} }),
		"both organizations": cert(Agent, func(c *x509.Certificate) { c.Subject.Organization = []string{"plinth:workers", "plinth:controllers"} }),
		"no organization":    cert(Agent, func(c *x509.Certificate) { c.Subject.Organization = nil }),
		"no UID":             cert(Agent, func(c *x509.Certificate) { c.Subject.ExtraNames = nil }),
		"two UIDs": cert(Agent, func(c *x509.Certificate) {
			c.Subject.ExtraNames = append(c.Subject.ExtraNames, pkix.AttributeTypeAndValue{Type: oidUID, Value: "x"})
		}),
		"two common names": cert(Agent, func(c *x509.Certificate) {
			c.RawSubject = withSecondName(c.Subject, "plinth:node:a")
		}),
		"client only": cert(Agent, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] }),
		"server only": cert(Agent, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }),
		"any usage":   cert(Agent, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }),
		"authority":   cert(Agent, func(c *x509.Certificate) { c.IsCA = true }),
	} {
		t.Run(name, func(t *testing.T) {
			if p, ok := NodeIDOf(c); ok {
				t.Errorf("accepted as %+v", p)
			}
		})
	}
}

func TestNewUID_IsRandom(t *testing.T) {
	a, b := NewUID(), NewUID()
	if len(a) != 26 || a == b || strings.ToLower(a) != a {
		t.Errorf("%q %q", a, b)
	}
}

// FuzzCheckRequest builds requests of the parts, or parses raw as it is. Each request that is accepted must
// give a certificate with the admitted identity and names only.
func FuzzCheckRequest(f *testing.F) {
	kinds := []Kind{KubeletClient, KubeletServing, Agent}
	for i, kind := range kinds {
		organization, name, _ := kind.subject(w1)
		f.Add(uint8(i), must(NewRequest(kind, w1, testECDSA())), "", "", "", "", []byte(nil), []byte(nil))
		f.Add(uint8(i), []byte(nil), organization, name, "", "w1", []byte{192, 0, 2, 21}, []byte(nil))
		f.Add(uint8(i), []byte(nil), organization, name, "uid", "a", []byte{127, 0, 0, 1}, []byte{0x30, 4, 0x82, 2, 'w', '1'})
	}
	f.Fuzz(func(t *testing.T, k uint8, raw []byte, organization, name, uid, dns string, ip, san []byte) {
		kind := kinds[int(k)%len(kinds)]
		if len(raw) == 0 {
			c := &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}
			for o := range strings.SplitSeq(organization, "|") {
				c.Subject.Organization = append(c.Subject.Organization, o)
			}
			if uid != "" {
				c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: oidUID, Value: uid}}
			}
			if dns != "" {
				c.DNSNames = strings.Split(dns, "|")
			}
			if len(ip) > 0 {
				c.IPAddresses = []net.IP{ip}
			}
			if len(san) > 0 {
				c.ExtraExtensions = []pkix.Extension{{Id: oidSubjectAltName, Value: san}}
			}
			var err error
			if raw, err = x509.CreateCertificateRequest(rand.Reader, c, testECDSA()); err != nil {
				return
			}
		}
		signed, err := Sign(kind, w1, raw, testCA(), now)
		if err != nil {
			return
		}
		checkOracle(t, kind, parseCert(t, signed))
	})
}

// checkOracle fails the test unless cert is exactly a certificate of w1.
func checkOracle(t *testing.T, kind Kind, cert *x509.Certificate) {
	t.Helper()
	organization, name, err := kind.subject(w1)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(cert.Subject.Organization, []string{organization}) || cert.Subject.CommonName != name || uidOf(cert) != w1.UID || len(cert.Subject.Names) != 3 {
		t.Errorf("subject %v", cert.Subject.Names)
	}
	if cert.IsCA || len(cert.EmailAddresses)+len(cert.URIs) > 0 || slices.ContainsFunc(cert.DNSNames, func(n string) bool { return n != w1.Node }) ||
		slices.ContainsFunc(cert.IPAddresses, func(ip net.IP) bool { return ip.String() != w1.Address }) {
		t.Errorf("names %v %v %v %v", cert.DNSNames, cert.IPAddresses, cert.EmailAddresses, cert.URIs)
	}
	if kind.hasNames() != (len(cert.DNSNames)+len(cert.IPAddresses) > 0) {
		t.Errorf("%d names, %d addresses", len(cert.DNSNames), len(cert.IPAddresses))
	}
	p, isAgent := NodeIDOf(cert)
	node, uid, isKubelet := KubeletUID(cert)
	if isAgent != (kind == Agent) || isKubelet == isAgent {
		t.Errorf("%s: agent %v, kubelet %v", kind, isAgent, isKubelet)
	}
	if isAgent && p != (NodeID{w1.Node, w1.UID, w1.Role}) || isKubelet && (node != w1.Node || uid != w1.UID) {
		t.Errorf("agent %+v, kubelet %s %s", p, node, uid)
	}
	usage := x509.ExtKeyUsageServerAuth
	if kind == KubeletClient {
		usage = x509.ExtKeyUsageClientAuth
	}
	if err := verify(t, cert, usage); err != nil {
		t.Error(err)
	}
	if block, _ := pem.Decode(testCA().Cert); !bytes.Equal(cert.RawIssuer, must(x509.ParseCertificate(block.Bytes)).RawSubject) {
		t.Errorf("issuer %s", cert.Issuer)
	}
}
