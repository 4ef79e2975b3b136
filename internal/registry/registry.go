// Package registry owns what the registry add-on needs around its chart: its
// authority and certificate, its one user, what every node must trust, and how
// KOTS learns of it. It refuses to store or move images.
package registry

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"path"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/pki"
)

// Port is that of the registry add-on's service.
const Port = "5000"

// renewBefore is how long before its end the certificate is renewed.
const renewBefore = 30 * 24 * time.Hour

// user is the name by which KOTS knows an embedded registry.
const user = "kurl"

// Names of the secrets that the registry's chart mounts, and of the one that
// keeps what only Plinth and the nodes need.
const (
	tlsSecret       = "registry-tls"
	htpasswdSecret  = "registry-htpasswd"
	authoritySecret = "registry-ca"
)

// Trust is what a node needs so that its container runtime pulls from the
// registry over verified TLS: files of /etc/k0s/certs.d, by path.
type Trust map[string][]byte

// Prepare makes the registry's authority, certificate and users in its
// namespace, before its chart is installed, and returns what every node must
// trust. What is there is kept, a certificate near its end renewed. ip is the
// address of its service. The password is made here and known to the cluster only.
func Prepare(ctx context.Context, c *kube.Client, namespace, ip string, now time.Time) (Trust, error) {
	if err := c.EnsureNamespace(ctx, namespace); err != nil {
		return nil, err
	}
	ca, err := ensureAuthority(ctx, c, namespace, now)
	if err != nil {
		return nil, err
	}
	if err := ensureTLS(ctx, c, ca, namespace, ip, now); err != nil {
		return nil, err
	}
	if err := ensureHtpasswd(ctx, c, namespace); err != nil {
		return nil, err
	}
	return trust(ip, ca.Cert), nil
}

func trust(ip string, ca []byte) Trust {
	address := net.JoinHostPort(ip, Port)
	dir := path.Join("/etc/k0s/certs.d", address)
	hosts := "server = \"https://" + address + "\"\n\n" +
		"[host.\"https://" + address + "\"]\n" +
		"  capabilities = [\"pull\", \"resolve\"]\n" +
		"  ca = \"" + path.Join(dir, "ca.crt") + "\"\n"
	return Trust{path.Join(dir, "hosts.toml"): []byte(hosts), path.Join(dir, "ca.crt"): ca}
}

func ensureAuthority(ctx context.Context, c *kube.Client, namespace string, now time.Time) (pki.Pair, error) {
	s, err := c.Secret(ctx, namespace, authoritySecret)
	if err == nil {
		return pki.Pair{Cert: s.Data["tls.crt"], Key: s.Data["tls.key"]}, nil
	}
	if !errors.Is(err, kube.ErrNotFound) {
		return pki.Pair{}, err
	}
	ca, err := pki.NewCA("plinth registry", now)
	if err != nil {
		return ca, err
	}
	return ca, putPair(ctx, c, namespace, authoritySecret, ca)
}

func ensureTLS(ctx context.Context, c *kube.Client, ca pki.Pair, namespace, ip string, now time.Time) error {
	s, err := c.Secret(ctx, namespace, tlsSecret)
	if err == nil {
		pair := pki.Pair{Cert: s.Data["tls.crt"], Key: s.Data["tls.key"]}
		if pair.Check([]string{ip}, now) == nil && pair.Check(nil, now.Add(renewBefore)) == nil {
			return nil
		}
	} else if !errors.Is(err, kube.ErrNotFound) {
		return err
	}
	pair, err := ca.Issue([]string{ip, "registry." + namespace + ".svc", "registry." + namespace + ".svc.cluster.local"}, now)
	if err != nil {
		return err
	}
	return putPair(ctx, c, namespace, tlsSecret, pair)
}

func putPair(ctx context.Context, c *kube.Client, namespace, name string, p pki.Pair) error {
	return c.PutSecret(ctx, kube.Secret{
		Namespace: namespace, Name: name, Type: "kubernetes.io/tls",
		Data: map[string][]byte{"tls.crt": p.Cert, "tls.key": p.Key},
	})
}

// ensureHtpasswd keeps hash and password in one secret, so that a killed run
// cannot leave a hash whose password nobody knows.
func ensureHtpasswd(ctx context.Context, c *kube.Client, namespace string) error {
	_, err := c.Secret(ctx, namespace, htpasswdSecret)
	if !errors.Is(err, kube.ErrNotFound) {
		return err
	}
	password := rand.Text()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		return err
	}
	return c.PutSecret(ctx, kube.Secret{
		Namespace: namespace, Name: htpasswdSecret,
		Data: map[string][]byte{"htpasswd": []byte(user + ":" + string(hash) + "\n"), "password": []byte(password)},
	})
}

// Announce tells KOTS of the registry, by the secret in which it looks
// for one. It must come after InstallConsole.
func Announce(ctx context.Context, c *kube.Client, namespace, ip string) error {
	users, err := c.Secret(ctx, namespace, htpasswdSecret)
	if err != nil {
		return err
	}
	config, err := dockerConfig(net.JoinHostPort(ip, Port), string(users.Data["password"]))
	if err != nil {
		return err
	}
	return c.PutSecret(ctx, kube.Secret{
		Namespace: "default", Name: "registry-creds", Type: "kubernetes.io/dockerconfigjson",
		Data: map[string][]byte{".dockerconfigjson": config},
	})
}

func dockerConfig(address, password string) ([]byte, error) {
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + strings.TrimSpace(password)))
	return json.Marshal(map[string]any{"auths": map[string]any{address: map[string]string{
		"username": user, "password": password, "auth": auth,
	}}})
}
