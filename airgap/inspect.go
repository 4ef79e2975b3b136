package airgap

import (
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/format"
)

// Summary describes a bundle. It is the output of `bundle inspect -o json`.
// All sizes are in bytes.
type Summary struct {
	Digest   digest.Digest `json:"digest"` // of index.json
	Format   string        `json:"format"`
	Name     string        `json:"name"`
	Release  int64         `json:"release,omitempty"` // the vendor's release number
	Expires  *time.Time    `json:"expires,omitempty"`
	Signed   bool          `json:"signed"`               // the bundle has a signature
	Verified string        `json:"verifiedBy,omitempty"` // fingerprint of the key that verified the signature
	Base     digest.Digest `json:"base,omitempty"`       // only for a delta: digest of the bundle that it is based on
	Missing  int           `json:"absent,omitempty"`     // number of blobs that are not in the file (thin bundle or delta)
	Platform string        `json:"platform,omitempty"`
	Items    []SummaryItem `json:"items"`
	Totals   Totals        `json:"totals"`
}

// SummaryItem describes one item of a bundle.
type SummaryItem struct {
	Kind     format.Kind   `json:"kind"`
	Name     string        `json:"name"` // full reference of an image
	Version  string        `json:"version,omitempty"`
	StandIn  string        `json:"standIn,omitempty"`  // what it was built from, if that is another version than its name says
	Licenses string        `json:"licenses,omitempty"` // SPDX expression
	Module   string        `json:"module,omitempty"`   // Go module it was built from
	Sum      string        `json:"sum,omitempty"`      // that module's go.sum hash
	Digest   digest.Digest `json:"digest"`             // of the manifest
	Size     int64         `json:"size"`               // as stored: manifest, config, layers
	Unpacked int64         `json:"unpacked,omitempty"` // images and host files
	Shared   int64         `json:"shared,omitempty"`   // part of size that an earlier item contains, too
}

// Totals are the sums over all items of a bundle.
type Totals struct {
	File    int64       `json:"file"`    // the bundle file
	Blobs   int         `json:"blobs"`   // number of blobs
	Content int64       `json:"content"` // size of all blobs, each counted once
	Shared  int64       `json:"shared"`  // bytes saved by storing each blob once
	OnHost  ContentSize `json:"onHost"`
}

// Inspect returns a summary of the bundle. It reads only the index and the manifests.
func (b *Bundle) Inspect() Summary {
	s := Summary{Digest: b.digest, Format: format.V1, Name: b.Name(), Platform: b.Platform()}
	s.Release, s.Signed = b.Release(), len(b.Signature()) > 0
	if s.Missing = len(b.Missing()); b.delta != nil {
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
			Kind: it.Kind, Name: it.Name, Version: it.Version, StandIn: it.StandIn(), Licenses: note[ocispec.AnnotationLicenses],
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
