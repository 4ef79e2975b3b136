// Package bom owns what a bundle says of its own origin: the SPDX 2.3 document
// of all images, host files, executables and Go modules in it, and SLSA v1
// provenance in in-toto statements. It reads what executables say of themselves
// and what the source annotated, and it refuses to guess: what nobody recorded
// is NOASSERTION.
package bom

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/format"
)

// Upstream is one source that an item was made from: an element of the
// annotation format.AnnotationModules.
type Upstream struct {
	Module  string `json:"module"` // Go module path, or deb:<name>
	Version string `json:"version"`
	Sum     string `json:"sum"`     // h1: as in go.sum, or sha256:
	Licence string `json:"licence"` // SPDX expression
}

// Executable is a Go program that was found in an item.
type Executable struct {
	Path   string // in the image; the name of a host file
	Digest digest.Digest
	Info   *debug.BuildInfo
}

// Part is an item with what was found in it.
type Part struct {
	Item        format.Item
	Upstreams   []Upstream
	Executables []Executable // in the order of their paths
}

// PartOf reads what the source annotated on an item.
func PartOf(it format.Item, found []Executable) (Part, error) {
	p := Part{Item: it, Executables: slices.Clone(found)}
	slices.SortFunc(p.Executables, func(a, b Executable) int { return cmp.Compare(a.Path, b.Path) })
	note := it.Manifest.Annotations
	if text := note[format.AnnotationModules]; text != "" {
		if err := json.Unmarshal([]byte(text), &p.Upstreams); err != nil {
			return p, fmt.Errorf("%s: annotation %s: %w", it, format.AnnotationModules, err)
		}
	}
	return p, nil
}

// licences is the item's own SPDX expression.
func (p Part) licences() string {
	return cmp.Or(p.Item.Manifest.Annotations[ocispec.AnnotationLicenses], noAssertion)
}

// digest is that of the file itself for a host file, of the manifest for an image.
func (p Part) digest() digest.Digest {
	if p.Item.Kind == format.KindHost {
		if f, err := p.Item.File(); err == nil {
			return f.Digest
		}
	}
	return p.Item.Manifest.Digest
}

// maxDocument bounds what a hostile SBOM can cost in memory.
const maxDocument = 64 << 20

// Pack writes a document as it stands in a bundle.
func Pack(doc Document) ([]byte, error) {
	raw, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return enc.EncodeAll(raw, nil), enc.Close()
}

// Unpack reads what Pack wrote.
func Unpack(packed []byte) (doc Document, err error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxDocument))
	if err != nil {
		return doc, err
	}
	defer dec.Close()
	raw, err := dec.DecodeAll(packed, nil)
	if err == nil {
		err = json.Unmarshal(raw, &doc)
	}
	if err == nil && doc.Version != "SPDX-2.3" {
		err = errors.New("it is not SPDX 2.3")
	}
	return doc, err
}

// Statements reads provenance: a statement a line.
func Statements(lines []byte) (all []Statement, err error) {
	d := json.NewDecoder(bytes.NewReader(lines))
	for d.More() {
		var s Statement
		if err := d.Decode(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}
