// Package sbom describes the origin of a bundle's content: an SPDX 2.3 document
// of all images, host files, executables and Go modules in it, and SLSA v1
// provenance as in-toto statements. It uses only recorded facts (annotations and
// Go build information); an unknown value is NOASSERTION.
package sbom

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
	"github.com/plinthdev/plinth/airgap/limit"
)

// Upstream is one source that an item was built from: an element of the
// annotation format.AnnotationModules.
type Upstream struct {
	Module  string `json:"module"` // Go module path, or deb:<name>
	Version string `json:"version"`
	Sum     string `json:"sum"`     // "h1:" and a hash as in go.sum, or "sha256:" and hex
	License string `json:"license"` // SPDX expression
}

// Executable is a Go program that is part of an item.
type Executable struct {
	Path   string // path in the image, or the name of the host file
	Digest digest.Digest
	Info   *debug.BuildInfo
}

// Component is an image or host file with its sources and executables.
type Component struct {
	Item        format.Item
	Upstreams   []Upstream
	Executables []Executable // sorted by path
}

// NewComponent returns the component of an item, with the executables found in it.
// It returns an error if the annotation with the item's sources is malformed.
func NewComponent(it format.Item, found []Executable) (Component, error) {
	p := Component{Item: it, Executables: slices.Clone(found)}
	slices.SortFunc(p.Executables, func(a, b Executable) int { return cmp.Compare(a.Path, b.Path) })
	note := it.Manifest.Annotations
	if text := note[format.AnnotationModules]; text != "" {
		if err := json.Unmarshal([]byte(text), &p.Upstreams); err != nil {
			return p, fmt.Errorf("%s: cannot parse annotation %s: %w", it, format.AnnotationModules, err)
		}
	}
	return p, nil
}

// declaredLicense returns the item's own SPDX license expression, or NOASSERTION.
func (p Component) declaredLicense() string {
	return cmp.Or(p.Item.Manifest.Annotations[ocispec.AnnotationLicenses], noAssertion)
}

// contentDigest returns the digest of the file itself for a host file, and of the
// manifest for an image.
func (p Component) contentDigest() digest.Digest {
	if p.Item.Kind == format.KindHost {
		if f, err := p.Item.HostFile(); err == nil {
			return f.Digest
		}
	}
	return p.Item.Manifest.Digest
}

// Encode returns a document as it is stored in a bundle: JSON, compressed with zstd.
func Encode(doc Document) ([]byte, error) {
	raw, err := json.Marshal(doc)
	if err == nil {
		err = limit.CheckJSON(raw)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot encode the SBOM: %w", err)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return enc.EncodeAll(raw, nil), enc.Close()
}

// Decode returns the document that Encode has encoded.
func Decode(packed []byte) (doc Document, err error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(limit.SBOM))
	if err != nil {
		return doc, err
	}
	defer dec.Close()
	raw, err := dec.DecodeAll(packed, nil)
	if err == nil {
		err = limit.UnmarshalJSON(raw, &doc)
	}
	if err == nil && doc.Version != "SPDX-2.3" {
		err = errors.New("not an SPDX 2.3 document")
	}
	return doc, err
}

// ParseStatements returns the statements of a provenance file, which has one
// statement on each line.
func ParseStatements(lines []byte) (all []Statement, err error) {
	if err := limit.CheckJSON(lines); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(lines))
	for d.More() {
		var s Statement
		if err := d.Decode(&s); err != nil {
			return nil, err
		}
		if s.Type != statementType {
			return nil, fmt.Errorf("%q is not an in-toto statement", s.Type)
		}
		all = append(all, s)
	}
	return all, nil
}
