// Package pull downloads images from their registries and host files from their
// release pages into an OCI image layout, from which a bundle can be built. It
// rejects plain HTTP except on this machine, downloads without a known checksum,
// and content with a wrong digest. Images keep their upstream manifests and layers
// byte for byte.
package pull

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
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

// maxParallel is how many images or files are downloaded at the same time.
const maxParallel = 3

// Request describes what to download and where to store it.
type Request struct {
	Folder    string   // OCI image layout; created if missing, and existing content is not downloaded again
	Images    []string // full references
	HostFiles []build.HostFile
	Releases  []Release               // download locations of host files; nil means UpstreamReleases()
	Mirrors   []Mirror                // where to download images from instead of their registries
	Platform  string                  // "" means linux/amd64
	Progress  func(done, total int64) // in bytes; may be nil
	Note      func(text string)       // receives why something is attempted again or done in another way, never concurrently; may be nil
	Transport http.RoundTripper       // nil means http.DefaultTransport
	Backoff   time.Duration           // delay before the first retry, tripled each time; 0 means one second
	Stall     time.Duration           // how long a connection may deliver almost no data; 0 means 30 seconds
}

// checkDownloadHint is what a user checks when a download fails.
const checkDownloadHint = "check the versions, the network, proxy settings and `docker login`"

// fetcher executes a Request.
type fetcher struct {
	req     Request
	options fetch.Options
	client  *fetch.Client // for host files
	folder  blob.Folder
	meter   *blob.Progress
	os      string
	arch    string
	blobs   sync.Map // a *sync.Mutex for each digest that is being downloaded

	mu    sync.Mutex // of all below
	index ocispec.Index
	noted map[string]bool // texts that were passed to Request.Note
}

// Fetch downloads everything that req requests into its folder. It does not stop at
// the first failure and reports all of them. What was downloaded is kept, so the
// next call resumes. Errors are Problems with the exit code for a bad bundle.
func Fetch(ctx context.Context, req Request) error {
	f, err := newFetcher(req)
	if err != nil {
		return req.downloadError(err)
	}
	group, wrong := errgroup.Group{}, make([]error, len(req.Images)+len(req.HostFiles))
	group.SetLimit(maxParallel)
	for i, file := range req.HostFiles {
		group.Go(func() error {
			wrong[i] = f.fetchHostFile(ctx, file)
			return nil
		})
	}
	for i, ref := range req.Images {
		group.Go(func() error {
			wrong[len(req.HostFiles)+i] = f.fetchImage(ctx, ref)
			return nil
		})
	}
	_ = group.Wait() // the errors are in wrong
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := joinFailures(wrong); err != nil {
		return req.downloadError(err)
	}
	f.meter.Finish()
	return nil
}

func (r Request) downloadError(err error) error {
	return problem.New(problem.ExitBundle, "download the bundle's content", err, r.hint(err, "; then run the same command again: it resumes\n"+
		"without a network: `plinth bundle build --source DIR` builds from a folder that `plinth bundle mirror` filled"))
}

// hint returns what to do after err; more completes what to do if the cause is the network.
func (r Request) hint(err error, more string) string {
	switch {
	case fetch.IsDiskError(err):
		return "free space in " + r.Folder + ", or name another folder; then run the same command again: it resumes"
	case errors.Is(err, fetch.ErrDamaged):
		return "a server or a proxy sends content that is damaged or was replaced: download from another place with --mirror or --releases, or tell the publisher"
	}
	return checkDownloadHint + more
}

// partError is why an image or a host file was not downloaded or resolved.
type partError struct {
	part string // such as "image docker.io/library/nginx:1.27"
	more int    // other parts with the same cause
	err  error
}

func (e *partError) Error() string {
	if e.more > 0 {
		return fmt.Sprintf("%s and %d more: %v", e.part, e.more, e.err)
	}
	return e.part + ": " + e.err.Error()
}

func (e *partError) Unwrap() error { return e.err }

func newHostFileError(file build.HostFile, err error) error {
	return &partError{part: "host file " + file.Name + " " + file.Version, err: err}
}

// joinFailures joins the errors of parts, each cause once: a registry that does not
// answer fails all its images in the same way.
func joinFailures(wrong []error) error {
	var joined []error
	first := map[string]*partError{}
	for _, err := range wrong {
		p, ok := err.(*partError)
		if ok && first[p.err.Error()] != nil {
			first[p.err.Error()].more++
			continue
		}
		if ok {
			first[p.err.Error()] = p
		}
		joined = append(joined, err)
	}
	return errors.Join(joined...)
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
		req.Releases = UpstreamReleases()
	}
	f := &fetcher{req: req, folder: folder, index: index, meter: blob.NewProgress(0, req.Progress), noted: map[string]bool{}}
	f.options = fetch.Options{Transport: req.Transport, Backoff: req.Backoff, Stall: req.Stall, Note: f.note}
	f.client = fetch.NewClient(f.options)
	f.os, f.arch, _ = strings.Cut(cmp.Or(req.Platform, "linux/amd64"), "/")
	return f, nil
}

// note passes text to Request.Note, each text once: several images share a registry.
func (f *fetcher) note(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.req.Note != nil && !f.noted[text] {
		f.noted[text] = true
		f.req.Note(text)
	}
}

// isStored reports whether the folder has a blob. It reads all of it and removes it
// if it is damaged, so that the disk cannot make every later build fail.
func (f *fetcher) isStored(ctx context.Context, desc ocispec.Descriptor) bool {
	if !f.folder.Has(desc) {
		return false
	}
	r, err := f.folder.Open(ctx, desc)
	if err == nil {
		_, err = io.Copy(io.Discard, r)
		err = errors.Join(err, r.Close())
	}
	if err != nil && ctx.Err() == nil {
		f.note(fmt.Sprintf("%s is damaged in %s and is downloaded again", desc.Digest, f.folder.Dir()))
		_ = f.folder.Remove(desc.Digest)
	}
	return err == nil
}

// addToIndex adds a descriptor to the folder's index. It replaces the one with the
// same indexKey.
func (f *fetcher) addToIndex(desc ocispec.Descriptor) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	desc.Platform = &ocispec.Platform{OS: f.os, Architecture: f.arch}
	f.index.Manifests = slices.DeleteFunc(f.index.Manifests, func(old ocispec.Descriptor) bool { return indexKey(old) == indexKey(desc) })
	f.index.Manifests = append(f.index.Manifests, desc)
	return f.folder.SetIndex(f.index)
}

// indexKey returns the key that is unique within a folder's index.
func indexKey(desc ocispec.Descriptor) string {
	key := fmt.Sprintf("%s %s", format.DescriptorKind(desc), format.DescriptorName(desc))
	if p := desc.Platform; p != nil {
		key += " " + p.OS + "/" + p.Architecture
	}
	if format.DescriptorKind(desc) == format.KindHost { // a folder can have several versions of a host file
		key += " " + desc.Annotations[ocispec.AnnotationVersion]
	}
	if format.DescriptorKind(desc) == format.KindChart { // and several charts of a name
		key += " " + desc.Annotations[ocispec.AnnotationVersion] + " " + desc.Annotations[format.AnnotationChart]
	}
	return key
}
