// Package registry configures the registry add-on: its certificate authority,
// certificate and user, the files that every node needs to trust it, and its
// credentials in KOTS. It does not store or move images.
package registry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net"
	"path"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/pki"
)

// servicePort is the port of the registry's service.
const servicePort = "5000"

// kotsUser is a user name by which KOTS recognizes an embedded registry.
const kotsUser = "kurl"

// Names of the secrets that the chart mounts, and of the secret of the
// certificate authority.
const (
	tlsSecret      = "registry-tls"
	htpasswdSecret = "registry-htpasswd"
	caSecret       = "registry-ca"
)

// Registry is the registry of a cluster.
type Registry struct {
	Kube      *kube.Client
	Namespace string // namespace of its chart
	IP        string // fixed address of its service
	Domain    string // DNS domain of the cluster's services
	HostsDir  string // folder in which containerd looks up registries on the nodes
}

// Files maps absolute paths to contents.
type Files map[string][]byte

// Prepare creates the registry's authority, certificate and user, before its
// chart is installed. Existing ones are kept; a certificate with less than
// pki.RenewBelow of its life left is renewed. The password is random and is stored in the cluster only.
func (r Registry) Prepare(ctx context.Context, now time.Time) error {
	if err := r.Kube.EnsureNamespace(ctx, r.Namespace); err != nil {
		return err
	}
	ca, err := r.ensureCA(ctx, now)
	if err != nil {
		return err
	}
	if err := r.ensureCertificate(ctx, ca, now); err != nil {
		return err
	}
	return r.ensureUser(ctx)
}

// TrustFiles returns the files that a node needs so that its container runtime
// pulls from the registry over verified TLS. They are in TrustDir and are read
// at each pull, so that no restart is needed. Before Prepare, it returns
// kube.ErrNotFound.
func (r Registry) TrustFiles(ctx context.Context) (Files, error) {
	ca, err := r.CA(ctx)
	if err != nil {
		return nil, err
	}
	return r.TrustFilesOf(ca), nil
}

// CA returns the certificate of the registry's authority in PEM. Before
// Prepare, it returns kube.ErrNotFound.
func (r Registry) CA(ctx context.Context) ([]byte, error) {
	s, err := r.Kube.Secret(ctx, r.Namespace, caSecret)
	return s.Data["tls.crt"], err
}

// TrustFilesOf returns the TrustFiles for a registry whose authority has the
// certificate ca, in PEM. It needs no client.
func (r Registry) TrustFilesOf(ca []byte) Files {
	dir := r.TrustDir()
	hosts := "server = \"https://" + r.hostPort() + "\"\n\n" +
		"[host.\"https://" + r.hostPort() + "\"]\n" +
		"  capabilities = [\"pull\", \"resolve\"]\n" +
		"  ca = \"" + path.Join(dir, "ca.crt") + "\"\n"
	return Files{path.Join(dir, "hosts.toml"): []byte(hosts), path.Join(dir, "ca.crt"): ca}
}

// TrustDir returns the folder of the TrustFiles on a node.
func (r Registry) TrustDir() string { return path.Join(r.HostsDir, r.hostPort()) }

// ConfigureKOTS stores the registry's address and credentials in the secret in
// which KOTS looks for a registry. It must run after the console is installed:
// otherwise KOTS would pull its own images from that registry.
func (r Registry) ConfigureKOTS(ctx context.Context) error {
	s, err := r.Kube.Secret(ctx, r.Namespace, htpasswdSecret)
	if err != nil {
		return err
	}
	config, err := dockerConfig(r.hostPort(), string(s.Data["password"]))
	if err != nil {
		return err
	}
	return r.Kube.PutSecret(ctx, kube.Secret{
		Namespace: "default", Name: "registry-creds", Type: "kubernetes.io/dockerconfigjson",
		Data: map[string][]byte{".dockerconfigjson": config},
	})
}

// KOTSConfigured reports whether the secret of ConfigureKOTS exists.
func (r Registry) KOTSConfigured(ctx context.Context) (bool, error) {
	return r.Kube.Exists(ctx, kube.Object{APIVersion: "v1", Kind: "Secret", Namespace: "default", Name: "registry-creds"})
}

func (r Registry) hostPort() string { return net.JoinHostPort(r.IP, servicePort) }

func (r Registry) ensureCA(ctx context.Context, now time.Time) (pki.Pair, error) {
	ca, err := r.readPair(ctx, caSecret)
	if !errors.Is(err, kube.ErrNotFound) {
		return ca, err
	}
	if ca, err = pki.NewCA("plinth registry", now); err != nil {
		return ca, err
	}
	return ca, r.putPair(ctx, caSecret, ca)
}

