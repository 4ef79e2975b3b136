// Package registry brings official artifacts together: images from the
// registries that their references name, host files from release downloads.
// It owns the way there (TLS, credentials, retries, checksums) and leaves a
// folder in OCI image layout, the same form that the payload built from source
// has, so that a bundle is built from either by the same code.
// It refuses plain HTTP beyond this machine, downloads without a known
// checksum, and anything whose digest is not the expected one. Images keep
// their upstream manifests and layers byte for byte.
package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/internal/problem"
)

// parallel is how many images or files are fetched at once.
const parallel = 3

// Request says what to fetch and where to keep it.
type Request struct {
	Folder    string // OCI image layout; made if it is not there, what is there is not fetched again
	Images    []string
	HostFiles []build.HostFile
	Releases  []Release // where host files come from, by name; nil means Upstream()
	Platform  string    // "" means linux/amd64
	Progress  func(done, total int64)
	Transport http.RoundTripper // nil means http.DefaultTransport
	Backoff   time.Duration     // first pause between attempts, tripled each time; 0 means one second
}

// fetcher is a request at work.
type fetcher struct {
	req    Request
	folder blob.Folder
	http   http.RoundTripper
	meter  *blob.Meter
	os     string
	arch   string

	mu    sync.Mutex
	index ocispec.Index
}

// Fetch brings all that is asked for into the folder. It goes on past a part
// that fails and reports all failures; what arrived stays, so the next call
// resumes. Errors are problems with the exit code for a bad bundle.
func Fetch(ctx context.Context, req Request) error {
	fail := func(err error) error {
		return problem.New(problem.ExitBundle, "fetch the bundle's content", err,
			"check the versions, the network, proxy settings and `docker login`; then run the same command again: it resumes")
	}
	f, err := newFetcher(req)
	if err != nil {
		return fail(err)
	}
	group, wrong := errgroup.Group{}, make([]error, len(req.Images)+len(req.HostFiles))
	group.SetLimit(parallel)
	for i, file := range req.HostFiles {
		group.Go(func() error {
			wrong[i] = f.hostFile(ctx, file)
			return nil
		})
	}
	for i, ref := range req.Images {
		group.Go(func() error {
			wrong[len(req.HostFiles)+i] = f.image(ctx, ref)
			return nil
		})
	}
	_ = group.Wait() // failures are in wrong
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := errors.Join(wrong...); err != nil {
		return fail(err)
	}
	f.meter.Finish()
	return nil
}

func newFetcher(req Request) (*fetcher, error) {
	folder, err := blob.CreateFolder(req.Folder)
	if err != nil {
		return nil, err
	}
	index, err := folder.Index()
	if err != nil {
		return nil, err
	}
	if req.Releases == nil {
		req.Releases = Upstream()
	}
	if req.Transport == nil {
		req.Transport = http.DefaultTransport
	}
	f := &fetcher{req: req, folder: folder, index: index, http: fetch.Guard(req.Transport), meter: blob.NewMeter(0, req.Progress)}
	f.os, f.arch, _ = strings.Cut(cmp.Or(req.Platform, "linux/amd64"), "/")
	return f, nil
}

// keep enters a descriptor into the folder's index, in place of the one with the same identity.
func (f *fetcher) keep(desc ocispec.Descriptor) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	desc.Platform = &ocispec.Platform{OS: f.os, Architecture: f.arch}
	f.index.Manifests = slices.DeleteFunc(f.index.Manifests, func(old ocispec.Descriptor) bool { return identity(old) == identity(desc) })
	f.index.Manifests = append(f.index.Manifests, desc)
	return f.folder.SetIndex(f.index)
}

// identity is what may be in a folder once.
func identity(desc ocispec.Descriptor) string {
	key := fmt.Sprintf("%s %s", format.DescriptorKind(desc), format.DescriptorName(desc))
	if p := desc.Platform; p != nil {
		key += " " + p.OS + "/" + p.Architecture
	}
	if format.DescriptorKind(desc) == format.KindHost { // several versions may lie side by side
		key += " " + desc.Annotations[ocispec.AnnotationVersion]
	}
	return key
}
