package build

import (
	"context"
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/plinthdev/plinth/distro/oci"
	"github.com/plinthdev/plinth/distro/recipe"
)

// What the layout's readers look for.
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

// upstream is one element of the modules annotation.
type upstream struct {
	Module  string `json:"module"`
	Version string `json:"version"`
	Sum     string `json:"sum"`
	Licence string `json:"licence"`
}

// layoutParts collects what goes into a layout.
type layoutParts struct {
	index []ocispec.Descriptor
	blobs []digest.Digest
}

// assemble writes the layout with every host artifact and image whose parts
// are built, so that the first ones can be used while others are still built.
func (e *Engine) assemble(ctx context.Context) error {
	e.assembling.Lock()
	defer e.assembling.Unlock()
	var lay layoutParts
	for _, h := range e.Set.Payload.Hosts {
		if !e.built(h.File.Part()) {
			continue
		}
		if err := e.addHost(&lay, h); err != nil {
			return err
		}
	}
	for _, im := range e.Set.Payload.Images {
		if slices.ContainsFunc(e.Set.Payload.PartsOf(im, e.Set.Recipes), func(p string) bool { return !e.built(p) }) {
			continue
		}
		if err := e.addImage(ctx, &lay, im); err != nil {
			return err
		}
	}
	return e.store.WriteLayout(e.Layout(), lay.index, lay.blobs)
}

func (e *Engine) addHost(lay *layoutParts, h recipe.Host) error {
	part := h.File.Part()
	r := e.Set.Recipes[part]
	blob, err := e.remembered("files", e.hashOf(h.File, e.keys[part]), func() (oci.Blob, error) {
		return e.store.PutFile(e.partDir(part) + "/" + h.File.Path())
	})
	if err != nil {
		return err
	}
	config, err := e.store.PutJSON(struct{}{})
	if err != nil {
		return err
	}
	config.MediaType = ocispec.MediaTypeEmptyJSON
	notes := e.notes("host", h.Version, e.upstreams(e.withNeeds(part), nil))
	notes[ocispec.AnnotationTitle] = h.Title
	layer := ocispec.Descriptor{MediaType: hostLayerType, Digest: blob.Digest, Size: blob.Size, Annotations: map[string]string{
		ocispec.AnnotationTitle: h.Title, annotationMode: "0755",
		annotationRawDigest: blob.Raw.String(), annotationRawSize: strconv.FormatInt(blob.RawSize, 10),
	}}
	if h.Version == "" {
		notes[ocispec.AnnotationVersion] = r.Version
	}
	return e.addManifest(lay, ocispec.Manifest{ArtifactType: hostArtifactType, Config: config, Layers: []ocispec.Descriptor{layer}}, notes)
}

func (e *Engine) addImage(ctx context.Context, lay *layoutParts, im recipe.Image) error {
	epoch := e.epoch(im)
	blobs, err := e.imageLayers(ctx, im, epoch)
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
	if m.Config, err = e.store.PutJSON(cfg); err != nil {
		return err
	}
	m.Config.MediaType = ocispec.MediaTypeImageConfig
	up := e.upstreams(e.withNeeds(e.Set.Payload.PartsOf(im, e.Set.Recipes)...), e.Set.Payload.DebsOf(im))
	notes := e.notes("image", im.Version, mainFirst(up, im.Part, e.Set.Recipes))
	notes[ocispec.AnnotationRefName], notes[annotationImageName] = im.Ref, im.Ref
	return e.addManifest(lay, m, notes)
}

// imageLayers makes the image's layers, shared ones first. A shared layer's
// time does not depend on the image, or it would not be shared.
func (e *Engine) imageLayers(ctx context.Context, im recipe.Image, epoch int64) ([]oci.Blob, error) {
	var blobs []oci.Blob
	for _, name := range im.Layers {
		b, err := e.layer(ctx, e.Set.Payload.Layers[name], e.Set.Payload.Epoch)
		if err != nil {
			return nil, err
		}
		blobs = append(blobs, b)
	}
	if im.Tree.Empty() {
		return blobs, nil
	}
	b, err := e.layer(ctx, im.Tree, epoch)
	return append(blobs, b), err
}

// epoch is the image's build time: that of its main upstream.
func (e *Engine) epoch(im recipe.Image) int64 {
	if r, ok := e.Set.Recipes[im.Part]; ok {
		return r.Epoch
	}
	return e.Set.Payload.Epoch
}

func (e *Engine) addManifest(lay *layoutParts, m ocispec.Manifest, notes map[string]string) error {
	m.Versioned, m.MediaType, m.Annotations = specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageManifest, notes
	d, err := e.store.PutJSON(m)
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

// notes are the annotations that every descriptor has. The first upstream is
// the main one.
func (e *Engine) notes(kind, version string, up []upstream) map[string]string {
	var licences []string
	for _, u := range up {
		for _, l := range strings.Split(u.Licence, " AND ") {
			if strings.Contains(l, " OR ") && !strings.HasPrefix(l, "(") {
				l = "(" + l + ")"
			}
			licences = append(licences, l)
		}
	}
	slices.Sort(licences)
	all, _ := json.Marshal(up) // plain strings cannot fail
	if version == "" {
		version = up[0].Version
	}
	return map[string]string{
		annotationKind:             kind,
		ocispec.AnnotationVersion:  version,
		ocispec.AnnotationLicenses: strings.Join(slices.Compact(licences), " AND "),
		annotationModule:           up[0].Module + "@" + up[0].Version,
		annotationSum:              up[0].Sum,
		annotationModules:          string(all),
	}
}

// upstreams names where the given parts and Debian packages come from.
func (e *Engine) upstreams(parts, debs []string) []upstream {
	var out []upstream
	for _, name := range parts {
		r := e.Set.Recipes[name]
		if r.Module != "" {
			_, version, _ := strings.Cut(r.Module, "@")
			out = append(out, upstream{r.ModulePath(), version, r.Sum, r.Licence})
		}
		debs = append(debs, r.Debs...)
	}
	for _, name := range debs {
		if d, err := e.Lock.Get(name); err == nil { // the keys were made from the same entries
			out = append(out, upstream{"deb:" + d.Name, d.Version, "sha256:" + d.Sum, d.Licence})
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

// mainFirst moves the image's main upstream to the front.
func mainFirst(up []upstream, part string, recipes map[string]recipe.Recipe) []upstream {
	main := "deb:" + part
	if r, ok := recipes[part]; ok && r.Module != "" {
		main = r.ModulePath()
	}
	i := max(0, slices.IndexFunc(up, func(u upstream) bool { return u.Module == main }))
	return slices.Concat(up[i:i+1], up[:i], up[i+1:])
}

// withNeeds is the parts and all that went into them, each once.
func (e *Engine) withNeeds(parts ...string) []string {
	var out []string
	for _, p := range parts {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
		for _, n := range e.withNeeds(e.Set.Recipes[p].Needs...) {
			if !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	return out
}

func linuxAMD64() ocispec.Platform { return ocispec.Platform{OS: "linux", Architecture: "amd64"} }

func mapKeys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }
