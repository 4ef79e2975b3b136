// Package push uploads images from an OCI image layout to a registry, which then is a
// mirror of the registries that they come from. Manifests and layers stay byte for
// byte.
package push

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/internal/problem"
)

// maxParallel is how many images are uploaded at the same time.
const maxParallel = 3

// Request describes which images to upload, and to where.
type Request struct {
	Folder    string                  // OCI image layout that has the images
	Images    []string                // full references
	Platform  string                  // "" means linux/amd64
	Target    string                  // registry, and a path in it or none: harbor.example.com/plinth; see pull.CheckTarget
	Progress  func(done, total int64) // in bytes; may be nil
	Note      func(text string)       // receives why something is attempted again, never concurrently; may be nil
	Transport http.RoundTripper       // nil means http.DefaultTransport
	Backoff   time.Duration           // delay before the first retry, tripled each time; 0 means one second
	Stall     time.Duration           // how long a connection may deliver almost no data; 0 means 30 seconds
}

// uploader executes a Request.
type uploader struct {
	req      Request
	options  fetch.Options
	folder   blob.Folder // of req
	source   blob.Source // has the content
	meter    *blob.Progress
	platform ocispec.Platform
	blobs    sync.Map // an *uploadedBlob for each digest

	mu    sync.Mutex      // of noted
	noted map[string]bool // texts that were passed to Request.Note
}

// uploadedBlob records where a blob is. It is locked while the blob is uploaded.
type uploadedBlob struct {
	sync.Mutex
	repository string // of the target, the first that got the blob; "" for none
}

// Images uploads all images of req: the image a/b:tag of the registry host becomes
// host/a/b:tag below the target. What the target has is not uploaded again. The tag names
// an index, to which another platform can be added. Images stops at the first failure: a registry that
// refuses one image refuses the others, too. Errors are Problems with the exit code for a bad bundle.
func Images(ctx context.Context, req Request) error {
	items, err := build.Select(ctx, build.Request{Name: "mirror", Layout: req.Folder, Images: req.Images, Platform: req.Platform})
	if err != nil {
		return err
	}
	folder, err := blob.OpenFolder(req.Folder)
	if err != nil {
		return err
	}
	total := int64(0)
	for _, it := range items {
		total += it.Size() - it.Manifest.Size
	}
	u := &uploader{req: req, folder: folder, source: folder, meter: blob.NewProgress(total, req.Progress), noted: map[string]bool{}}
	u.options = fetch.Options{Transport: req.Transport, Backoff: req.Backoff, Stall: req.Stall, Note: u.note}
	u.platform.OS, u.platform.Architecture, _ = strings.Cut(cmp.Or(req.Platform, build.DefaultPlatform), "/")
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(maxParallel)
	for _, it := range items {
		group.Go(func() error {
			if err := u.upload(groupCtx, it); err != nil {
				return fmt.Errorf("image %s: %w", it.Name, err)
			}
			return nil
		})
	}
	err = group.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return problem.New(problem.ExitBundle, "upload the images to "+req.Target, err, uploadHint(err, req.Target))
	}
	u.meter.Finish()
	return nil
}

// uploadHint returns what a user does about an error of an upload.
func uploadHint(err error, target string) string {
	host, _, _ := strings.Cut(target, "/")
	if fetch.IsRefused(err) {
		return "create the project or repository at " + host + " if it needs that, and log in with `docker login " + host + "` as a user who may write there;" +
			" then run the same command again"
	}
	return "check the network, the proxy settings and the registry; then run the same command again: it resumes"
}

// note passes text to Request.Note, each text once: several images share a registry.
func (u *uploader) note(text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.req.Note != nil && !u.noted[text] {
		u.noted[text] = true
		u.req.Note(text)
	}
}

// RepositoryFor returns the repository below target for the images of a repository of any registry.
// A port is joined by "-", because a path has no ":".
func RepositoryFor(target string, source name.Repository) (name.Repository, error) {
	return name.NewRepository(path.Join(target, hostPath(source.Registry), source.RepositoryStr()), name.StrictValidation)
}

// hostPath returns the path below a target for a registry.
func hostPath(r name.Registry) string {
	return strings.ReplaceAll(strings.ToLower(hostName(r)), ":", "-")
}

// hostName returns the host of a registry as references have it.
func hostName(r name.Registry) string {
	if r.RegistryStr() == name.DefaultRegistry {
		return "docker.io"
	}
	return r.RegistryStr()
}

// Mirrors returns HOST=HOST/PATH of each registry of refs, sorted, for builds that download from
// below target; see pull.ParseMirror.
func Mirrors(target string, refs []string) (lines []string, err error) {
	for _, text := range refs {
		ref, err := name.ParseReference(text, name.StrictValidation)
		if err != nil {
			return nil, err
		}
		r := ref.Context().Registry
		lines = append(lines, hostName(r)+"="+path.Join(target, hostPath(r)))
	}
	slices.Sort(lines)
	return slices.Compact(lines), nil
}

// upload uploads one image: its blobs, its manifest under its digest, and then what its reference
// names.
func (u *uploader) upload(ctx context.Context, it format.Item) error {
	ref, err := name.ParseReference(it.Name, name.StrictValidation)
	if err != nil {
		return err
	}
	to, err := RepositoryFor(u.req.Target, ref.Context())
	if err != nil {
		return err
	}
	repo, err := fetch.OpenRepositoryForUpload(ctx, to, u.options)
	if err != nil {
		return err
	}
	for _, desc := range it.Blobs()[1:] {
		if err := u.uploadBlob(ctx, repo, to, desc); err != nil {
			return err
		}
	}
	doc, err := u.document(ctx, it.Manifest)
	if err != nil {
		return err
	}
	if err := repo.UploadManifest(ctx, it.Manifest.Digest.String(), doc); err != nil {
		return err
	}
	if pinned, ok := ref.(name.Digest); ok {
		return u.uploadPinned(ctx, repo, it, digest.Digest(pinned.DigestStr()))
	}
	return u.uploadTag(ctx, repo, it, ref.Identifier())
}

// uploadBlob uploads a blob, or mounts it if an image of another repository has it.
func (u *uploader) uploadBlob(ctx context.Context, repo *fetch.Repository, to name.Repository, desc ocispec.Descriptor) error {
	known, _ := u.blobs.LoadOrStore(desc.Digest, &uploadedBlob{})
	b := known.(*uploadedBlob)
	b.Lock()
	defer b.Unlock()
	from := b.repository
	if from == to.RepositoryStr() {
		from = ""
	}
	err := repo.UploadBlob(ctx, fetch.Upload{Source: u.source, Want: desc, MountFrom: from}, u.meter)
	if err == nil && b.repository == "" {
		b.repository = to.RepositoryStr()
	}
	return err
}

// document returns a manifest of the source.
func (u *uploader) document(ctx context.Context, desc ocispec.Descriptor) (fetch.Document, error) {
	data, err := blob.ReadAll(ctx, u.source, desc, desc.Size)
	return fetch.Document{Data: data, MediaType: desc.MediaType}, err
}
