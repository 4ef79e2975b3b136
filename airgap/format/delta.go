package format

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
)

// TypePatch is the media type of a patch (package delta).
const TypePatch = "application/vnd.plinth.patch.v1"

// Delta says from which older bundle a file was made that holds of a newer one
// what the older lacks. Nothing of it is signed: what comes of it is proved
// against the index, which is.
type Delta struct {
	Base    digest.Digest `json:"base"`              // the older bundle
	Patches []Patch       `json:"patches,omitempty"` // how to make blobs from those of the base
}

// Patch says how to make a blob from one that the older bundle has.
type Patch struct {
	Blob   digest.Digest      `json:"blob"`   // the new one
	From   ocispec.Descriptor `json:"from"`   // the old one
	Patch  ocispec.Descriptor `json:"patch"`  // the difference, a blob of the file
	Packed string             `json:"packed"` // how the new one is compressed: PackedBetter
}

// PackedBetter is zstd as package distro/oci of this repository compresses:
// klauspost/compress 1.18, level "better", one thread.
const PackedBetter = "zstd-better-1.18"

// JSON writes the document.
func (d Delta) JSON() ([]byte, error) {
	raw, err := json.MarshalIndent(d, "", "  ")
	return append(raw, '\n'), err
}

// ParseDelta reads the document.
func ParseDelta(raw []byte) (*Delta, error) {
	var d Delta
	r := json.NewDecoder(bytes.NewReader(raw))
	r.DisallowUnknownFields()
	if err := r.Decode(&d); err != nil {
		return nil, err
	}
	errs := []error{blob.Check(ocispec.Descriptor{Digest: d.Base})}
	for _, p := range d.Patches {
		errs = append(errs, blob.Check(ocispec.Descriptor{Digest: p.Blob}), blob.Check(p.From), blob.Check(p.Patch))
	}
	return &d, errors.Join(errs...)
}
