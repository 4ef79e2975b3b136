package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/limit"
)

// Repository is a repository in a registry.
type Repository struct {
	client *Client
	url    string // of the repository in the distribution API
}

// OpenRepository connects to the registry of a repository, to download, as
// Options.Login or with the credentials of `docker login`. If the latter cannot be
// read or are refused, it says so with Options.Note and continues without.
func OpenRepository(ctx context.Context, repo name.Repository, o Options) (*Repository, error) {
	return openRepository(ctx, repo, transport.PullScope, o)
}

// openRepository implements OpenRepository for the actions of a scope.
func openRepository(ctx context.Context, repo name.Repository, actions string, o Options) (*Repository, error) {
	c := NewClient(o)
	host := repo.RegistryStr()
	if l := o.Login; l != nil {
		as := authn.Anonymous
		if *l != (Login{}) {
			as = authn.FromConfig(authn.AuthConfig{Username: l.Username, Password: l.Password})
		}
		t, err := c.authenticate(ctx, repo, actions, as)
		return c.repository(repo, t), err
	}
	auth, unread := authn.Resolve(ctx, authn.DefaultKeychain, repo)
	if unread != nil {
		c.note("the credentials for %s cannot be read, continuing without: %v", host, unread)
		auth = authn.Anonymous
	}
	t, err := c.authenticate(ctx, repo, actions, auth)
	if IsUnauthorized(err) && auth != authn.Anonymous {
		c.note("%s refuses the credentials of `docker login`, continuing without: %v", host, err)
		t, err = c.authenticate(ctx, repo, actions, authn.Anonymous)
	}
	if err != nil {
		return nil, errors.Join(err, unread)
	}
	return c.repository(repo, t), nil
}

// repository returns a repository that is reached with the transport t.
func (c *Client) repository(repo name.Repository, t http.RoundTripper) *Repository {
	c.http = &http.Client{Transport: t}
	return &Repository{c, repo.Scheme() + "://" + repo.RegistryStr() + "/v2/" + repo.RepositoryStr()}
}

// authenticate returns a transport that asks for the right to do actions in a repository.
func (c *Client) authenticate(ctx context.Context, repo name.Repository, actions string, auth authn.Authenticator) (t http.RoundTripper, err error) {
	bounded := boundedTransport{c.http.Transport}
	err = c.Retry(ctx, func() (bool, error) {
		watched, stop := watchStall(ctx, c.Stall)
		defer stop()
		t, err = transport.NewWithContext(watched.ctx, repo.Registry, auth, bounded, []string{repo.Scope(actions)})
		if err != nil {
			return false, watched.wrapError(err, repo.RegistryStr())
		}
		return false, nil
	})
	return t, err
}

// manifestTypes are the media types of the manifests that this program can use.
const manifestTypes = ocispec.MediaTypeImageIndex + ", " + ocispec.MediaTypeImageManifest + ", " + format.DockerIndex + ", " + format.DockerManifest

// FetchManifest returns the manifest for a tag or a digest. The digest of the
// content is verified.
func (r *Repository) FetchManifest(ctx context.Context, reference string) (Document, error) {
	url := r.url + "/manifests/" + reference
	doc, err := r.client.GetDocument(ctx, url, manifestTypes, limit.Document)
	if err != nil {
		return doc, err
	}
	if want, err := digest.Parse(reference); err == nil && digest.FromBytes(doc.Data) != want {
		return doc, damagedError{fmt.Errorf("%s: its content does not have this digest: %w", url, ErrUnusable)}
	}
	return doc, nil
}

// ResolveTag returns the digest of the manifest that a tag names, or "" if the
// registry does not tell. Unlike the manifest itself, Docker Hub does not count this
// request for its limit.
func (r *Repository) ResolveTag(ctx context.Context, tag string) (d digest.Digest, err error) {
	url := r.url + "/manifests/" + tag
	err = r.client.Retry(ctx, func() (bool, error) {
		watched, stop := watchStall(ctx, r.client.Stall)
		defer stop()
		req, err := http.NewRequestWithContext(watched.ctx, http.MethodHead, url, nil)
		if err != nil {
			return false, err
		}
		req.Header.Set("Accept", manifestTypes)
		resp, err := r.client.http.Do(req)
		if err != nil {
			return false, watched.wrapError(err, url)
		}
		d = digest.Digest(resp.Header.Get("Docker-Content-Digest"))
		if resp.StatusCode != http.StatusOK || blob.CheckDescriptor(ocispec.Descriptor{Digest: d}) != nil {
			d = "" // the request for the manifest shows what is wrong
		}
		return false, resp.Body.Close()
	})
	return d, err
}

// FetchBlob downloads a blob into folder unless it is there; see Client.FetchBlob.
func (r *Repository) FetchBlob(ctx context.Context, folder blob.Folder, want ocispec.Descriptor, counter *blob.Progress) error {
	return r.client.FetchBlob(ctx, folder, Blob{URL: r.url + "/blobs/" + want.Digest.String(), Want: want}, counter)
}
