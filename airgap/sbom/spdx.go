package sbom

import (
	"encoding/json"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap/format"
)

// noAssertion is the value of a field that is unknown (SPDX 2.3, section 7.7 and
// others).
const noAssertion = "NOASSERTION"

// Document is an SPDX 2.3 document with the fields that are used here
// (https://spdx.github.io/spdx-spec/v2.3/).
type Document struct {
	Version       string         `json:"spdxVersion"`
	License       string         `json:"dataLicense"`
	ID            string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	Created       Creation       `json:"creationInfo"`
	Packages      []Package      `json:"packages"`
	Relationships []Relationship `json:"relationships"`
}

// Creation is the time and the tool with which a document was created.
type Creation struct {
	Created  string   `json:"created"` // RFC 3339
	Creators []string `json:"creators"`
}

// Package is an image, a host file, an executable, or a source of one of them.
type Package struct {
	ID           string        `json:"SPDXID"`
	Name         string        `json:"name"`
	Version      string        `json:"versionInfo,omitempty"`
	Purpose      string        `json:"primaryPackagePurpose,omitempty"`
	Download     string        `json:"downloadLocation"`
	Analyzed     bool          `json:"filesAnalyzed"`
	Checksums    []Checksum    `json:"checksums,omitempty"`
	SourceInfo   string        `json:"sourceInfo,omitempty"` // "go.sum " and the module's hash
	Comment      string        `json:"comment,omitempty"`    // what an item of another version than its name says was built from
	Concluded    string        `json:"licenseConcluded"`
	Declared     string        `json:"licenseDeclared"`
	Copyright    string        `json:"copyrightText"`
	ExternalRefs []ExternalRef `json:"externalRefs,omitempty"`
}

// Checksum is the checksum of a package.
type Checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"` // hex
}

// ExternalRef is an identifier of a package in another system: a package URL.
type ExternalRef struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

// Relationship is a relation between two elements of a document.
type Relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

// documentBuilder builds a document. A source becomes one package, even if many
// executables contain it.
type documentBuilder struct {
	doc       Document
	sourceIDs map[Upstream]string // package IDs; the keys have no license
	licenses  map[string]string   // SPDX expressions by module@version
}

// NewDocument returns the SPDX document of the bundle name with these components.
// created becomes the document's creation time, so the same arguments always give
// the same document.
func NewDocument(name string, parts []Component, created time.Time) (Document, error) {
	w := documentBuilder{sourceIDs: map[Upstream]string{}, licenses: map[string]string{}, doc: Document{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: name,
		Created: Creation{created.UTC().Format(time.RFC3339), []string{"Tool: plinth"}}}}
	for _, p := range parts {
		for _, u := range p.Upstreams {
			w.licenses[u.Module+"@"+u.Version] = u.License
		}
	}
	for _, p := range parts {
		w.addComponent(p)
	}
	raw, err := json.Marshal(w.doc)
	w.doc.Namespace = "https://plinth.dev/spdx/" + name + "/" + digest.FromBytes(raw).Encoded()
	return w.doc, err
}

// addPackage adds a package, sets its ID and the fields that are equal for all
// packages, and returns the ID.
func (w *documentBuilder) addPackage(p Package) string {
	p.ID = "SPDXRef-" + strconv.Itoa(len(w.doc.Packages)+1)
	p.Download, p.Concluded, p.Copyright = noAssertion, noAssertion, noAssertion
	w.doc.Packages = append(w.doc.Packages, p)
	return p.ID
}

func (w *documentBuilder) addRelationship(element, kind, related string) {
	w.doc.Relationships = append(w.doc.Relationships, Relationship{element, kind, related})
}

