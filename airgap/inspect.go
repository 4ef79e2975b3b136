package airgap

import (
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/format"
)

// Summary describes a bundle; it is what `bundle inspect -o json` prints.
// All sizes are in bytes.
type Summary struct {
	Digest   digest.Digest `json:"digest"` // of index.json
	Format   string        `json:"format"`
	Name     string        `json:"name"`
	Release  int64         `json:"release,omitempty"` // the vendor's number
	Expires  *time.Time    `json:"expires,omitempty"`
	Signed   bool          `json:"signed"`               // it has a signature
	Verified string        `json:"verifiedBy,omitempty"` // fingerprint of the key whose signature was proved
	Base     digest.Digest `json:"base,omitempty"`       // of a delta: the bundle that it was made from
	Absent   int           `json:"absent,omitempty"`     // parts that are not in the file: it is thin, or a delta
	Platform string        `json:"platform,omitempty"`
	Items    []SummaryItem `json:"items"`
	Totals   Totals        `json:"totals"`
}

// SummaryItem describes one item of a bundle.
type SummaryItem struct {
	Kind     format.Kind   `json:"kind"`
	Name     string        `json:"name"` // full reference of an image
	Version  string        `json:"version,omitempty"`
	Licenses string        `json:"licenses,omitempty"` // SPDX expression
	Module   string        `json:"module,omitempty"`   // Go module it was built from
	Sum      string        `json:"sum,omitempty"`      // that module's go.sum hash
	Digest   digest.Digest `json:"digest"`             // of the manifest
	Size     int64         `json:"size"`               // as stored: manifest, config, layers
	Unpacked int64         `json:"unpacked,omitempty"` // images and host files
	Shared   int64         `json:"shared,omitempty"`   // part of size that an item before it has too
}

// Totals adds a bundle up.
type Totals struct {
	File    int64       `json:"file"`    // the bundle file
	Blobs   int         `json:"blobs"`   // how many
	Content int64       `json:"content"` // all blobs, each once
	Shared  int64       `json:"shared"`  // what storing each blob once saves
	OnHost  ContentSize `json:"onHost"`
}

// Inspect describes the bundle from its index and manifests alone.
func (b *Bundle) Inspect() Summary {
	s := Summary{Digest: b.digest, Format: format.V1, Name: b.Name(), Platform: b.Platform()}
	s.Release, s.Signed = b.Release(), len(b.Signature()) > 0
	if s.Absent = len(b.Absent()); b.delta != nil {
		s.Base = b.delta.Base
	}
	if end := b.Expires(); !end.IsZero() {
		s.Expires = &end
	}
	s.Totals = Totals{File: b.size, Blobs: len(b.blobs), OnHost: b.ContentSize()}
	for _, span := range b.blobs {
		s.Totals.Content += span.Size
	}
	seen := map[digest.Digest]bool{}
	for _, it := range b.items {
		note := it.Manifest.Annotations
		item := SummaryItem{
			Kind: it.Kind, Name: it.Name, Version: it.Version, Licenses: note[ocispec.AnnotationLicenses],
			Module: note[format.AnnotationModule], Sum: note[format.AnnotationSum],
			Digest: it.Manifest.Digest, Size: it.Size(), Unpacked: it.Unpacked(),
		}
		for _, d := range it.Blobs() {
			if seen[d.Digest] {
				item.Shared += d.Size
			}
			seen[d.Digest] = true
		}
		s.Totals.Shared += item.Shared
		s.Items = append(s.Items, item)
	}
	return s
}
