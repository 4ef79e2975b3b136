package bom

import (
	"encoding/json"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap/format"
)

// noAssertion says that nobody recorded it (SPDX 2.3, 7.7 and others).
const noAssertion = "NOASSERTION"

// Document is an SPDX 2.3 document, as far as it is used here
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

// Creation says who wrote the document and when.
type Creation struct {
	Created  string   `json:"created"` // RFC 3339
	Creators []string `json:"creators"`
}

// Package is an image, a host file, an executable, or a source of one.
type Package struct {
	ID            string     `json:"SPDXID"`
	Name          string     `json:"name"`
	Version       string     `json:"versionInfo,omitempty"`
	Purpose       string     `json:"primaryPackagePurpose,omitempty"`
	Download      string     `json:"downloadLocation"`
	Analyzed      bool       `json:"filesAnalyzed"`
	Checksums     []Checksum `json:"checksums,omitempty"`
	SourceInfo    string     `json:"sourceInfo,omitempty"` // what go.sum says
	Concluded     string     `json:"licenseConcluded"`
	Declared      string     `json:"licenseDeclared"`
	Copyright     string     `json:"copyrightText"`
	ExternalNames []External `json:"externalRefs,omitempty"`
}

// Checksum is a package's.
type Checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"` // hex
}

// External names a package as others do: a package URL.
type External struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

// Relationship joins two elements.
type Relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

// writer puts a document together; each source is one package, however many
// executables have it.
type writer struct {
	doc     Document
	sources map[Upstream]string // IDs; without licence
	known   map[string]string   // licences by module@version
}

// SPDX describes parts of the bundle name. The same parts give the same document:
// created is the time it bears.
func SPDX(name string, parts []Part, created time.Time) (Document, error) {
	w := writer{sources: map[Upstream]string{}, known: map[string]string{}, doc: Document{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: name,
		Created: Creation{created.UTC().Format(time.RFC3339), []string{"Tool: plinth"}}}}
	for _, p := range parts {
		for _, u := range p.Upstreams {
			w.known[u.Module+"@"+u.Version] = u.Licence
		}
	}
	for _, p := range parts {
		w.part(p)
	}
	raw, err := json.Marshal(w.doc)
	w.doc.Namespace = "https://plinth.dev/spdx/" + name + "/" + digest.FromBytes(raw).Encoded()
	return w.doc, err
}

// add gives a package its ID and what is the same for all.
func (w *writer) add(p Package) string {
	p.ID = "SPDXRef-" + strconv.Itoa(len(w.doc.Packages)+1)
	p.Download, p.Concluded, p.Copyright = noAssertion, noAssertion, noAssertion
	w.doc.Packages = append(w.doc.Packages, p)
	return p.ID
}

func (w *writer) relate(element, kind, related string) {
	w.doc.Relationships = append(w.doc.Relationships, Relationship{element, kind, related})
}

func (w *writer) part(p Part) {
	purpose := "CONTAINER"
	if p.Item.Kind == format.KindHost {
		purpose = "APPLICATION"
	}
	id := w.add(Package{Name: p.Item.Name, Version: p.Item.Version, Purpose: purpose, Declared: p.licences(), Checksums: checksum(p.digest())})
	w.relate(w.doc.ID, "DESCRIBES", id)
	for _, u := range p.Upstreams {
		w.relate(id, "GENERATED_FROM", w.source(u))
	}
	for _, e := range p.Executables {
		w.executable(id, p, e)
	}
}

// executable adds a program, and its modules as its build information names them.
func (w *writer) executable(of string, p Part, e Executable) {
	id := of
	if p.Item.Kind == format.KindImage {
		main := p.main(e.Info)
		id = w.add(Package{Name: e.Path, Version: main.Version, Purpose: "APPLICATION", Declared: orNone(w.known[main.Path+"@"+main.Version]), Checksums: checksum(e.Digest)})
		w.relate(of, "CONTAINS", id)
	}
	w.relate(id, "DEPENDS_ON", w.source(Upstream{Module: "stdlib", Version: strings.TrimPrefix(e.Info.GoVersion, "go")}))
	for _, m := range modules(e.Info) {
		if m.Path == e.Info.Main.Path {
			m = p.main(e.Info)
		}
		w.relate(id, "DEPENDS_ON", w.source(Upstream{Module: m.Path, Version: m.Version, Sum: m.Sum}))
	}
}

// main is a program's own module. One that was built in its own folder does
// not know its version; who built it does.
func (p Part) main(info *debug.BuildInfo) debug.Module {
	m := info.Main
	for _, u := range p.Upstreams {
		if u.Module == m.Path && m.Version == "(devel)" {
			m.Version, m.Sum = u.Version, u.Sum
		}
	}
	return m
}

// modules lists what a program was built from, its own module first, each as
// it was replaced.
func modules(info *debug.BuildInfo) (all []debug.Module) {
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

// source gives the ID of the package of a source.
func (w *writer) source(u Upstream) string {
	licence := u.Licence
	if licence == "" {
		licence = w.known[u.Module+"@"+u.Version]
	}
	u.Licence = ""
	if id, ok := w.sources[u]; ok {
		return id
	}
	p := Package{Name: u.Module, Version: u.Version, Purpose: "SOURCE", Declared: orNone(licence), ExternalNames: []External{{"PACKAGE-MANAGER", "purl", PURL(u)}}}
	if hex, ok := strings.CutPrefix(u.Sum, "sha256:"); ok {
		p.Checksums = []Checksum{{"SHA256", hex}}
	} else if u.Sum != "" {
		p.SourceInfo = "go.sum " + u.Sum
	}
	w.sources[u] = w.add(p)
	return w.sources[u]
}

// PURL is the package URL of a source (https://github.com/package-url/purl-spec).
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

func checksum(d digest.Digest) []Checksum { return []Checksum{{"SHA256", d.Encoded()}} }

func orNone(licence string) string {
	if licence == "" {
		return noAssertion
	}
	return licence
}
