package sbom

import (
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/plinthdev/plinth/airgap/format"
)

// Types of a statement: https://in-toto.io/Statement/v1 with the predicate
// https://slsa.dev/provenance/v1.
const (
	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://slsa.dev/provenance/v1"
	buildType     = "https://plinth.dev/build/payload/v1" // built from source with a recipe in distro/
	mirrorType    = "https://plinth.dev/build/mirror/v1"  // copied as its project published it
	builderID     = "https://plinth.dev/build"
)

// Statement describes how one image or host file was built.
type Statement struct {
	Type          string     `json:"_type"`
	Subject       []Resource `json:"subject"`
	PredicateType string     `json:"predicateType"`
	Predicate     Predicate  `json:"predicate"`
}

// Resource is a build input or output, with its digests.
type Resource struct {
	Name   string            `json:"name,omitempty"`
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest,omitempty"` // in-toto's DigestSet: sha256, or dirHash1 (Go's h1) in hex
}

// Predicate is the part of SLSA's provenance predicate that is known here.
type Predicate struct {
	Build struct {
		Type       string            `json:"buildType"`
		Parameters map[string]string `json:"externalParameters"`
		Resolved   []Resource        `json:"resolvedDependencies,omitempty"`
	} `json:"buildDefinition"`
	Run struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
	} `json:"runDetails"`
}

// NewStatement returns the provenance statement of a component.
func NewStatement(p Component) Statement {
	s := Statement{Type: statementType, PredicateType: predicateType,
		Subject: []Resource{{Name: p.Item.Name, Digest: map[string]string{"sha256": p.contentDigest().Encoded()}}}}
	b := &s.Predicate.Build
	b.Type, b.Parameters = mirrorType, map[string]string{"kind": string(p.Item.Kind), "name": p.Item.Name, "version": p.Item.Version}
	if recipe := p.Item.Manifest.Annotations[format.AnnotationModule]; recipe != "" {
		b.Type, b.Parameters["recipe"] = buildType, recipe
	}
	for _, u := range p.Upstreams {
		b.Resolved = append(b.Resolved, Resource{URI: PURL(u), Digest: digestSet(u.Sum)})
	}
	s.Predicate.Run.Builder.ID = builderID
	return s
}

// digestSet returns the checksum of an Upstream as an in-toto DigestSet, or nil if
// it has another format.
func digestSet(sum string) map[string]string {
	if h1, ok := strings.CutPrefix(sum, "h1:"); ok {
		if raw, err := base64.StdEncoding.DecodeString(h1); err == nil {
			return map[string]string{"dirHash1": hex.EncodeToString(raw)}
		}
	}
	if hex, ok := strings.CutPrefix(sum, "sha256:"); ok {
		return map[string]string{"sha256": hex}
	}
	return nil
}
