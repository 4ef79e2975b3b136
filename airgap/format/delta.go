package format

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/limit"
)

// TypePatch is the media type of a patch (package delta).
const TypePatch = "application/vnd.plinth.patch.v1"

// Delta describes a file that contains only the parts of a new bundle that an
// older bundle does not have. It is not signed: the content that is rebuilt with
// it is verified against the index, which is signed.
type Delta struct {
	Base    digest.Digest `json:"base"`              // the older bundle
	Patches []Patch       `json:"patches,omitempty"` // how to create blobs from those of the base
}

// Patch describes how to create a new blob from a blob of the older bundle.
type Patch struct {
	Blob   digest.Digest      `json:"blob"`   // the new blob
	From   ocispec.Descriptor `json:"from"`   // the old blob
	Patch  ocispec.Descriptor `json:"patch"`  // the difference, a blob of the file
	Packed string             `json:"packed"` // how the new blob is compressed: PackedBetter
}

// PackedBetter is zstd compression as done by package distro/oci of this
// repository: klauspost/compress 1.18, level "better", one thread.
const PackedBetter = "zstd-better-1.18"

// JSON returns the content of DeltaEntry.
func (d Delta) JSON() ([]byte, error) {
	raw, err := json.MarshalIndent(d, "", "  ")
	return append(raw, '\n'), err
}

// ParseDelta returns the Delta in raw, the content of DeltaEntry. Unknown fields are errors.
func ParseDelta(raw []byte) (*Delta, error) {
	var d Delta
	if err := limit.CheckJSON(raw); err != nil {
		return nil, err
	}
	r := json.NewDecoder(bytes.NewReader(raw))
	r.DisallowUnknownFields()
	if err := r.Decode(&d); err != nil {
		return nil, err
	}
	errs := []error{blob.CheckDescriptor(ocispec.Descriptor{Digest: d.Base})}
	for _, p := range d.Patches {
		errs = append(errs, blob.CheckDescriptor(ocispec.Descriptor{Digest: p.Blob}), blob.CheckDescriptor(p.From), blob.CheckDescriptor(p.Patch))
	}
	return &d, errors.Join(errs...)
}
