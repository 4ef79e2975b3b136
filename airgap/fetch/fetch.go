// Package fetch owns bringing blobs over HTTP, from a folder that `plinth
// release` wrote or from a registry: in parallel, going on where a connection
// was cut, trying again with pauses, and giving up when nothing moves. It
// refuses plain HTTP beyond this machine and content whose digest is not the
// expected one, and knows nothing of what the blobs mean.
package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/internal/problem"
)

// ThinEntry is the file of a released folder that says what there is: a thin
// bundle.
const ThinEntry = "thin.bundle"

// maxThin is the most bytes that a thin bundle may have: it is read into memory.
const maxThin = 64 << 20

// width is how many blobs are fetched at once.
const width = 4

// Options are what tests set; the zero value is right for use.
type Options struct {
	Transport http.RoundTripper // nil means that of net/http, with its proxies and authorities
	Backoff   time.Duration     // first pause between attempts; 0 means one second
	Stall     time.Duration     // how long a connection may bring next to nothing; 0 means 30 seconds
}

// Remote is where blobs are.
type Remote struct {
	text   string // as the user wrote it, without a password
	blobs  string // URL that a digest is appended to
	thin   string // URL of the thin bundle, "" for a registry
	client *http.Client
	Options
}

// Dial reads where blobs are: https://host/folder for a released folder,
// oci://registry/repository for a registry that has them. A registry is asked
// at once how it wants to be asked. Errors are problems with the exit code for
// a bad bundle.
func Dial(ctx context.Context, text string, o Options) (*Remote, error) {
	if o.Transport == nil {
		o.Transport = http.DefaultTransport
	}
	o.Stall = cmp.Or(o.Stall, 30*time.Second)
	r := &Remote{text: text, client: &http.Client{Transport: Guard(o.Transport)}, Options: o}
	u, err := url.Parse(text)
	if err == nil {
		r.text = u.Redacted()
		err = r.locate(ctx, u)
	}
	if err != nil && ctx.Err() == nil {
		err = problem.New(problem.ExitBundle, "use the source "+r.text, cause(err), "give https://HOST/FOLDER/linux-amd64, the folder of this kind of machine in what `plinth release` wrote, or oci://REGISTRY/REPOSITORY")
	}
	return r, err
}

func (r *Remote) locate(ctx context.Context, u *url.URL) error {
	switch {
	case u.Host == "":
		return errors.New("it is not a URL with a host")
	case u.Scheme == "oci":
		return r.registry(ctx, u.Host+u.Path)
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("%s is not https or oci", u.Scheme)
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("it has a query or a fragment; a folder has none")
	}
	base := strings.TrimSuffix(u.String(), "/")
	r.blobs, r.thin = base+"/blobs/sha256/", base+"/"+ThinEntry
	return nil
}

// registry prepares for the OCI distribution API, tokens included.
func (r *Remote) registry(ctx context.Context, path string) error {
	repo, err := name.NewRepository(path, name.StrictValidation)
	if err != nil {
		return err
	}
	auth, err := authn.Resolve(ctx, authn.DefaultKeychain, repo)
	if err != nil {
		return err
	}
	return Retry(ctx, r.Backoff, func() (bool, error) {
		t, err := transport.NewWithContext(ctx, repo.Registry, auth, r.client.Transport, []string{repo.Scope(transport.PullScope)})
		if err == nil {
			r.client = &http.Client{Transport: t}
			r.blobs = repo.Scheme() + "://" + repo.RegistryStr() + "/v2/" + repo.RepositoryStr() + "/blobs/sha256:"
		}
		return false, err
	})
}

// String is the source as it was given, without a password.
func (r *Remote) String() string { return r.text }

// Thin fetches the thin bundle of a released folder; nothing is proved yet.
func (r *Remote) Thin(ctx context.Context) ([]byte, error) {
	var data []byte
	err := errors.New("a registry has no " + ThinEntry)
	if r.thin != "" {
		err = Retry(ctx, r.Backoff, func() (bool, error) {
			watched, stop := watch(ctx, r.Stall)
			defer stop()
			resp, err := Get(watched.ctx, r.client, r.thin)
			if err != nil {
				return false, watched.explain(err, r.thin)
			}
			defer func() { _ = resp.Body.Close() }()
			data, err = io.ReadAll(io.LimitReader(watched.reader(resp.Body), maxThin+1))
			switch {
			case err != nil:
				return false, watched.explain(err, r.thin)
			case len(data) > maxThin:
				return false, fmt.Errorf("%s has more than %d bytes: %w", r.thin, maxThin, ErrUnusable)
			}
			return false, nil
		})
	}
	if err == nil || ctx.Err() != nil {
		return data, cmp.Or(ctx.Err(), err)
	}
	return nil, problem.New(problem.ExitBundle, "fetch the bundle's index from "+r.text, cause(err),
		"check the address, which ends with the folder of this kind of machine, such as /linux-amd64, the network and proxy settings, or name a thin bundle with --bundle; then run the same command again")
}

// Blobs brings those that folder lacks, proved. What came of one that was not
// finished stays beside it, so the next call goes on there. It stops at the
// first that cannot be had. progress, if not nil, is told the bytes of all that
// are there, one call at a time. Errors are problems with the exit code for a bad bundle.
func (r *Remote) Blobs(ctx context.Context, folder blob.Folder, want []ocispec.Descriptor, progress func(done, total int64)) error {
	total := int64(0)
	for _, d := range want {
		total += d.Size
	}
	meter := blob.NewMeter(total, progress)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(width)
	for _, d := range want {
		group.Go(func() error { return r.one(groupCtx, folder, d, meter) })
	}
	err := group.Wait()
	if err == nil {
		meter.Finish()
	}
	if err == nil || ctx.Err() != nil {
		return cmp.Or(ctx.Err(), err)
	}
	hint := "check the address, the network and proxy settings; then run the same command again: it goes on where it stopped"
	switch {
	case errors.Is(err, errDisk):
		hint = "make room in " + folder.Dir() + "; then run the same command again"
	case Hopeless(err):
		hint = "what is published there is incomplete or damaged: tell who published it, or name another --source"
	}
	return problem.New(problem.ExitBundle, "fetch the bundle's content from "+r.text, cause(err), hint)
}

// Hopeless reports an error after which the same request would fail the same
// way: what the server has is not what is wanted, or the disk does not take it.
func Hopeless(err error) bool {
	var name *net.DNSError
	return permanent(err) && !errors.As(err, &name)
}

// cause drops what net/http says twice: the method and the URL.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) && u.Err != nil && errors.Is(u.Err, errPlain) {
		return u.Err
	}
	return err
}
