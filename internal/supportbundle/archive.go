package supportbundle

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
)

// Files at the root of a bundle.
const (
	versionFile    = "version.yaml"
	manifestFile   = "redactions.json"
	leftOutFile    = "left-out.json"
	layoutVersion  = "v0.133.0" // of troubleshoot.sh, whose layout this is
	maxListedLines = 200        // of one file and rule in the manifest
)

// version is the file by which troubleshoot.sh recognizes a bundle (v0.133.0, pkg/version.GetVersionFile).
const version = "apiVersion: troubleshoot.sh/v1beta2\nkind: SupportBundle\nspec:\n  versionNumber: " + layoutVersion + "\n"

// Options describe a bundle.
type Options struct {
	Root       string    // folder in the archive
	Time       time.Time // of all files
	Limit      int64     // bytes of content at most; what does not fit is cut or left out
	Redactor   *Redactor
	Recipients []age.Recipient // who can decrypt it; none for a bundle that is not encrypted
}

// Writer writes one support bundle. It is not safe for concurrent use.
type Writer struct {
	o       Options
	tar     *tar.Writer
	closers []io.Closer // from the inside out
	left    int64
	names   map[string]bool
	hits    []Redaction
	leftOut []LeftOut
	err     error
}

// Redaction is what was removed from one file by one rule. The manifest of a bundle lists them; it has no values.
type Redaction struct {
	File  string `json:"file"`
	Rule  string `json:"rule"`
	Count int    `json:"count"`
	Lines []int  `json:"lines"` // line numbers, from 1; at most 200
}

// LeftOut is what is not in the bundle, or not complete.
type LeftOut struct {
	File     string `json:"file"`
	Reason   string `json:"reason"`
	Expected bool   `json:"expected,omitempty"` // it is left out of every bundle: this one is complete without it
}

// Summary describes a finished bundle.
type Summary struct {
	Files    int       `json:"files"`
	Redacted int       `json:"redacted"` // number of secrets that were removed
	LeftOut  []LeftOut `json:"leftOut,omitempty"`
}

// NewWriter starts a bundle on w.
func NewWriter(w io.Writer, o Options) (*Writer, error) {
	b := &Writer{o: o, left: o.Limit, names: map[string]bool{}}
	if len(o.Recipients) > 0 {
		encrypted, err := age.Encrypt(w, o.Recipients...)
		if err != nil {
			return nil, err
		}
		b.closers = append(b.closers, encrypted)
		w = encrypted
	}
	packed, err := gzip.NewWriterLevel(w, gzip.BestSpeed) // a bundle is made on a host that has a problem
	if err != nil {
		return nil, err
	}
	b.tar = tar.NewWriter(packed)
	b.closers = append([]io.Closer{b.tar, packed}, b.closers...)
	b.write(versionFile, []byte(version))
	return b, b.err
}

// Add adds a file without its secrets. If it does not fit any more, the beginning of it is left out, because the end of a
// log is the newest part. What is not text, in which secrets cannot be found, is left out. A name that exists is an error.
func (b *Writer) Add(name string, content []byte) { b.add(name, content, b.fit) }

// AddAlways is Add for a small file that is in the bundle even if its limit is reached.
func (b *Writer) AddAlways(name string, content []byte) {
	b.add(name, content, func(_ string, content []byte) ([]byte, bool) { return content, true })
}

func (b *Writer) add(name string, content []byte, fit func(name string, content []byte) ([]byte, bool)) {
	if b.err != nil {
		return
	}
	name = path.Clean(strings.TrimLeft(name, "/"))
	if b.names[name] || strings.HasPrefix(name, "..") {
		b.err = fmt.Errorf("the bundle has %s twice, or it is not a name", name)
		return
	}
	if reason := unsearchableReason(content); reason != "" {
		b.LeaveOut(name, reason)
		return
	}
	content = b.o.Redactor.Redact(name, content)
	if b.o.Redactor.Contains(content) { // what was decoded and encoded again may have another form
		content = []byte(b.o.Redactor.replaceKnown(string(content)))
	}
	if cut, ok := fit(name, content); ok {
		b.recordMarks(name, cut)
		b.write(name, cut)
	}
}

