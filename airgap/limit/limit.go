// Package limit has the bounds of what is read from a bundle, a delta, an
// executable or a server before its origin is verified. They keep memory below
// 300 MB, and time linear in the input, whatever sizes and counts it declares
// (docs/reference/bundle-format.md lists them).
package limit

import (
	"encoding/json"
	"fmt"
)

// Sizes in bytes.
const (
	Document  = 4 << 20   // an index, a manifest, a config, delta.json, an Installer, an Application, a chart, a packed SBOM, a provenance
	Head      = 32 << 20  // a thin bundle from a server; what precedes the layers in a pipe
	Manifests = 16 << 20  // all manifests of an index together, and all configs of its images; one that is listed twice counts twice
	Blob      = 1 << 40   // one blob, packed and unpacked: sums of Blobs such sizes do not overflow
	SBOM      = 16 << 20  // an unpacked SBOM
	Window    = 128 << 20 // the window of a zstd stream
	Download  = 1 << 30   // a program of k0s or KOTS on a release page, packed, of which only the digest is known
	Program   = 1 << 30   // an executable of Plinth without a bundle
	Signature = 128       // a signature in DER
	Record    = 64 << 10  // the record at the end of an executable
	Response  = 1 << 20   // what a registry answers before it sends a blob
)

// Counts.
const (
	Blobs    = 1 << 16 // blobs of a bundle, and blobs that its items reference
	Values   = 1 << 17 // values in one JSON document
	Findings = 100     // problems that are listed for one bundle
)

// A delta unpacks and rebuilds at most DeltaFactor times the size of the older
// bundle's file plus DeltaMargin bytes.
const (
	DeltaFactor = 16
	DeltaMargin = 64 << 20
)

// Budget is how many bytes may still be used.
type Budget int64

// Take takes n bytes from the budget. It reports whether they were left, and
// otherwise takes nothing. n comes from an untrusted file: it may be any number.
func (b *Budget) Take(n int64) bool {
	if n < 0 || n > int64(*b) {
		return false
	}
	*b -= Budget(n)
	return true
}

// CheckJSON returns an error if a JSON document has more than Values values. A
// value of two bytes can take a hundred times as much memory once it is parsed.
func CheckJSON(raw []byte) error {
	values, quoted, escaped := 0, false, false
	for _, c := range raw {
		switch {
		case escaped:
			escaped = false
		case quoted:
			quoted, escaped = c != '"', c == '\\'
		case c == '"':
			quoted = true
		case c == ',' || c == '{' || c == '[':
			values++
		}
	}
	if values > Values {
		return fmt.Errorf("it has more than %d values", Values)
	}
	return nil
}

// UnmarshalJSON is json.Unmarshal for an untrusted document; see CheckJSON.
func UnmarshalJSON(raw []byte, into any) error {
	if err := CheckJSON(raw); err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}
