// Package nodecert checks and signs the certificates of nodes: for the name, the UID and the address
// that the cluster has admitted, and for nothing else. Its functions do not read or write anything.
//
// A signer calls Sign with the record of the node, never with values from the request.
package nodecert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/token"
)

// Identity is what the cluster has admitted.
type Identity struct {
	Node    string // Kubernetes name
	UID     string // of the admission; a later admission of the same name has another UID
	Role    string // token.Controller or token.Worker
	Address string // IP address
	API     string // name or address of the API server's load balancer, which a controller's agent serves too; "" for none
}

// Kind is the purpose of a certificate.
type Kind string

// The kinds of certificates. Each contains the subject's UID attribute (1.3.6.1.4.1.57683.2), which
// Kubernetes turns into userInfo.uid (apiserver/pkg/authentication/request/x509).
const (
	// KubeletClient is for O=system:nodes, CN=system:node:NAME; client; without names.
	KubeletClient Kind = "kubelet client"
	// KubeletServing has the same subject; server; SANs: name and address.
	KubeletServing Kind = "kubelet serving"
	// Agent is for O=plinth:controllers or plinth:workers, CN=plinth:node:NAME; server and client; SANs:
	// name and address. The prefix keeps the name apart from the names of people in RBAC rules.
	Agent Kind = "agent"
)

// Lifetime is how long a certificate is valid, if the authority is.
const Lifetime = 365 * 24 * time.Hour

// backdate is subtracted from the start of the validity, for clocks that are behind.
const backdate = time.Hour

// maxRequest is the maximum size of a request in bytes. A request with an RSA key of maxRSABits is
// smaller than 3 KiB.
const maxRequest = 16 << 10

// minRSABits and maxRSABits limit the size of RSA keys. The upper limit is that of crypto/tls: larger
// keys cost the verifier too much time.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

const (
	kubeletOrganization    = "system:nodes"
	kubeletPrefix          = "system:node:"
	controllerOrganization = "plinth:controllers"
	workerOrganization     = "plinth:workers"
)

// AgentPrefix begins the common name of every agent's certificate, so that it is never the name of a
// user in RBAC.
const AgentPrefix = "plinth:node:"

var (
	oidCommonName       = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidOrganization     = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidUID              = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}
	oidExtensionRequest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// Tags of the names in a subjectAltName extension (RFC 5280, 4.2.1.6).
const (
	tagDNSName   = 2
	tagIPAddress = 7
)

// NewUID returns a random UID: 26 lower-case letters and digits, 130 bits.
func NewUID() string { return strings.ToLower(rand.Text()) }

// NewRequest returns a certificate request (DER) of the node for its own key. It does not contain the UID,
// which the host does not know before it is admitted.
func NewRequest(kind Kind, id Identity, key crypto.Signer) ([]byte, error) {
	organization, name, err := kind.subject(id)
	if err != nil {
		return nil, err
	}
	template := x509.CertificateRequest{Subject: pkix.Name{Organization: []string{organization}, CommonName: name}}
	if kind.hasNames() {
		address, err := netip.ParseAddr(id.Address)
		if err != nil {
			return nil, err
		}
		template.DNSNames, template.IPAddresses = []string{id.Node}, []net.IP{address.Unmap().AsSlice()}
	}
	return x509.CreateCertificateRequest(rand.Reader, &template, key)
}

// CheckRequest returns the parsed request (DER) if it asks exactly for what a node with this identity may
// have: its subject, its names and addresses and no others, with a strong key that has signed the request.
// A UID in the request is ignored. The error names the rule that the request breaks.
func CheckRequest(kind Kind, id Identity, request []byte) (*x509.CertificateRequest, error) {
	organization, name, err := kind.subject(id)
	if err != nil {
		return nil, err
	}
	if len(request) > maxRequest {
		return nil, fmt.Errorf("the request has %d bytes, more than %d", len(request), maxRequest)
	}
	csr, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return nil, fmt.Errorf("cannot parse the request: %w", err)
	}
	if err := checkKey(csr.PublicKey); err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the request is not signed by its key: %w", err)
	}
	if err := checkSubject(csr.Subject, organization, name); err != nil {
		return nil, err
	}
	if err := checkAttributes(csr); err != nil {
		return nil, err
	}
	if err := checkNames(kind, id, csr); err != nil {
		return nil, err
	}
	return csr, nil
}

