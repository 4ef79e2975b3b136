package kots

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/problem"
)

// consoleTLSSecret is the name of the secret with the certificate. kURL uses
// the same name, so that the tools of KOTS find it.
const consoleTLSSecret = "kotsadm-tls"

// selfSignedAnnotation marks the secret of a certificate that Plinth created
// and may therefore replace.
const selfSignedAnnotation = "plinth.dev/self-signed"

// ConsoleProxy is the proxy in front of one console.
type ConsoleProxy struct {
	Kube      *kube.Client
	Namespace string // namespace of the console
}

func (f ConsoleProxy) deploymentRef() kube.Object {
	return kube.Object{APIVersion: "apps/v1", Kind: "Deployment", Namespace: f.Namespace, Name: "console-proxy"}
}

// Port returns the port of all nodes at which the proxy serves now. It returns kube.ErrNotFound if there is no proxy.
func (f ConsoleProxy) Port(ctx context.Context) (int, error) {
	service, err := f.Kube.Get(ctx, kube.Object{APIVersion: "v1", Kind: "Service", Namespace: f.Namespace, Name: "console-proxy"})
	if err != nil {
		return 0, err
	}
	ports, _, _ := unstructured.NestedSlice(service.Object, "spec", "ports")
	for _, p := range ports {
		port, _ := p.(map[string]any)
		if n, ok := port["nodePort"].(int64); ok {
			return int(n), nil
		}
	}
	return 0, errors.New("the service console-proxy has no node port")
}

// Certificate returns the certificate that the console serves, PEM, and whether
// Plinth created it. It returns kube.ErrNotFound if there is none yet.
func (f ConsoleProxy) Certificate(ctx context.Context) (cert []byte, selfSigned bool, err error) {
	s, err := f.Kube.Secret(ctx, f.Namespace, consoleTLSSecret)
	return s.Data["tls.crt"], s.Annotations[selfSignedAnnotation] == "true", err
}

// HasCertificate reports whether the console serves that certificate, and it is
// the user's own.
func (f ConsoleProxy) HasCertificate(ctx context.Context, pair pki.Pair) (bool, error) {
	s, err := f.Kube.Secret(ctx, f.Namespace, consoleTLSSecret)
	if errors.Is(err, kube.ErrNotFound) {
		return false, nil
	}
	return bytes.Equal(s.Data["tls.crt"], pair.Cert) && bytes.Equal(s.Data["tls.key"], pair.Key) && s.Annotations[selfSignedAnnotation] != "true", err
}

// CertificateNeeded returns why EnsureCertificate must be called, or "": the console has no certificate, or
// Plinth's own one is not for host, the name in its URL. host is "" for the address of a node, because each node
// has another one.
func (f ConsoleProxy) CertificateNeeded(ctx context.Context, host string, now time.Time) (string, error) {
	cert, selfSigned, err := f.Certificate(ctx)
	switch {
	case errors.Is(err, kube.ErrNotFound):
		return "the console has no certificate", nil
	case err != nil || !selfSigned || host == "":
		return "", err
	}
	s, err := f.Kube.Secret(ctx, f.Namespace, consoleTLSSecret)
	if err == nil && (pki.Pair{Cert: cert, Key: s.Data["tls.key"]}).Check([]string{host}, now) != nil {
		return "the certificate of the console is not for " + host, nil
	}
	return "", err
}

// EnsureCertificate creates a self-signed certificate for hosts (the console's
// host name, the names and addresses of the nodes) unless the console has one.
// The user's own certificate is never changed; one that Plinth created is
// replaced if it lacks a host or has less than pki.RenewBelow of its life left.
func (f ConsoleProxy) EnsureCertificate(ctx context.Context, hosts []string, now time.Time) error {
	if err := f.Kube.EnsureNamespace(ctx, f.Namespace); err != nil {
		return err
	}
	s, err := f.Kube.Secret(ctx, f.Namespace, consoleTLSSecret)
	switch {
	case errors.Is(err, kube.ErrNotFound):
	case err != nil:
		return err
	case s.Annotations[selfSignedAnnotation] != "true":
		return nil
	default:
		pair := pki.Pair{Cert: s.Data["tls.crt"], Key: s.Data["tls.key"]}
		if leaf, err := pair.Leaf(); err == nil && pair.Check(hosts, now) == nil && pki.LifeLeft(leaf, now) >= pki.RenewBelow {
			return nil
		}
	}
	pair, err := pki.NewSelfSigned(hosts, now)
	if err != nil {
		return err
	}
	return f.putCertificate(ctx, pair, hosts[0], true)
}

// RenewCertificate replaces a certificate that Plinth created by one for the same
// hosts, and restarts the proxy. It is an error if the certificate is the user's own.
func (f ConsoleProxy) RenewCertificate(ctx context.Context, now time.Time) error {
	cert, selfSigned, err := f.Certificate(ctx)
	if err != nil {
		return err
	}
	if !selfSigned {
		return errors.New("the certificate of the console is the user's own")
	}
	leaf, err := pki.ParseCertificate(cert)
	if err != nil {
		return err
	}
	hosts := pki.Hosts(leaf)
	if len(hosts) == 0 {
		return errors.New("the certificate of the console has no names")
	}
	pair, err := pki.NewSelfSigned(hosts, now)
	if err != nil {
		return err
	}
	return f.putCertificate(ctx, pair, hosts[0], true)
}

// SetCertificate sets the user's certificate and key (PEM) for the console and
// waits until it, and no other, is served at url. If key and certificate do not
// match, or the certificate has expired, is not for servers or not for hosts,
// the error is a Problem with exit code 3.
func (f ConsoleProxy) SetCertificate(ctx context.Context, pair pki.Pair, hosts []string, url string, w kube.Wait) error {
	if err := pair.Check(hosts, time.Now()); err != nil {
		return problem.New(problem.ExitConfig, "use this certificate for the console", err,
			"provide a PEM certificate, with its chain, for the host name in the console's URL, and its unencrypted key")
	}
	host := ""
	if len(hosts) > 0 {
		host = hosts[0]
	}
	if err := f.putCertificate(ctx, pair, host, false); err != nil {
		return err
	}
	if err := f.Kube.WaitWorkloads(ctx, w, f.deploymentRef()); err != nil {
		return err
	}
	return waitCertificateServed(ctx, url, pair.Cert, w)
}

// putCertificate stores a certificate and its key, and restarts the proxy if it
// exists.
func (f ConsoleProxy) putCertificate(ctx context.Context, pair pki.Pair, host string, selfSigned bool) error {
	err := f.Kube.PutSecret(ctx, kube.Secret{
		Namespace: f.Namespace, Name: consoleTLSSecret, Type: "kubernetes.io/tls",
		Annotations: map[string]string{selfSignedAnnotation: fmt.Sprint(selfSigned)},
		Data:        map[string][]byte{"tls.crt": pair.Cert, "tls.key": pair.Key, "hostname": []byte(host)},
	})
	if err != nil {
		return err
	}
	there, err := f.Kube.Exists(ctx, f.deploymentRef())
	if err != nil || !there {
		return err
	}
	sum := sha256.Sum256(pair.Cert)
	annotations := map[string]any{"plinth.dev/certificate": fmt.Sprintf("%x", sum[:8])}
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{
		"metadata": map[string]any{"annotations": annotations},
	}}})
	if err != nil {
		return err
	}
	return f.Kube.Patch(ctx, f.deploymentRef(), patch)
}