// NeedsRenewal returns the reason why Prepare would renew the certificate now,
// or "" if it would not.
func (r Registry) NeedsRenewal(ctx context.Context, now time.Time) (string, error) {
	have, err := r.readPair(ctx, tlsSecret)
	if errors.Is(err, kube.ErrNotFound) {
		return "the registry has no certificate", nil
	}
	if err != nil {
		return "", err
	}
	if err := have.Check([]string{r.IP}, now); err != nil {
		return "the registry's certificate cannot be used: " + err.Error(), nil
	}
	leaf, err := have.Leaf()
	if err == nil && pki.LifeLeft(leaf, now) < pki.RenewBelow {
		return "the registry's certificate ends on " + leaf.NotAfter.UTC().Format(time.DateOnly), nil
	}
	return "", err
}

// Certificate returns the registry's certificate in PEM. Before Prepare, it returns kube.ErrNotFound. Only
// Kube and Namespace are needed.
func (r Registry) Certificate(ctx context.Context) ([]byte, error) {
	s, err := r.Kube.Secret(ctx, r.Namespace, tlsSecret)
	return s.Data["tls.crt"], err
}

// Renew issues the certificate again, for the same names and addresses, and restarts the registry. Only Kube
// and Namespace are needed.
func (r Registry) Renew(ctx context.Context, now time.Time) error {
	ca, err := r.readPair(ctx, caSecret)
	if err != nil {
		return err
	}
	have, err := r.readPair(ctx, tlsSecret)
	if err != nil {
		return err
	}
	leaf, err := have.Leaf()
	if err != nil {
		return err
	}
	return r.issue(ctx, ca, pki.Hosts(leaf), now)
}

func (r Registry) ensureCertificate(ctx context.Context, ca pki.Pair, now time.Time) error {
	reason, err := r.NeedsRenewal(ctx, now)
	if err != nil || reason == "" {
		return err
	}
	service := "registry." + r.Namespace + ".svc"
	return r.issue(ctx, ca, []string{r.IP, service, service + "." + r.Domain}, now)
}

// issue stores a new certificate for hosts and restarts the registry.
func (r Registry) issue(ctx context.Context, ca pki.Pair, hosts []string, now time.Time) error {
	pair, err := ca.IssueServerCert(hosts, now)
	if err != nil {
		return err
	}
	if err := r.putPair(ctx, tlsSecret, pair); err != nil {
		return err
	}
	return r.restartRegistry(ctx, pair)
}

// restartRegistry restarts a running registry so that it serves its new
// certificate: it reads the files only when it starts.
func (r Registry) restartRegistry(ctx context.Context, p pki.Pair) error {
	o := kube.Object{APIVersion: "apps/v1", Kind: "Deployment", Namespace: r.Namespace, Name: "registry"}
	if there, err := r.Kube.Exists(ctx, o); err != nil || !there {
		return err
	}
	sum := sha256.Sum256(p.Cert)
	merge, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{
		"annotations": map[string]string{"plinth.dev/certificate": hex.EncodeToString(sum[:])}}}}})
	if err != nil {
		return err
	}
	return r.Kube.Patch(ctx, o, merge)
}

func (r Registry) readPair(ctx context.Context, name string) (pki.Pair, error) {
	s, err := r.Kube.Secret(ctx, r.Namespace, name)
	return pki.Pair{Cert: s.Data["tls.crt"], Key: s.Data["tls.key"]}, err
}

func (r Registry) putPair(ctx context.Context, name string, p pki.Pair) error {
	return r.Kube.PutSecret(ctx, kube.Secret{
		Namespace: r.Namespace, Name: name, Type: "kubernetes.io/tls",
		Data: map[string][]byte{"tls.crt": p.Cert, "tls.key": p.Key},
	})
}

// ensureUser creates the user with a random password unless it exists. Hash and
// password are in one secret, so that a killed run cannot leave a hash whose
// password is lost.
func (r Registry) ensureUser(ctx context.Context) error {
	_, err := r.Kube.Secret(ctx, r.Namespace, htpasswdSecret)
	if !errors.Is(err, kube.ErrNotFound) {
		return err
	}
	password := rand.Text()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		return err
	}
	return r.Kube.PutSecret(ctx, kube.Secret{
		Namespace: r.Namespace, Name: htpasswdSecret,
		Data: map[string][]byte{"htpasswd": []byte(kotsUser + ":" + string(hash) + "\n"), "password": []byte(password)},
	})
}

func dockerConfig(address, password string) ([]byte, error) {
	auth := base64.StdEncoding.EncodeToString([]byte(kotsUser + ":" + password))
	return json.Marshal(map[string]any{"auths": map[string]any{address: map[string]string{
		"username": kotsUser, "password": password, "auth": auth,
	}}})
}
