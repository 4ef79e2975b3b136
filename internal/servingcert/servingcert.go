// Package servingcert issues and renews the certificate of a service of the cluster, from an authority that only this
// service has. Both are stored in the cluster.
package servingcert

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/pki"
)

// Service is a service with a certificate. Its Deployment has its name and mounts the secret NAME-tls; the secret
// NAME-ca has its authority.
type Service struct {
	Kube      *kube.Client
	Namespace string
	Name      string
	IP        string // fixed address of the service
	Domain    string // DNS domain of the cluster's services
}

// TLSSecret returns the name of the kubernetes.io/tls secret with the certificate.
func (s Service) TLSSecret() string { return s.Name + "-tls" }

func (s Service) caSecret() string { return s.Name + "-ca" }

// title returns the service in messages, such as "the object store".
func (s Service) title() string { return "the " + strings.ReplaceAll(s.Name, "-", " ") }

// Ensure creates the authority and the certificate, before the service is installed. Existing ones are kept; a
// certificate with less than pki.RenewBelow of its life left is renewed.
func (s Service) Ensure(ctx context.Context, now time.Time) error {
	ca, err := s.ensureCA(ctx, now)
	if err != nil {
		return err
	}
	reason, err := s.NeedsRenewal(ctx, now)
	if err != nil || reason == "" {
		return err
	}
	name := s.Name + "." + s.Namespace + ".svc"
	return s.issue(ctx, ca, []string{s.IP, name, name + "." + s.Domain}, now)
}

// CA returns the certificate of the authority in PEM. Before Ensure, it returns kube.ErrNotFound. It needs neither IP
// nor Domain.
func (s Service) CA(ctx context.Context) ([]byte, error) {
	secret, err := s.Kube.Secret(ctx, s.Namespace, s.caSecret())
	return secret.Data["tls.crt"], err
}

// Certificate returns the certificate in PEM. Before Ensure, it returns kube.ErrNotFound. It needs neither IP nor
// Domain.
func (s Service) Certificate(ctx context.Context) ([]byte, error) {
	secret, err := s.Kube.Secret(ctx, s.Namespace, s.TLSSecret())
	return secret.Data["tls.crt"], err
}

// NeedsRenewal returns the reason why Ensure would issue the certificate now, or "" if it would not.
func (s Service) NeedsRenewal(ctx context.Context, now time.Time) (string, error) {
	have, err := s.readPair(ctx, s.TLSSecret())
	if errors.Is(err, kube.ErrNotFound) {
		return s.title() + " has no certificate", nil
	}
	if err != nil {
		return "", err
	}
	if err := have.Check([]string{s.IP}, now); err != nil {
		return "the certificate of " + s.title() + " cannot be used: " + err.Error(), nil
	}
	leaf, err := have.Leaf()
	if err == nil && pki.LifeLeft(leaf, now) < pki.RenewBelow {
		return "the certificate of " + s.title() + " ends on " + leaf.NotAfter.UTC().Format(time.DateOnly), nil
	}
	return "", err
}

// Renew issues the certificate again, for the same names and addresses, and restarts the service. It needs neither IP
// nor Domain.
func (s Service) Renew(ctx context.Context, now time.Time) error {
	ca, err := s.readPair(ctx, s.caSecret())
	if err != nil {
		return err
	}
	have, err := s.readPair(ctx, s.TLSSecret())
	if err != nil {
		return err
	}
	leaf, err := have.Leaf()
	if err != nil {
		return err
	}
	return s.issue(ctx, ca, pki.Hosts(leaf), now)
}

func (s Service) ensureCA(ctx context.Context, now time.Time) (pki.Pair, error) {
	ca, err := s.readPair(ctx, s.caSecret())
	if !errors.Is(err, kube.ErrNotFound) {
		return ca, err
	}
	if ca, err = pki.NewCA("plinth "+s.Name, now); err != nil {
		return ca, err
	}
	return ca, s.putPair(ctx, s.caSecret(), ca)
}

// issue stores a new certificate for hosts and restarts the service.
func (s Service) issue(ctx context.Context, ca pki.Pair, hosts []string, now time.Time) error {
	pair, err := ca.IssueServerCert(hosts, now)
	if err != nil {
		return err
	}
	if err := s.putPair(ctx, s.TLSSecret(), pair); err != nil {
		return err
	}
	return s.restart(ctx, pair)
}

// restart restarts a running service so that it serves its new certificate: it reads the files only when it starts.
func (s Service) restart(ctx context.Context, p pki.Pair) error {
	o := kube.Object{APIVersion: "apps/v1", Kind: "Deployment", Namespace: s.Namespace, Name: s.Name}
	if there, err := s.Kube.Exists(ctx, o); err != nil || !there {
		return err
	}
	sum := sha256.Sum256(p.Cert)
	merge, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{
		"annotations": map[string]string{"plinth.dev/certificate": hex.EncodeToString(sum[:])}}}}})
	if err != nil {
		return err
	}
	return s.Kube.Patch(ctx, o, merge)
}

func (s Service) readPair(ctx context.Context, name string) (pki.Pair, error) {
	secret, err := s.Kube.Secret(ctx, s.Namespace, name)
	return pki.Pair{Cert: secret.Data["tls.crt"], Key: secret.Data["tls.key"]}, err
}

func (s Service) putPair(ctx context.Context, name string, p pki.Pair) error {
	return s.Kube.PutSecret(ctx, kube.Secret{
		Namespace: s.Namespace, Name: name, Type: "kubernetes.io/tls",
		Data: map[string][]byte{"tls.crt": p.Cert, "tls.key": p.Key},
	})
}
