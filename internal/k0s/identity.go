package k0s

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/ports"
)

// Folders of certificates, with the modes that k0s and kubelet give them.
const (
	KubeletPKIDir = DataDir + "/kubelet/pki" // mode 0755 (client-go, util/certificate/certificate_store.go)
	pkiDir        = DataDir + "/pki"         // mode 0751 (k0s 1.33.8, pkg/constant: CertRootDirMode)
	kubeletDir    = DataDir + "/kubelet"     // mode 0755 (k0s 1.33.8, pkg/component/worker/kubelet.go)
)

// KubeletClientCertPath is the path of the kubelet's client certificate and key,
// PEM. Like KubeletCertPath it is a symbolic link, which kubelet replaces at each
// rotation. kubelet.conf names it.
const KubeletClientCertPath = KubeletPKIDir + "/kubelet-client-current.pem"

// apiServer is the URL of the API server in kubelet.conf: of the one on the same
// host on a controller, of Plinth's load balancer on a worker.
const apiServer = "https://" + Loopback + ":" + ports.APIText

// IdentityFiles are the parts of a host that store the identity of a node.
type IdentityFiles interface {
	host.Files
	host.Links
}

// EnsureCA creates the cluster's certificate authority on the first controller,
// before k0s starts for the first time; k0s keeps one that exists. It keeps a
// complete authority, and returns an error if the private key is missing: other
// hosts may trust the certificate already. The key is written first, so that
// one without certificate has signed nothing and is replaced.
func EnsureCA(h host.Files, now time.Time) error {
	needed, err := CANeeded(h)
	if err != nil || needed == "" {
		return err
	}
	ca, err := pki.NewClusterCA(now)
	if err != nil {
		return err
	}
	return PlaceCA(h, ca)
}

// PlaceCA writes the cluster's certificate authority where k0s looks for it.
func PlaceCA(h host.Files, ca pki.Pair) error {
	if err := h.MkdirAll(pkiDir, 0o751); err != nil {
		return err
	}
	if err := h.Write(CAKeyPath, bytes.NewReader(ca.Key), 0o600); err != nil {
		return err
	}
	return h.Write(CACertPath, bytes.NewReader(ca.Cert), 0o644)
}

// CANeeded returns the reason why EnsureCA must create the authority, or "" if
// there is a complete one.
func CANeeded(h host.Files) (string, error) {
	cert, err := h.ReadFile(CACertPath)
	if errors.Is(err, fs.ErrNotExist) {
		return CACertPath + " is missing", nil
	}
	if err != nil {
		return "", err
	}
	key, err := h.ReadFile(CAKeyPath)
	if err != nil {
		return "", fmt.Errorf("cannot read the private key of the cluster's authority: %w", err)
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		return "", fmt.Errorf("%s and %s do not belong together: %w", CACertPath, CAKeyPath, err)
	}
	return "", nil
}

// KubeletIdentity is what kubelet needs to be a node of the cluster. Each of the
// fields but Node is PEM.
type KubeletIdentity struct {
	Node       string // name of the node
	CA         []byte // the cluster's authority
	ClientCert []byte // nodecert.KubeletClient
	ClientKey  []byte // secret
	// A kubelet without a serving certificate asks the cluster for one, and serves no logs until it has one.
	ServingCert []byte // nodecert.KubeletServing
	ServingKey  []byte // secret
}

// check returns an error unless both certificates are the node's, valid now, and
// belong to their keys.
func (id KubeletIdentity) check(now time.Time) error {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(id.CA) {
		return errors.New("the cluster's authority is not a certificate")
	}
	for _, c := range []struct {
		kind      nodecert.Kind
		cert, key []byte
		usage     x509.ExtKeyUsage
	}{
		{nodecert.KubeletClient, id.ClientCert, id.ClientKey, x509.ExtKeyUsageClientAuth},
		{nodecert.KubeletServing, id.ServingCert, id.ServingKey, x509.ExtKeyUsageServerAuth},
	} {
		pair, err := tls.X509KeyPair(c.cert, c.key)
		if err != nil {
			return fmt.Errorf("the %s certificate cannot be used: %w", c.kind, err)
		}
		options := x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{c.usage}}
		if _, err := pair.Leaf.Verify(options); err != nil {
			return fmt.Errorf("the %s certificate cannot be used: %w", c.kind, err)
		}
		if node, _, ok := nodecert.KubeletUID(pair.Leaf); !ok || node != id.Node {
			return fmt.Errorf("the %s certificate is for %q, not for node %s", c.kind, pair.Leaf.Subject, id.Node)
		}
	}
	return nil
}