// fit returns the part of content that fits, and false if none does.
func (b *Writer) fit(name string, content []byte) ([]byte, bool) {
	over := int64(len(content)) - b.left
	if over <= 0 {
		return content, true
	}
	if strings.HasSuffix(name, ".json") || b.left < 4096 {
		b.LeaveOut(name, "the bundle has reached its size limit")
		return nil, false
	}
	content = content[over:]
	if end := bytes.IndexByte(content, '\n'); end >= 0 {
		content = content[end+1:]
	}
	b.LeaveOut(name, "its beginning is left out: the bundle has reached its size limit")
	return content, true
}

// LeaveOut records that a file is not in the bundle, or not complete.
func (b *Writer) LeaveOut(name, reason string) { b.RecordLeftOut(LeftOut{File: name, Reason: reason}) }

// RecordLeftOut is LeaveOut with all that is known.
func (b *Writer) RecordLeftOut(l LeftOut) {
	l.Reason = string(b.o.Redactor.Redact(leftOutFile, []byte(l.Reason)))
	b.leftOut = append(b.leftOut, l)
}

// Has reports whether the bundle has a file with a name.
func (b *Writer) Has(name string) bool { return b.names[path.Clean(strings.TrimLeft(name, "/"))] }

// recordMarks adds the marks in content to the manifest.
func (b *Writer) recordMarks(name string, content []byte) {
	content = bytes.ReplaceAll(content, []byte(binaryMark), []byte(mark(ruleBinaryData)))
	if !bytes.Contains(content, []byte(markBegin)) {
		return
	}
	byRule := map[string]*Redaction{}
	var order []string
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, len(content)+1)
	for number := 1; lines.Scan(); number++ {
		if !bytes.Contains(lines.Bytes(), []byte(markBegin)) {
			continue
		}
		for _, m := range anyMark.FindAllSubmatch(lines.Bytes(), -1) {
			rule := string(m[1])
			r := byRule[rule]
			if r == nil {
				r = &Redaction{File: name, Rule: rule}
				byRule[rule], order = r, append(order, rule)
			}
			r.Count++
			if len(r.Lines) < maxListedLines && !slices.Contains(r.Lines, number) {
				r.Lines = append(r.Lines, number)
			}
		}
	}
	for _, rule := range order {
		b.hits = append(b.hits, *byRule[rule])
	}
}

// write adds a file as it is.
func (b *Writer) write(name string, content []byte) {
	if b.err != nil {
		return
	}
	b.names[name] = true
	b.left -= int64(len(content))
	b.err = b.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: b.o.Root + "/" + name, Mode: 0o600, Size: int64(len(content)), ModTime: b.o.Time})
	if b.err == nil {
		_, b.err = b.tar.Write(content)
	}
}

// Close adds the manifest of what was removed and the list of what is left out, and ends the bundle. It must be called
// once.
func (b *Writer) Close() (Summary, error) {
	s := Summary{Files: len(b.names), LeftOut: b.leftOut}
	for _, h := range b.hits {
		s.Redacted += h.Count
	}
	slices.SortFunc(b.hits, func(x, y Redaction) int {
		return cmp.Or(strings.Compare(x.File, y.File), strings.Compare(x.Rule, y.Rule))
	})
	for name, list := range map[string]any{manifestFile: b.hits, leftOutFile: b.leftOut} {
		raw, err := encodeJSON(list, "  ")
		b.err = errors.Join(b.err, err)
		b.write(name, raw)
	}
	for _, c := range b.closers {
		b.err = errors.Join(b.err, c.Close())
	}
	return s, b.err
}
