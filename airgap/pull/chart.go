package pull

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"sigs.k8s.io/yaml"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/internal/problem"
)

// Chart identifies a Helm chart in a registry or a chart repository.
type Chart struct {
	Ref     string // oci://HOST/PATH, or https://REPOSITORY/NAME
	Version string // exact
}

// String returns the reference with the version.
func (c Chart) String() string { return c.Ref + " " + c.Version }

// maxRepositoryIndex is the size in bytes of the largest index.yaml of a chart repository that is read. That of a
// large repository has 20 MB.
const maxRepositoryIndex = 64 << 20

// FetchChart returns the archive of a chart. It asks the registry or the repository for the digest of that version,
// and downloads the archive unless the folder of req has it. Errors are Problems with the exit code for a bad bundle.
func FetchChart(ctx context.Context, req Request, c Chart) (archive []byte, err error) {
	f, err := newFetcher(req)
	if err == nil {
		archive, err = f.fetchChart(ctx, c)
	}
	if err == nil || ctx.Err() != nil {
		return archive, err
	}
	return nil, problem.New(problem.ExitBundle, "download chart "+c.String(), err, checkDownloadHint+"\n"+
		"without a network: name a folder that `plinth bundle mirror` filled with --source DIR")
}

// StoredChart returns the archive of a chart from a folder that FetchChart filled. The error is fs.ErrNotExist if
// the folder does not have it.
func StoredChart(ctx context.Context, folder string, c Chart) ([]byte, error) {
	stored, err := blob.OpenFolder(folder)
	if err != nil {
		return nil, fs.ErrNotExist
	}
	index, err := stored.Index()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(index.Manifests, func(d ocispec.Descriptor) bool {
		return format.DescriptorKind(d) == format.KindChart && d.Annotations[format.AnnotationChart] == c.Ref && d.Annotations[ocispec.AnnotationVersion] == c.Version
	})
	if i < 0 {
		return nil, fs.ErrNotExist
	}
	manifest, err := blob.ReadAll(ctx, stored, index.Manifests[i], limit.Document)
	if err != nil {
		return nil, err
	}
	item, err := format.ParseItem(index.Manifests[i], manifest)
	if err != nil {
		return nil, err
	}
	return blob.ReadAll(ctx, stored, item.Layers[0].Descriptor, limit.Document)
}

// fetchChart downloads a chart and adds it to the index of the folder.
func (f *fetcher) fetchChart(ctx context.Context, c Chart) ([]byte, error) {
	locate := f.locateInRepository
	if strings.HasPrefix(c.Ref, "oci://") {
		locate = f.locateInRegistry
	}
	want, download, err := locate(ctx, c)
	if err != nil {
		return nil, err
	}
	if want.Size > limit.Document {
		return nil, fmt.Errorf("%w: the chart has %d bytes, the limit is %d", fetch.ErrUnusable, want.Size, limit.Document)
	}
	if size, ok := f.folder.Find(want.Digest); ok && want.Size == fetch.UnknownSize {
		want.Size = size
	}
	if want.Size == fetch.UnknownSize || !f.isStored(ctx, want) {
		if err := download(want); err != nil {
			return nil, err
		}
		want.Size, _ = f.folder.Find(want.Digest)
	}
	if want.Size > limit.Document {
		return nil, errors.Join(fmt.Errorf("%w: the chart has %d bytes, the limit is %d", fetch.ErrUnusable, want.Size, limit.Document), f.folder.Remove(want.Digest))
	}
	archive, err := blob.ReadAll(ctx, f.folder, want, limit.Document)
	if err != nil {
		return nil, err
	}
	return archive, f.addChart(c, want)
}

// chartDownload downloads the archive of a chart to the folder.
type chartDownload func(want ocispec.Descriptor) error

// locateInRegistry returns the archive of a chart in a registry.
func (f *fetcher) locateInRegistry(ctx context.Context, c Chart) (want ocispec.Descriptor, download chartDownload, err error) {
	from, err := name.NewRepository(strings.TrimPrefix(c.Ref, "oci://"), name.StrictValidation)
	if err == nil {
		from, err = mirrorOf(from, f.req.Mirrors)
	}
	if err != nil {
		return want, nil, err
	}
	repo, err := fetch.OpenRepository(ctx, from, f.options)
	if err != nil {
		return want, nil, explainRefusal(err, from.RegistryStr())
	}
	tag := strings.ReplaceAll(c.Version, "+", "_") // tags have no "+": Helm docs, topics/registries
	doc, err := repo.FetchManifest(ctx, tag)
	if err != nil {
		return want, nil, explainRefusal(err, from.RegistryStr())
	}
	var m ocispec.Manifest
	if err := limit.UnmarshalJSON(doc.Data, &m); err != nil {
		return want, nil, fmt.Errorf("%w: its manifest: %w", fetch.ErrUnusable, err)
	}
	i := slices.IndexFunc(m.Layers, func(l ocispec.Descriptor) bool { return l.MediaType == format.TypeChart })
	if m.Config.MediaType != format.TypeChartConfig || i < 0 {
		return want, nil, fmt.Errorf("%w: it is not a Helm chart", fetch.ErrUnusable)
	}
	if err := blob.CheckDescriptor(m.Layers[i]); err != nil {
		return want, nil, fmt.Errorf("%w: %w", fetch.ErrUnusable, err)
	}
	return ocispec.Descriptor{Digest: m.Layers[i].Digest, Size: m.Layers[i].Size},
		func(want ocispec.Descriptor) error { return repo.FetchBlob(ctx, f.folder, want, f.meter) }, nil
}

