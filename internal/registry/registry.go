// Package registry configures the registry add-on: its certificate authority,
// certificate and user, the files that every node needs to trust it, and its
// credentials in KOTS. It does not store or move images.
package registry

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"path"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/servingcert"
)

// servicePort is the port of the registry's service.
const servicePort = "5000"

// kotsUser is a user name by which KOTS recognizes an embedded registry.
const kotsUser = "kurl"

// htpasswdSecret is the name of the secret that the chart mounts.
const htpasswdSecret = "registry-htpasswd"

// Registry is the registry of a cluster.
type Registry struct {
	Kube      *kube.Client
	Namespace string // namespace of its chart
	IP        string // fixed address of its service
	Domain    string // DNS domain of the cluster's services
	HostsDir  string // folder in which containerd looks up registries on the nodes
	Password  string // of a new user, which an application that is restored knows; "" for a random one
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
	if err := r.Serving().Ensure(ctx, now); err != nil {
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
	return r.Serving().CA(ctx)
}

// Serving returns the registry as a service with a certificate.
func (r Registry) Serving() servingcert.Service {
	return servingcert.Service{Kube: r.Kube, Namespace: r.Namespace, Name: "registry", IP: r.IP, Domain: r.Domain}
}

// TrustFilesOf returns the TrustFiles for a registry whose authority has the
// certificate ca, in PEM. It needs no client.
func (r Registry) TrustFilesOf(ca []byte) Files {
	dir := r.TrustDir()
	hosts := "server = \"https://" + r.Address() + "\"\n\n" +
		"[host.\"https://" + r.Address() + "\"]\n" +
		"  capabilities = [\"pull\", \"resolve\"]\n" +
		"  ca = \"" + path.Join(dir, "ca.crt") + "\"\n"
	return Files{path.Join(dir, "hosts.toml"): []byte(hosts), path.Join(dir, "ca.crt"): ca}
}

// TrustDir returns the folder of the TrustFiles on a node.
func (r Registry) TrustDir() string { return path.Join(r.HostsDir, r.Address()) }

// ConfigureKOTS stores the registry's address and credentials in the secret in
// which KOTS looks for a registry. It must run after the console is installed:
// otherwise KOTS would pull its own images from that registry.
func (r Registry) ConfigureKOTS(ctx context.Context) error {
	_, password, err := r.Credentials(ctx)
	if err != nil {
		return err
	}
	config, err := dockerConfig(r.Address(), password)
	if err != nil {
		return err
	}
	return r.Kube.PutSecret(ctx, kube.Secret{
		Namespace: "default", Name: "registry-creds", Type: "kubernetes.io/dockerconfigjson",
		Data: map[string][]byte{".dockerconfigjson": config},
	})
}

// Credentials returns the user who may push images, and the password, which is secret.
func (r Registry) Credentials(ctx context.Context) (user, password string, err error) {
	s, err := r.Kube.Secret(ctx, r.Namespace, htpasswdSecret)
	return kotsUser, string(s.Data["password"]), err
}

// KOTSConfigured reports whether the secret of ConfigureKOTS exists.
func (r Registry) KOTSConfigured(ctx context.Context) (bool, error) {
	return r.Kube.Exists(ctx, kube.Object{APIVersion: "v1", Kind: "Secret", Namespace: "default", Name: "registry-creds"})
}

// Address returns the host and port of the registry, by which images are named.
func (r Registry) Address() string { return net.JoinHostPort(r.IP, servicePort) }

// ensureUser creates the user with a random password unless it exists. Hash and
// password are in one secret, so that a killed run cannot leave a hash whose
// password is lost.
func (r Registry) ensureUser(ctx context.Context) error {
	_, err := r.Kube.Secret(ctx, r.Namespace, htpasswdSecret)
	if !errors.Is(err, kube.ErrNotFound) {
		return err
	}
	password := cmp.Or(r.Password, rand.Text())
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
