// Package fetch downloads blobs over HTTP from a published folder or a registry, and
// uploads them to a registry. It resumes interrupted downloads and retries with
// pauses.
package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/internal/problem"
)

// ThinBundleFile is the name of the thin bundle in a published folder. It lists
// the folder's content.
const ThinBundleFile = "thin.bundle"

// maxParallel is how many blobs are downloaded at the same time.
const maxParallel = 4

// Remote is a source of blobs on the network.
type Remote struct {
	source   string // as the user gave it, without a password
	blobsURL string // URL prefix; a digest is appended to it
	thinURL  string // URL of the thin bundle; "" for a registry
	*Client
}

// Dial returns the source for the URL text: https://host/folder for a published
// folder, oci://registry/repository for a repository in a registry. It connects
// only to a registry, to authenticate. Errors are problems with the exit code for
// a bad bundle.
func Dial(ctx context.Context, text string, o Options) (*Remote, error) {
	r := &Remote{source: cleanText(text), Client: NewClient(o)}
	u, err := url.Parse(text)
	if err == nil {
		r.source = withoutQuery(u)
		if n, bad := strconv.Atoi(u.Port()); u.Port() != "" && (bad != nil || n < 1 || n > 65535) {
			err = fmt.Errorf("%s is not a port", u.Port())
		} else {
			err = r.resolveURLs(ctx, u)
		}
	}
	if err != nil && ctx.Err() == nil {
		err = problem.New(problem.ExitBundle, "use the source "+r.source, cleanUp(unwrapURLError(err)), "give https://HOST/FOLDER/linux-amd64 (the folder for this platform in the output of `plinth publish`) or oci://REGISTRY/REPOSITORY")
	}
	return r, err
}

// resolveURLs sets the URLs of the blobs and of the thin bundle.
func (r *Remote) resolveURLs(ctx context.Context, u *url.URL) error {
	switch {
	case u.Host == "":
		return errors.New("it is not a URL with a host")
	case u.Scheme == "oci":
		return r.dialRegistry(ctx, u.Host+u.Path)
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("%s is not https or oci", u.Scheme)
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("it has a query or a fragment, which the URL of a folder cannot have")
	}
	base := strings.TrimSuffix(u.String(), "/")
	r.blobsURL, r.thinURL = base+"/blobs/sha256/", base+"/"+ThinBundleFile
	return nil
}

// dialRegistry sets the client and the URLs for the OCI distribution API, with authentication.
func (r *Remote) dialRegistry(ctx context.Context, path string) error {
	repo, err := name.NewRepository(path, name.StrictValidation)
	if err != nil {
		return err
	}
	opened, err := OpenRepository(ctx, repo, r.Options)
	if err == nil {
		r.Client, r.blobsURL = opened.client, opened.url+"/blobs/sha256:"
	}
	return err
}

// String returns the URL of the source as the user gave it, without a password.
func (r *Remote) String() string { return r.source }

// FetchThinBundle returns the content of the thin bundle in a published folder. It
// is not verified.
func (r *Remote) FetchThinBundle(ctx context.Context) ([]byte, error) {
	var data []byte
	err := errors.New("a registry has no " + ThinBundleFile)
	if r.thinURL != "" {
		var doc Document
		doc, err = r.GetDocument(ctx, r.thinURL, "", limit.Head)
		data = doc.Data
	}
	if err == nil || ctx.Err() != nil {
		return data, cmp.Or(ctx.Err(), err)
	}
	return nil, problem.New(problem.ExitBundle, "fetch the bundle's index from "+r.source, unwrapURLError(err),
		"check the network, the proxy settings and the address, which must end with the folder for this platform, such as /linux-amd64; or name a thin bundle with --bundle; then run the same command again")
}

// FetchBlobs downloads and verifies the blobs in want that folder does not have.
// A partial download stays in folder, and the next call resumes it. FetchBlobs
// stops at the first blob that cannot be downloaded. progress may be nil;
// otherwise it is called, never concurrently, with the bytes that are in folder.
// Errors are problems with the exit code for a bad bundle.
func (r *Remote) FetchBlobs(ctx context.Context, folder blob.Folder, want []ocispec.Descriptor, progress func(done, total int64)) error {
	total := int64(0)
	for _, d := range want {
		total += d.Size
	}
	counter := blob.NewProgress(total, progress)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(maxParallel)
	for _, d := range want {
		group.Go(func() error { return r.FetchBlob(groupCtx, folder, Blob{URL: r.blobURL(d), Want: d}, counter) })
	}
	err := group.Wait()
	if err == nil {
		counter.Finish()
	}
	if err == nil || ctx.Err() != nil {
		return cmp.Or(ctx.Err(), err)
	}
	hint := "check the address, the network and the proxy settings; then run the same command again: it resumes where it stopped"
	switch {
	case IsDiskError(err):
		hint = "free space in " + folder.Dir() + "; then run the same command again"
	case IsPermanent(err):
		hint = "the published content is incomplete or damaged: tell its publisher, or name another --source"
	}
	return problem.New(problem.ExitBundle, "fetch the bundle's content from "+r.source, unwrapURLError(err), hint)
}

// IsPermanent reports whether the same request would fail the same way again: the
// server does not have the expected content, or it cannot be written to the disk.
// A failed DNS lookup is not permanent.
func IsPermanent(err error) bool {
	var name *net.DNSError
	return cannotRetry(err) && !errors.As(err, &name)
}

// blobURL returns the URL of a blob.
func (r *Remote) blobURL(want ocispec.Descriptor) string { return r.blobsURL + want.Digest.Encoded() }

// unwrapURLError returns the cause of a refused plain HTTP request, without the
// method and the URL that net/http adds and that the cause contains already.
func unwrapURLError(err error) error {
	var u *url.Error
	if errors.As(err, &u) && u.Err != nil && errors.Is(u.Err, errPlainHTTP) {
		return u.Err
	}
	return err
}