// chartEntry is an entry of the index.yaml of a chart repository.
type chartEntry struct {
	Version string   `json:"version"`
	URLs    []string `json:"urls"`
	Digest  string   `json:"digest"` // SHA-256 of the archive, hex
}

// locateInRepository returns the archive of a chart in a chart repository.
func (f *fetcher) locateInRepository(ctx context.Context, c Chart) (want ocispec.Descriptor, download chartDownload, err error) {
	slash := strings.LastIndex(c.Ref, "/")
	base := c.Ref[:slash]
	doc, err := f.client.GetDocument(ctx, base+"/index.yaml", "", maxRepositoryIndex)
	if err != nil {
		return want, nil, err
	}
	entry, err := findEntry(doc.Data, c.Ref[slash+1:], c.Version)
	if err != nil {
		return want, nil, fmt.Errorf("%w: %s/index.yaml %w", fetch.ErrUnusable, base, err)
	}
	from, err := resolveURL(base, entry.URLs[0])
	if err != nil {
		return want, nil, fmt.Errorf("%w: %w", fetch.ErrUnusable, err)
	}
	want = ocispec.Descriptor{Digest: digest.NewDigestFromEncoded(digest.SHA256, strings.ToLower(strings.TrimPrefix(entry.Digest, "sha256:"))), Size: fetch.UnknownSize}
	if want.Digest.Validate() != nil {
		return want, nil, fmt.Errorf("%w: %s/index.yaml has no SHA-256 of this version", fetch.ErrUnusable, base)
	}
	return want, func(want ocispec.Descriptor) error {
		return f.client.FetchBlob(ctx, f.folder, fetch.Blob{URL: from, Want: want, MaxSize: limit.Document}, f.meter)
	}, nil
}

// findEntry returns the entry of a version of a chart in an index.yaml. The error completes a sentence that begins
// with the name of the file.
func findEntry(index []byte, chart, version string) (found chartEntry, err error) {
	var all struct {
		Entries map[string][]chartEntry `json:"entries"`
	}
	if err := yaml.Unmarshal(index, &all); err != nil {
		return found, fmt.Errorf("cannot be read: %w", err)
	}
	versions, ok := all.Entries[chart]
	if !ok {
		return found, fmt.Errorf("has no chart %q", chart)
	}
	var others []string
	for _, e := range versions {
		switch {
		case e.Version == version && len(e.URLs) == 0:
			return found, fmt.Errorf("has no URL of version %q of %s", version, chart)
		case e.Version == version:
			return e, nil
		case len(others) < 3: // the newest come first
			others = append(others, e.Version)
		}
	}
	if len(others) == 0 {
		return found, fmt.Errorf("has no version of %s", chart)
	}
	return found, fmt.Errorf("has no version %q of %s; it has: %s", version, chart, strings.Join(others, ", "))
}

// resolveURL returns the URL of an archive, which can be relative to that of the repository.
func resolveURL(base, text string) (string, error) {
	root, err := url.Parse(base + "/")
	if err != nil {
		return "", err
	}
	u, err := root.Parse(text)
	if err != nil {
		return "", err
	}
	if u.Scheme != "https" && u.Scheme != "http" {
		return "", fmt.Errorf("%s is not an https URL", fetch.CleanURL(u.String()))
	}
	return u.String(), nil
}

// addChart stores the manifest of a chart, whose archive the folder has, and adds it to the index.
func (f *fetcher) addChart(c Chart, archive ocispec.Descriptor) error {
	chart := path.Base(c.Ref)
	archive.MediaType = format.TypeChart
	config, err := json.Marshal(map[string]string{"apiVersion": "v2", "name": chart, "version": c.Version})
	if err != nil {
		return err
	}
	put := func(mediaType string, content []byte) (ocispec.Descriptor, error) {
		return f.folder.Add(mediaType, func(w io.Writer) error {
			_, err := io.Copy(w, bytes.NewReader(content))
			return err
		})
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{archive}}
	m.SchemaVersion = 2
	if m.Config, err = put(format.TypeChartConfig, config); err != nil {
		return err
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	desc, err := put(ocispec.MediaTypeImageManifest, raw)
	if err != nil {
		return err
	}
	desc.Annotations = map[string]string{format.AnnotationKind: string(format.KindChart), ocispec.AnnotationTitle: chart,
		ocispec.AnnotationVersion: c.Version, format.AnnotationChart: c.Ref}
	return f.addToIndex(desc)
}
