package install

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/airgap/pull"
	"github.com/plinthdev/plinth/airgap/push"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/problem"
)

// maxSecretFile is the most that is read of a file with a password or certificates, in bytes.
const maxSecretFile = 1 << 20

// imagePrefix is the prefix of the references of KOTS's own images.
const imagePrefix = "docker.io/kotsadm/"

// RegistryFlags name a registry outside of the cluster.
type RegistryFlags struct {
	Address      string // host, and a path in it or none
	Username     string // "" for none
	PasswordFile string // "" for none
	CA           string // file with certificates that are trusted besides those of the system; "" for none
}

// remoteRegistry is a registry outside of the cluster. It implements plan.ImageUploader.
type remoteRegistry struct {
	login   kots.Registry
	options fetch.Options
	images  []push.Tagged
	source  blob.Source // has their content
}

// openRegistry returns the registry of flags. It sends no request.
func openRegistry(env *action.Env, flags RegistryFlags) (r remoteRegistry, err error) {
	usage := func(err error, hint string) error {
		return problem.New(problem.ExitUsage, "use the registry "+flags.Address, err, hint+"; nothing was changed")
	}
	if err := pull.CheckTarget(flags.Address); err != nil {
		return r, usage(err, "give --registry a host, and a path or none: --registry harbor.example.com/my-app")
	}
	r.login = kots.Registry{Address: flags.Address, Username: flags.Username}
	if flags.PasswordFile != "" {
		raw, err := action.ReadInput(nil, flags.PasswordFile, maxSecretFile)
		if r.login.Password = strings.TrimRight(string(raw), "\r\n"); err == nil && r.login.Password == "" {
			err = errors.New("it is empty")
		}
		if err != nil {
			return r, usage(fmt.Errorf("the password in %s: %w", flags.PasswordFile, err), "name a file with the password with --registry-password-file")
		}
		env.Secrets.Hide(r.login.Password)
	}
	r.options = fetch.Options{Note: env.Note, Login: &fetch.Login{Username: r.login.Username, Password: r.login.Password}}
	if flags.CA == "" {
		return r, nil
	}
	raw, err := action.ReadInput(nil, flags.CA, maxSecretFile)
	roots, _ := x509.SystemCertPool()
	if roots == nil {
		roots = x509.NewCertPool()
	}
	if err == nil && !roots.AppendCertsFromPEM(raw) {
		err = errors.New("it has no certificate in PEM format")
	}
	if err != nil {
		return r, usage(fmt.Errorf("the certificates in %s: %w", flags.CA, err), "name a file with the registry's authority with --registry-ca")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig.RootCAs = roots
	r.options.Transport = transport
	return r, nil
}

// consoleImages returns the images of the console in b, with the references under which KOTS looks for them at address.
func consoleImages(b *airgap.Bundle, address string) (images []push.Tagged) {
	for _, i := range b.Images() {
		if strings.HasPrefix(i.Ref, imagePrefix) {
			images = append(images, push.Tagged{To: kots.Registry{Address: address}.Image(i.Ref), Manifest: i.Manifest, Blobs: append(i.Layers, i.Config)})
		}
	}
	return images
}

// check refuses a registry that does not answer, or denies access.
func (r remoteRegistry) check(ctx context.Context) error {
	_, err := push.MissingTags(ctx, r.images, r.options)
	if err == nil || ctx.Err() != nil {
		return err
	}
	var unknown x509.UnknownAuthorityError
	hint := "check the address, the network and the proxy settings"
	switch {
	case fetch.IsUnauthorized(err):
		hint = "check --registry-username and --registry-password-file, and that this user may push to " + r.login.Address
	case errors.As(err, &unknown):
		hint = "name a file with its certificate authority with --registry-ca"
	}
	return problem.New(problem.ExitPreflight, "use the registry "+r.login.Address, err, hint+"; nothing was changed")
}

// Missing returns the references of the images that the registry does not have.
func (r remoteRegistry) Missing(ctx context.Context) (refs []string, err error) {
	missing, err := push.MissingTags(ctx, r.images, r.options)
	for _, img := range missing {
		refs = append(refs, img.To)
	}
	return refs, err
}

// Upload uploads what is missing.
func (r remoteRegistry) Upload(ctx context.Context, progress func(done, total int64)) error {
	missing, err := push.MissingTags(ctx, r.images, r.options)
	if err != nil {
		return err
	}
	return push.UploadTagged(ctx, r.source, missing, r.options, progress)
}