// Sign checks a request and returns the certificate as PEM. Only the public key, and which of the admitted
// names the certificate has, is taken from the request. The certificate of a controller's agent has id.API as
// a further SAN, which a request must not contain. No certificate outlives ca.
func Sign(kind Kind, id Identity, request []byte, ca pki.Pair, now time.Time) ([]byte, error) {
	csr, err := CheckRequest(kind, id, request)
	if err != nil {
		return nil, err
	}
	if id.UID == "" {
		return nil, errors.New("the node has no UID")
	}
	authority, err := tls.X509KeyPair(ca.Cert, ca.Key)
	if err != nil {
		return nil, fmt.Errorf("cannot use the certificate authority: %w", err)
	}
	signer, ok := authority.PrivateKey.(crypto.Signer)
	switch {
	case !ok, !authority.Leaf.IsCA:
		return nil, errors.New("the signing certificate is not a certificate authority")
	case now.Before(authority.Leaf.NotBefore), !now.Before(authority.Leaf.NotAfter):
		return nil, fmt.Errorf("the certificate authority is valid from %s to %s only",
			authority.Leaf.NotBefore.UTC().Format(time.RFC3339), authority.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	template, err := newTemplate(kind, id, csr, now)
	if err != nil {
		return nil, err
	}
	if template.NotAfter.After(authority.Leaf.NotAfter) {
		template.NotAfter = authority.Leaf.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority.Leaf, csr.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// newTemplate returns the certificate for a request that was checked.
func newTemplate(kind Kind, id Identity, csr *x509.CertificateRequest, now time.Time) (*x509.Certificate, error) {
	organization, name, err := kind.subject(id)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{
		SerialNumber: serial,
		Subject: pkix.Name{Organization: []string{organization}, CommonName: name,
			ExtraNames: []pkix.AttributeTypeAndValue{{Type: oidUID, Value: id.UID}}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(Lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
	if _, isRSA := csr.PublicKey.(*rsa.PublicKey); isRSA {
		c.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	switch kind {
	case KubeletClient:
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	case KubeletServing:
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	case Agent:
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	if len(csr.DNSNames) > 0 {
		c.DNSNames = []string{id.Node}
	}
	if len(csr.IPAddresses) > 0 {
		c.IPAddresses = []net.IP{net.ParseIP(id.Address)}
	}
	if kind == Agent && id.Role == token.Controller && id.API != "" {
		if address := net.ParseIP(id.API); address != nil {
			c.IPAddresses = append(c.IPAddresses, address)
		} else {
			c.DNSNames = append(c.DNSNames, id.API)
		}
	}
	return c, nil
}

// NodeID is the identity in an agent's certificate.
type NodeID struct {
	Node, UID string
	Role      string // token.Controller or token.Worker
}

// NodeIDOf returns the identity in a verified certificate. ok is false for a certificate that is not an
// agent's, such as a kubelet's. The caller has verified the chain, and compares the UID with the record.
func NodeIDOf(cert *x509.Certificate) (p NodeID, ok bool) {
	values, ok := readSubject(cert.Subject)
	if !ok || cert.IsCA || len(cert.UnknownExtKeyUsage) > 0 || len(cert.ExtKeyUsage) != 2 ||
		!slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageServerAuth) || !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return NodeID{}, false
	}
	node, hasPrefix := strings.CutPrefix(values.name, AgentPrefix)
	if !hasPrefix || !isNodeName(node) || values.uid == "" {
		return NodeID{}, false
	}
	switch values.organization {
	case controllerOrganization:
		return NodeID{Node: node, UID: values.uid, Role: token.Controller}, true
	case workerOrganization:
		return NodeID{Node: node, UID: values.uid, Role: token.Worker}, true
	}
	return NodeID{}, false
}

// KubeletUID returns the name and the UID of the node in a kubelet's certificate. ok is false for any other
// certificate, such as one that the cluster signed without a UID.
func KubeletUID(cert *x509.Certificate) (node, uid string, ok bool) {
	values, ok := readSubject(cert.Subject)
	node, hasPrefix := strings.CutPrefix(values.name, kubeletPrefix)
	if !ok || !hasPrefix || !isNodeName(node) || values.organization != kubeletOrganization || values.uid == "" {
		return "", "", false
	}
	return node, values.uid, true
}

// subject returns the organization and the common name of a certificate. It is an error if the identity is
// not complete.
func (k Kind) subject(id Identity) (organization, name string, err error) {
	if !isNodeName(id.Node) {
		return "", "", fmt.Errorf("%q is not the name of a node", id.Node)
	}
	switch {
	case k == KubeletClient, k == KubeletServing:
		return kubeletOrganization, kubeletPrefix + id.Node, nil
	case k == Agent && id.Role == token.Controller:
		return controllerOrganization, AgentPrefix + id.Node, nil
	case k == Agent && id.Role == token.Worker:
		return workerOrganization, AgentPrefix + id.Node, nil
	case k == Agent:
		return "", "", fmt.Errorf("%q is not the role of a node", id.Role)
	}
	return "", "", fmt.Errorf("unknown kind of certificate %q", k)
}

// hasNames reports whether certificates of this kind have SANs.
func (k Kind) hasNames() bool { return k != KubeletClient }

func isNodeName(name string) bool { return len(validation.IsDNS1123Subdomain(name)) == 0 }

func checkKey(public any) error {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
			return fmt.Errorf("the key is on the curve %s, not P-256 or P-384", key.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return fmt.Errorf("the RSA key has %d bits, not %d to %d", bits, minRSABits, maxRSABits)
		}
	default:
		return errors.New("the key is not ECDSA or RSA")
	}
	return nil
}

// subjectValues are the values of a subject.
type subjectValues struct{ organization, name, uid string }

// readSubject returns the values of a subject. ok is false if it has any other attribute, or one twice.
func readSubject(subject pkix.Name) (v subjectValues, ok bool) {
	for _, a := range subject.Names {
		var to *string
		switch {
		case a.Type.Equal(oidOrganization):
			to = &v.organization
		case a.Type.Equal(oidCommonName):
			to = &v.name
		case a.Type.Equal(oidUID):
			to = &v.uid
		default:
			return v, false
		}
		text, isText := a.Value.(string)
		if !isText || text == "" || *to != "" {
			return v, false
		}
		*to = text
	}
	return v, true
}

func checkSubject(subject pkix.Name, organization, name string) error {
	v, ok := readSubject(subject)
	switch {
	case !ok:
		return fmt.Errorf("the subject %q has more than an organization and a common name", subject)
	case v.organization != organization:
		return fmt.Errorf("the organization is %q, not %q", v.organization, organization)
	case v.name != name:
		return fmt.Errorf("the common name is %q, not %q", v.name, name)
	}
	return nil
}

// checkAttributes returns an error if a request has other attributes than requested extensions, or other
// extensions than subjectAltName. crypto/x509 has refused extensions that occur twice.
func checkAttributes(csr *x509.CertificateRequest) error {
	var info struct {
		Version    int
		Subject    asn1.RawValue
		PublicKey  asn1.RawValue
		Attributes []struct {
			Type   asn1.ObjectIdentifier
			Values asn1.RawValue
		} `asn1:"tag:0,set"`
	}
	if _, err := asn1.Unmarshal(csr.RawTBSCertificateRequest, &info); err != nil {
		return fmt.Errorf("cannot parse the request: %w", err)
	}
	for _, a := range info.Attributes {
		if !a.Type.Equal(oidExtensionRequest) {
			return fmt.Errorf("the request has the attribute %s", a.Type)
		}
	}
	for _, e := range csr.Extensions {
		if !e.Id.Equal(oidSubjectAltName) {
			return fmt.Errorf("the request asks for the extension %s", e.Id)
		}
	}
	return nil
}

// checkNames returns an error unless the SANs of a request are those that the kind and the identity allow.
func checkNames(kind Kind, id Identity, csr *x509.CertificateRequest) error {
	if !kind.hasNames() {
		if len(csr.Extensions) > 0 {
			return fmt.Errorf("a %s certificate has no names or addresses", kind)
		}
		return nil
	}
	address, err := netip.ParseAddr(id.Address)
	if err != nil || address.Zone() != "" {
		return fmt.Errorf("%q is not the IP address of a node", id.Address)
	}
	for _, e := range csr.Extensions {
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(e.Value, &names); err != nil || len(rest) > 0 {
			return errors.New("cannot parse the names of the request")
		}
		for _, n := range names { // crypto/x509 skips the kinds that it does not know
			if n.Class != asn1.ClassContextSpecific || n.Tag != tagDNSName && n.Tag != tagIPAddress {
				return fmt.Errorf("the request has a name of another kind (%d) than DNS name and IP address", n.Tag)
			}
		}
	}
	for _, name := range csr.DNSNames {
		if name != id.Node {
			return fmt.Errorf("the name %q is not that of the node, %s", name, id.Node)
		}
	}
	for _, ip := range csr.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); !ok || a.Unmap() != address.Unmap() {
			return fmt.Errorf("the address %s is not that of the node, %s", ip, id.Address)
		}
	}
	if len(csr.DNSNames)+len(csr.IPAddresses) == 0 {
		return errors.New("the request has no name and no address")
	}
	return nil
}
