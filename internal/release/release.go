// Package release reads the Application manifests in a release as KOTS does: where a
// document ends, which document is an Application, in which order files are taken, and
// how values are decoded. The rules are those of KOTS 1.131.2 (ConvertToSingleDocs in
// pkg/util, FindKotsAppInPath in pkg/kotsutil, findAppInRelease in pkg/upstream).
package release

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v2"
)

// The type of KOTS's Application manifest.
const (
	APIVersion = "kots.io/v1beta1"
	Kind       = "Application"
)

// Document is one document of a file.
type Document struct {
	Line int // number of lines of the file before it
	Text []byte
}

// separator matches a line, without its end, at which KOTS ends a document. It differs
// from YAML: "---# x" is one, and "--- x" is none.
var separator = regexp.MustCompile(`^---[ \t]*(#.*)?$`)

// Split returns the documents of a file without their separators, except those of only
// white space. Of each document KOTS reads what YAML takes for the first one.
func Split(data []byte) []Document {
	var docs []Document
	add := func(line int, text []byte) {
		if len(bytes.TrimSpace(text)) > 0 {
			docs = append(docs, Document{line, text})
		}
	}
	start, first, at := 0, 0, 0
	for line := 0; at < len(data); line++ {
		length := bytes.IndexByte(data[at:], '\n') + 1
		if length == 0 {
			break // a separator ends with a line break
		}
		// A separator follows a line of the document that it ends.
		if at > start && isSeparator(data[at:at+length]) {
			add(first, data[start:at])
			start, first = at+length, line+1
		}
		at += length
	}
	add(first, data[start:])
	return docs
}

// isSeparator reports whether line, which ends with a line feed, separates documents.
func isSeparator(line []byte) bool {
	if !bytes.HasPrefix(line, []byte("---")) {
		return false
	}
	line, windows := bytes.CutSuffix(line, []byte("\r\n"))
	if !windows {
		line = line[:len(line)-1]
	}
	return separator.Match(line)
}

// Join returns a file with these documents, which Split divides again.
func Join(docs []Document) []byte {
	var all []byte
	for i, d := range docs {
		if i > 0 {
			all = append(all, "---\n"...)
		}
		all = append(all, d.Text...)
		if !bytes.HasSuffix(all, []byte("\n")) {
			all = append(all, '\n')
		}
	}
	return all
}

// ComparePaths compares two slash-separated paths in the order in which KOTS walks a
// folder, which compares one name after the other: a/b comes before a-b/b.
func ComparePaths(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}

// MentionsApplication reports whether doc has the words that an Application has. It is
// fast, and false only for documents that IsApplication rejects, unless they escape
// letters of these words.
func MentionsApplication(doc []byte) bool {
	return bytes.Contains(doc, []byte(Kind)) &&
		(bytes.Contains(doc, []byte(APIVersion)) || bytes.Contains(doc, []byte(`kots.io\/v1beta1`)))
}

// IsApplication reports whether KOTS takes doc for an Application. It may be one that
// KOTS cannot decode.
func IsApplication(doc []byte) bool {
	var head struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string `yaml:"kind"`
	}
	return unmarshal(doc, &head) == nil && head.APIVersion == APIVersion && head.Kind == Kind
}

// SameContent reports whether two files have the same Applications, whatever their
// comments, spaces and other documents are.
func SameContent(a, b []byte) bool {
	x, y := values(a), values(b)
	return bytes.Equal(a, b) || len(x) > 0 && reflect.DeepEqual(x, y)
}

// values returns all values of each Application in a file.
func values(file []byte) (all []any) {
	for _, doc := range Split(file) {
		var v any
		if IsApplication(doc.Text) && unmarshal(doc.Text, &v) == nil {
			all = append(all, v)
		}
	}
	return all
}

// unmarshal decodes the first YAML document in doc with the library of KOTS: the last of
// repeated keys counts, a merge key replaces the keys before it, and yes is true. A field
// of another type is not an error.
func unmarshal(doc []byte, into any) error {
	if json.Valid(doc) { // KOTS tries JSON first; YAML of this library does not know its "\/"
		var v any
		if err := json.Unmarshal(doc, &v); err != nil {
			return err
		}
		doc, _ = json.Marshal(v)
	}
	err := yaml.Unmarshal(doc, into)
	var types *yaml.TypeError
	if errors.As(err, &types) {
		return nil
	}
	return err
}
