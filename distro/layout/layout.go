// Package layout packs the outputs of the recipes into layers, images and host
// artifacts and writes them as an OCI layout. Parts that are not built are left
// out, and what did not change is not packed again.
package layout

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/plinthdev/plinth/distro/cache"
	"github.com/plinthdev/plinth/distro/oci"
	"github.com/plinthdev/plinth/distro/recipe"
)

// Annotations and media types that the readers of the layout expect.
const (
	annotationKind      = "dev.plinth.kind"    // image or host
	annotationModule    = "dev.plinth.module"  // path@version of the main upstream
	annotationSum       = "dev.plinth.sum"     // its h1: or sha256: sum
	annotationModules   = "dev.plinth.modules" // JSON array of all upstreams inside
	annotationMode      = "dev.plinth.mode"
	annotationRawDigest = "dev.plinth.uncompressed-digest"
	annotationRawSize   = "dev.plinth.uncompressed-size"
	annotationImageName = "io.containerd.image.name"

	hostArtifactType = "application/vnd.plinth.host.v1"
	hostLayerType    = "application/vnd.plinth.file.v1+zstd"
)

// upstream is one element of the modules annotation. Its JSON is part of the
// digests of manifests.
type upstream struct {
	Module  string `json:"module"`
	Version string `json:"version"`
	Sum     string `json:"sum"`
	License string `json:"license"`
}

// Writer writes the layout of one cache.
type Writer struct {
	Cache   *cache.Cache
	writeMu sync.Mutex // held while the layout is written
}

// layoutParts collects the index entries and blobs of a layout.
type layoutParts struct {
	index []ocispec.Descriptor
	blobs []digest.Digest
}

// Write writes the layout with every host artifact and image whose parts are
// built. The first ones can be used while other parts are still being built.
func (a *Writer) Write(ctx context.Context) error {
	a.writeMu.Lock()
	defer a.writeMu.Unlock()
	var lay layoutParts
	for _, h := range a.Cache.Set.Payload.Hosts {
		if !a.Cache.IsBuilt(h.File.Part()) {
			continue
		}
		if err := a.addHost(&lay, h); err != nil {
			return err
		}
	}
	for _, im := range a.Cache.Set.Payload.Images {
		if slices.ContainsFunc(a.Cache.Set.Payload.PartsOf(im, a.Cache.Set.Recipes), func(p string) bool { return !a.Cache.IsBuilt(p) }) {
			continue
		}
		if err := a.addImage(ctx, &lay, im); err != nil {
			return err
		}
	}
	return a.Cache.BlobStore().WriteLayout(a.Cache.LayoutDir(), lay.index, lay.blobs)
}

func (a *Writer) addHost(lay *layoutParts, h recipe.Host) error {
	part := h.File.Part()
	r := a.Cache.Set.Recipes[part]
	blob, err := a.cachedBlob("files", a.Cache.HashKey(h.File, a.Cache.PartKey(part)), func() (oci.Blob, error) {
		return a.Cache.BlobStore().PutFile(a.Cache.PartDir(part) + "/" + h.File.Path())
	})
	if err != nil {
		return err
	}
	config, err := a.Cache.BlobStore().PutJSON(struct{}{})
	if err != nil {
		return err
	}
	config.MediaType = ocispec.MediaTypeEmptyJSON
	notes := a.commonAnnotations("host", h.Version, a.listUpstreams(a.Cache.Set.WithNeeds(part), nil))
	notes[ocispec.AnnotationTitle] = h.Title
	layer := ocispec.Descriptor{MediaType: hostLayerType, Digest: blob.Digest, Size: blob.Size, Annotations: map[string]string{
		ocispec.AnnotationTitle: h.Title, annotationMode: "0755",
		annotationRawDigest: blob.Raw.String(), annotationRawSize: strconv.FormatInt(blob.RawSize, 10),
	}}
	if h.Version == "" {
		notes[ocispec.AnnotationVersion] = r.Version
	}
	return a.addManifest(lay, ocispec.Manifest{ArtifactType: hostArtifactType, Config: config, Layers: []ocispec.Descriptor{layer}}, notes)
}

func (a *Writer) addImage(ctx context.Context, lay *layoutParts, im recipe.Image) error {
	epoch := a.imageEpoch(im)
	blobs, err := a.imageLayers(ctx, im, epoch)
	if err != nil {
		return err
	}
	when := time.Unix(epoch, 0).UTC()
	cfg := ocispec.Image{
		Created:  &when,
		Platform: linuxAMD64(),
		Config:   ocispec.ImageConfig{User: im.User, Env: im.Env, Entrypoint: im.Entrypoint, Cmd: im.Cmd, WorkingDir: im.Workdir},
		RootFS:   ocispec.RootFS{Type: "layers"},
	}
	m := ocispec.Manifest{}
	for _, b := range blobs {
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, b.Raw)
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerZstd, Digest: b.Digest, Size: b.Size})
	}
	if m.Config, err = a.Cache.BlobStore().PutJSON(cfg); err != nil {
		return err
	}
	m.Config.MediaType = ocispec.MediaTypeImageConfig
	up := a.listUpstreams(a.Cache.Set.WithNeeds(a.Cache.Set.Payload.PartsOf(im, a.Cache.Set.Recipes)...), a.Cache.Set.Payload.DebsOf(im))
	notes := a.commonAnnotations("image", im.Version, mainFirst(up, im.Part, a.Cache.Set.Recipes))
	notes[ocispec.AnnotationRefName], notes[annotationImageName] = im.Ref, im.Ref
	return a.addManifest(lay, m, notes)
}