// addComponent adds the packages of a component: itself, its sources and its
// executables.
func (w *documentBuilder) addComponent(p Component) {
	purpose := "CONTAINER"
	if p.Item.Kind == format.KindHost {
		purpose = "APPLICATION"
	}
	comment := ""
	if built := p.Item.StandIn(); built != "" {
		comment = "stand-in, built from " + built
	}
	id := w.addPackage(Package{Name: p.Item.Name, Version: p.Item.Version, Comment: comment, Purpose: purpose, Declared: p.declaredLicense(), Checksums: sha256Checksums(p.contentDigest())})
	w.addRelationship(w.doc.ID, "DESCRIBES", id)
	for _, u := range p.Upstreams {
		w.addRelationship(id, "GENERATED_FROM", w.addSource(u))
	}
	for _, e := range p.Executables {
		w.addExecutable(id, p, e)
	}
}

// addExecutable adds an executable of component p, whose package ID is of, and the
// modules in the executable's build information.
func (w *documentBuilder) addExecutable(of string, p Component, e Executable) {
	id := of
	if p.Item.Kind == format.KindImage {
		main := p.mainModule(e.Info)
		id = w.addPackage(Package{Name: e.Path, Version: main.Version, Purpose: "APPLICATION", Declared: orNoAssertion(w.licenses[main.Path+"@"+main.Version]), Checksums: sha256Checksums(e.Digest)})
		w.addRelationship(of, "CONTAINS", id)
	}
	w.addRelationship(id, "DEPENDS_ON", w.addSource(Upstream{Module: "stdlib", Version: strings.TrimPrefix(e.Info.GoVersion, "go")}))
	for _, m := range buildModules(e.Info) {
		if m.Path == e.Info.Main.Path {
			m = p.mainModule(e.Info)
		}
		w.addRelationship(id, "DEPENDS_ON", w.addSource(Upstream{Module: m.Path, Version: m.Version, Sum: m.Sum}))
	}
}

// mainModule returns the main module of an executable. The build information of a
// program that was built in its source folder has no version; the version then
// comes from the component's sources.
func (p Component) mainModule(info *debug.BuildInfo) debug.Module {
	m := info.Main
	for _, u := range p.Upstreams {
		if u.Module == m.Path && m.Version == "(devel)" {
			m.Version, m.Sum = u.Version, u.Sum
		}
	}
	return m
}

// buildModules returns the modules that a program was built from, with
// replacements applied; its main module is first.
func buildModules(info *debug.BuildInfo) (all []debug.Module) {
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		for m.Replace != nil {
			m = m.Replace
		}
		if m.Path != "" {
			all = append(all, *m)
		}
	}
	return all
}

// addSource returns the ID of the package of a source, and adds the package if it
// is new.
func (w *documentBuilder) addSource(u Upstream) string {
	license := u.License
	if license == "" {
		license = w.licenses[u.Module+"@"+u.Version]
	}
	u.License = ""
	if id, ok := w.sourceIDs[u]; ok {
		return id
	}
	p := Package{Name: u.Module, Version: u.Version, Purpose: "SOURCE", Declared: orNoAssertion(license), ExternalRefs: []ExternalRef{{"PACKAGE-MANAGER", "purl", PURL(u)}}}
	if hex, ok := strings.CutPrefix(u.Sum, "sha256:"); ok {
		p.Checksums = []Checksum{{"SHA256", hex}}
	} else if u.Sum != "" {
		p.SourceInfo = "go.sum " + u.Sum
	}
	w.sourceIDs[u] = w.addPackage(p)
	return w.sourceIDs[u]
}

// PURL returns the package URL of a source
// (https://github.com/package-url/purl-spec).
func PURL(u Upstream) string {
	version := strings.NewReplacer("+", "%2B", "~", "~", ":", "%3A").Replace(u.Version)
	if deb, ok := strings.CutPrefix(u.Module, "deb:"); ok {
		return "pkg:deb/debian/" + strings.ReplaceAll(deb, "+", "%2B") + "@" + version
	}
	purl := "pkg:golang/" + u.Module
	if version != "" {
		purl += "@" + version
	}
	return purl
}

func sha256Checksums(d digest.Digest) []Checksum { return []Checksum{{"SHA256", d.Encoded()}} }

func orNoAssertion(license string) string {
	if license == "" {
		return noAssertion
	}
	return license
}