// PlaceKubeletIdentity writes the identity where kubelet would store it after it
// had asked the cluster, so that neither k0s nor kubelet asks. It must run before
// k0s starts, on controllers and workers. kubelet.conf is written last: k0s asks
// for a certificate only if this file is missing (k0s 1.33.8,
// pkg/component/worker/utils.go), and a call that was interrupted before is
// repeated as a whole.
func PlaceKubeletIdentity(h IdentityFiles, id KubeletIdentity, now time.Time) error {
	if err := id.check(now); err != nil {
		return err
	}
	conf, err := id.kubeconfig()
	if err != nil {
		return err
	}
	if _, err := h.Lstat(KubeletConf); errors.Is(err, fs.ErrNotExist) {
		// Keys of a call that was interrupted.
		if err := h.RemoveAll(KubeletPKIDir); err != nil {
			return err
		}
	}
	for _, dir := range []string{kubeletDir, KubeletPKIDir} {
		if err := h.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := placePair(h, KubeletClientCertPath, id.ClientCert, id.ClientKey, now); err != nil {
		return err
	}
	if err := placePair(h, KubeletCertPath, id.ServingCert, id.ServingKey, now); err != nil {
		return err
	}
	return h.Write(KubeletConf, bytes.NewReader(conf), 0o600)
}

// placePair writes a certificate and its key to a file with the time in its name
// and makes the link at current point to it. kubelet rotates only certificates
// whose path is a symbolic link (client-go, util/certificate/certificate_store.go).
func placePair(h IdentityFiles, current string, cert, key []byte, now time.Time) error {
	path := strings.Replace(current, "-current", "-"+now.UTC().Format("2006-01-02-15-04-05"), 1)
	if err := h.Write(path, bytes.NewReader(slices.Concat(cert, key)), 0o600); err != nil {
		return err
	}
	return h.Symlink(strings.TrimPrefix(path, KubeletPKIDir+"/"), current)
}

// kubeconfig returns kubelet.conf. It names the client certificate by its path,
// as kubelet does, so that a rotated one is used.
func (id KubeletIdentity) kubeconfig() ([]byte, error) {
	const name, user = "kubernetes", "kubelet"
	config := api.NewConfig()
	config.Clusters[name] = &api.Cluster{Server: apiServer, CertificateAuthorityData: id.CA}
	config.AuthInfos[user] = &api.AuthInfo{ClientCertificate: KubeletClientCertPath, ClientKey: KubeletClientCertPath}
	config.Contexts[name] = &api.Context{Cluster: name, AuthInfo: user}
	config.CurrentContext = name
	return clientcmd.Write(*config)
}

// KubeletIdentityNeeded returns the reason why the identity must be placed, or
// "" if it is complete. It does not check whether the certificates have expired:
// kubelet rotates them.
func KubeletIdentityNeeded(h host.Files) (string, error) {
	if _, err := h.Lstat(KubeletConf); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return KubeletConf + " is missing", nil
		}
		return "", err
	}
	for _, path := range []string{KubeletClientCertPath, KubeletCertPath} {
		info, err := h.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return path + " is missing", nil
		}
		if err != nil {
			return "", err
		}
		if info.Mode().Type() != fs.ModeSymlink {
			return path + " is not a symbolic link", nil
		}
		leaf, err := readPair(h, path)
		if err != nil {
			return err.Error(), nil // damaged: to be replaced
		}
		if _, _, ok := nodecert.KubeletUID(leaf); !ok {
			return path + " was not issued by Plinth: it has no UID", nil
		}
	}
	return "", nil
}

// KubeletAddressNeeded returns the reason why the identity must be placed for a node with this address, or "".
func KubeletAddressNeeded(h host.Files, address string) (string, error) {
	leaf, err := readPair(h, KubeletCertPath)
	if err != nil {
		return "", err
	}
	if leaf.VerifyHostname(address) != nil {
		return KubeletCertPath + " is not for " + address, nil
	}
	return "", nil
}

// readPair returns the certificate in a file that contains its key too.
func readPair(h host.Files, path string) (*x509.Certificate, error) {
	both, err := h.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(both, both)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return pair.Leaf, nil
}