// imageLayers returns the image's layers, shared layers first. It packs them if
// necessary. The time of a shared layer does not depend on the image; otherwise
// the layer could not be shared.
func (a *Writer) imageLayers(ctx context.Context, im recipe.Image, epoch int64) ([]oci.Blob, error) {
	var blobs []oci.Blob
	for _, name := range im.Layers {
		b, err := a.buildLayer(ctx, a.Cache.Set.Payload.Layers[name], a.Cache.Set.Payload.Epoch)
		if err != nil {
			return nil, err
		}
		blobs = append(blobs, b)
	}
	if im.IsEmpty() {
		return blobs, nil
	}
	b, err := a.buildLayer(ctx, im.Tree, epoch)
	return append(blobs, b), err
}

// imageEpoch returns the image's build time in seconds: that of its main upstream.
func (a *Writer) imageEpoch(im recipe.Image) int64 {
	if r, ok := a.Cache.Set.Recipes[im.Part]; ok {
		return r.Epoch
	}
	return a.Cache.Set.Payload.Epoch
}

func (a *Writer) addManifest(lay *layoutParts, m ocispec.Manifest, notes map[string]string) error {
	m.Versioned, m.MediaType, m.Annotations = specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageManifest, notes
	d, err := a.Cache.BlobStore().PutJSON(m)
	if err != nil {
		return err
	}
	platform := linuxAMD64()
	d.MediaType, d.ArtifactType, d.Platform, d.Annotations = ocispec.MediaTypeImageManifest, m.ArtifactType, &platform, notes
	lay.index = append(lay.index, d)
	lay.blobs = append(lay.blobs, d.Digest, m.Config.Digest)
	for _, l := range m.Layers {
		lay.blobs = append(lay.blobs, l.Digest)
	}
	return nil
}

// commonAnnotations returns the annotations that every descriptor has. The first
// upstream must be the main one.
func (a *Writer) commonAnnotations(kind, version string, up []upstream) map[string]string {
	var licenses []string
	for _, u := range up {
		for _, l := range strings.Split(u.License, " AND ") {
			if strings.Contains(l, " OR ") && !strings.HasPrefix(l, "(") {
				l = "(" + l + ")"
			}
			licenses = append(licenses, l)
		}
	}
	slices.Sort(licenses)
	all, _ := json.Marshal(up) // plain strings cannot fail
	if version == "" {
		version = up[0].Version
	}
	return map[string]string{
		annotationKind:             kind,
		ocispec.AnnotationVersion:  version,
		ocispec.AnnotationLicenses: strings.Join(slices.Compact(licenses), " AND "),
		annotationModule:           up[0].Module + "@" + up[0].Version,
		annotationSum:              up[0].Sum,
		annotationModules:          string(all),
	}
}

// listUpstreams returns the upstreams of the given parts and Debian packages, each
// once.
func (a *Writer) listUpstreams(parts, debs []string) []upstream {
	var out []upstream
	for _, name := range parts {
		r := a.Cache.Set.Recipes[name]
		if r.Module != "" {
			_, version, _ := strings.Cut(r.Module, "@")
			out = append(out, upstream{r.ModulePath(), version, r.Sum, r.License})
		}
		debs = append(debs, r.Debs...)
	}
	for _, name := range debs {
		if d, err := a.Cache.Lock.Get(name); err == nil { // the keys were computed from the same entries
			out = append(out, upstream{"deb:" + d.Name, d.Version, "sha256:" + d.Sum, d.License})
		}
	}
	var unique []upstream
	for _, u := range out {
		if !slices.Contains(unique, u) {
			unique = append(unique, u)
		}
	}
	return unique
}

// mainFirst returns the upstreams with the image's main upstream first.
func mainFirst(up []upstream, part string, recipes map[string]recipe.Recipe) []upstream {
	main := "deb:" + part
	if r, ok := recipes[part]; ok && r.Module != "" {
		main = r.ModulePath()
	}
	i := max(0, slices.IndexFunc(up, func(u upstream) bool { return u.Module == main }))
	return slices.Concat(up[i:i+1], up[:i], up[i+1:])
}

func linuxAMD64() ocispec.Platform { return ocispec.Platform{OS: "linux", Architecture: "amd64"} }
