package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

const (
	maxSize     = 1 << 20 // bytes of a manifest
	maxDepth    = 40      // levels of nesting
	maxFindings = 200     // findings reported per file
)

// Reader reads one manifest and collects its findings. Use one Reader per document.
type Reader struct {
	file        string
	lineOffset  int // number of lines of the file before this document
	rules       []Rule
	findings    []Finding
	nodes       map[string]*yaml.Node // the value at each path that was decoded
	failedPaths map[string]bool       // paths with an error
	unsafe      bool                  // the document must not be decoded by the YAML library
}

// NewReader returns a Reader for the file with a name. rules gives the severity of
// each rule; findings of other rules are errors.
func NewReader(file string, rules []Rule) *Reader {
	return &Reader{file: file, rules: rules, nodes: map[string]*yaml.Node{}, failedPaths: map[string]bool{}}
}

// WithLineOffset sets the number of lines before the document in its file, and
// returns r.
func (r *Reader) WithLineOffset(lines int) *Reader {
	r.lineOffset = lines
	return r
}

// Report adds a finding at n, or at the start of the file if n is nil. The id of
// the rule is the part of rule before a slash.
func (r *Reader) Report(rule, path string, n *yaml.Node, message, hint string) {
	f := Finding{File: r.file, Line: 1, Column: 1, Field: path, Severity: Error, Message: message, Hint: hint}
	if n != nil && n.Line > 0 {
		f.Line, f.Column = n.Line+r.lineOffset, n.Column
	}
	f.Rule, _, _ = strings.Cut(rule, "/")
	if len(r.findings) > maxFindings {
		return
	}
	if len(r.findings) == maxFindings {
		f.Rule, f.Field, f.Message, f.Hint = "too-many", "", "there are more findings", "correct the reported ones first"
	}
	if i := slices.IndexFunc(r.rules, func(known Rule) bool { return known.ID == f.Rule }); i >= 0 {
		f.Severity = r.rules[i].Severity
	}
	r.failedPaths[path] = r.failedPaths[path] || f.Severity == Error
	r.findings = append(r.findings, f)
}

// repeats reports whether all findings of a rule at one place are shown.
func (r *Reader) repeats(id string) bool {
	return slices.ContainsFunc(r.rules, func(known Rule) bool { return known.ID == id && known.Repeats })
}

// Findings returns the reported findings, sorted and without duplicates: at each place the first of a rule, unless it
// repeats.
func (r *Reader) Findings() []Finding {
	return slices.CompactFunc(SortFindings(slices.Clone(r.findings)), func(a, b Finding) bool {
		return a.Line == b.Line && a.Column == b.Column && a.Rule == b.Rule && a.Field == b.Field && (a.Message == b.Message || !r.repeats(a.Rule))
	})
}

// HasError reports whether an error was reported for path.
func (r *Reader) HasError(path string) bool { return r.failedPaths[path] }

// NodeAt returns the value at the first of paths that is in the file, nil if none
// is.
func (r *Reader) NodeAt(paths ...string) *yaml.Node {
	for _, path := range paths {
		if n := r.nodes[path]; n != nil {
			return n
		}
	}
	return nil
}

// CheckText returns data without a byte order mark. It reports data that is too
// large or not UTF-8 text, and then returns false.
func (r *Reader) CheckText(data []byte) ([]byte, bool) {
	if len(data) > maxSize {
		r.Report("file-too-large", "", nil, fmt.Sprintf("has more than the %d bytes that are allowed", maxSize), "check that this is the right file")
		return nil, false
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	at := yaml.Node{Line: 1, Column: 1}
	for rest := data; len(rest) > 0; {
		c, size := utf8.DecodeRune(rest)
		switch {
		case c == utf8.RuneError && size == 1:
			r.Report("not-text", "", &at, fmt.Sprintf("byte 0x%02x is not UTF-8", rest[0]), "save the file as UTF-8 text")
			return nil, false
		case c == '\n':
			at.Line, at.Column = at.Line+1, 0
		case unicode.IsControl(c) && c != '\r' && c != '\t' && c != 0x85:
			r.Report("not-text", "", &at, fmt.Sprintf("contains the control character %U", c), "check that this is the right file")
			return nil, false
		}
		at.Column++
		rest = rest[size:]
	}
	return data, true
}

// ParseDocuments returns the roots of the YAML documents in data, without empty
// documents. It reports a syntax error and returns the documents before it.
func (r *Reader) ParseDocuments(data []byte) []*yaml.Node {
	var roots []*yaml.Node
	for dec := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return roots
		}
		if err != nil {
			r.ReportSyntaxError(data, err)
			return roots
		}
		if root := doc.Content[0]; root.ShortTag() != "!!null" {
			roots = append(roots, root)
		}
	}
}

// ReportSyntaxError reports an error of the YAML library, "yaml: line 3: words", for
// data at the line that the user has to fix.
func (r *Reader) ReportSyntaxError(data []byte, err error) {
	at, words := yaml.Node{Line: 1, Column: 1}, strings.TrimPrefix(err.Error(), "yaml: ")
	if number, rest, ok := strings.Cut(strings.TrimPrefix(words, "line "), ": "); ok {
		if line, err := strconv.Atoi(number); err == nil {
			at.Line, words = line, rest
			if isParserError(words) {
				at.Line++ // the library counts lines from one in its scanner, from zero in its parser
			}
		}
	}
	hint := ""
	switch {
	case strings.Contains(words, "mapping values are not allowed"), strings.Contains(words, "did not find expected key"):
		hint = "check the indentation of this and the previous lines; quote text that contains a colon"
	case strings.Contains(words, "cannot start any token"):
		hint = "quote text that begins with @, `, %, > or |"
	case strings.Contains(words, "did not find expected comment or line break"): // in the header of a block scalar
		hint = "quote text that begins with > or |"
	case strings.Contains(words, "found incompatible YAML document"):
		hint = "remove the line %YAML: plinth reads YAML 1.1, as KOTS does"
	}
	lines := bytes.Split(data, []byte("\n"))
	for _, n := range []int{at.Line, at.Line + 1} { // the library can report wrong indentation one line early
		if n < 1 || n > len(lines) {
			continue
		}
		line := string(lines[n-1])
		if indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]; strings.Contains(indent, "\t") {
			at.Line, at.Column, hint = n, strings.Index(indent, "\t")+1, "this line is indented with a tab; YAML allows only spaces"
			break
		}
	}
	r.Report("yaml-syntax", "", &at, words, hint)
}

// isParserError reports whether words are an error of the library's parser and not
// of its scanner.
func isParserError(words string) bool {
	expected, ok := strings.CutPrefix(words, "did not find expected ")
	return ok && slices.ContainsFunc([]string{"key", "node content", "',' or ", "'-' indicator", "<document start>"}, func(s string) bool {
		return strings.HasPrefix(expected, s)
	})
}

// CheckStructure reports anchors, too deep nesting and duplicate keys in root and,
// if strict is true, values that JSON cannot represent.
func (r *Reader) CheckStructure(root *yaml.Node, strict bool) { r.checkNode("", root, 0, strict) }

// checkNode checks n and everything below it. Unless it sets r.unsafe, the time and
// memory to decode n are bounded by its size.
func (r *Reader) checkNode(path string, n *yaml.Node, depth int, strict bool) {
	r.unsafe = r.unsafe || n.Anchor != "" || n.Kind == yaml.AliasNode
	if n.Anchor != "" { // without an anchor there is no alias either
		r.Report("no-anchors", path, n, "uses an anchor, which YAML parsers can read differently", "repeat the value where it is used")
	}
	if depth > maxDepth {
		r.unsafe = true
		r.Report("too-deep", path, n, fmt.Sprintf("is nested more than %d levels deep", maxDepth), "")
		return
	}
	switch n.Kind {
	case yaml.MappingNode:
		r.checkMapping(path, n, depth, strict)
	case yaml.SequenceNode:
		for i, item := range n.Content {
			r.checkNode(fmt.Sprintf("%s[%d]", path, i), item, depth+1, strict)
		}
	case yaml.ScalarNode:
		if strict && !isJSONScalar(n) {
			r.unsafe = true
			r.Report("wrong-type", path, n, "must be text, a finite number, true, false or null, found "+DescribeNode(n), "quote it")
		}
	}
}

// checkMapping checks the keys and values of mapping n.
func (r *Reader) checkMapping(path string, n *yaml.Node, depth int, strict bool) {
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := JoinPath(path, key.Value)
		switch {
		case key.ShortTag() == "!!merge":
			r.unsafe = true
			r.Report("no-anchors", at, key, "is a merge key, which YAML parsers read differently", "repeat the values")
		case strict && key.ShortTag() != "!!str":
			r.unsafe = true
			r.Report("wrong-type", at, key, "a key must be text, found "+DescribeNode(key), "quote it")
		}
		id := key.ShortTag() + key.Value
		if line, again := first[id]; again && key.Kind == yaml.ScalarNode {
			r.unsafe = true
			r.Report("duplicate-key", at, key, fmt.Sprintf("is already set on line %d", line+r.lineOffset), "remove one of the two")
		}
		first[id] = key.Line
		if key.Kind != yaml.ScalarNode || key.Anchor != "" {
			r.checkNode(at, key, depth+1, false)
		}
		r.checkNode(at, value, depth+1, strict)
	}
}

// isJSONScalar reports whether JSON can represent the value of scalar n.
func isJSONScalar(n *yaml.Node) bool {
	switch n.ShortTag() {
	case "!!str", "!!int", "!!bool", "!!null":
		return true
	case "!!float":
		var f float64
		return n.Decode(&f) == nil && !math.IsInf(f, 0) && !math.IsNaN(f)
	}
	return false
}

// DescribeNode returns the type of n in words: "a mapping", "text".
func DescribeNode(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch tag := n.ShortTag(); tag {
	case "!!str":
		return "text"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!null":
		return "nothing"
	case "!!timestamp":
		return "a date"
	default:
		return "the tag " + QuoteValue(tag)
	}
}

// JoinPath appends key to path. It quotes and truncates a key that is not a plain
// word.
func JoinPath(path, key string) string {
	if key == "" || len(key) > 64 || strings.ContainsFunc(key, func(c rune) bool {
		return !unicode.IsLetter(c) && !unicode.IsDigit(c) && !strings.ContainsRune("-_./", c)
	}) {
		key = QuoteValue(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// QuoteValue returns value quoted for a message. It hides a value that can contain
// a password in a URL or in the query of one, and truncates a long value.
func QuoteValue(value string) string {
	if _, rest, isURL := strings.Cut(value, "://"); strings.Contains(value, "@") || isURL && strings.ContainsAny(rest, "?#") {
		return "(hidden, it may contain a password)"
	}
	if r := []rune(value); len(r) > 60 {
		value = string(r[:60]) + "…"
	}
	return strconv.Quote(value)
}

// ChildOrItem is like Child, but name can also select an item of a list, as in
// "collectors[0]"; then both results are the item.
func ChildOrItem(n *yaml.Node, name string) (key, value *yaml.Node) {
	name, index, _ := strings.Cut(name, "[")
	key, value = Child(n, name)
	i, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
	if key != nil && err == nil && value.Kind == yaml.SequenceNode && i >= 0 && i < len(value.Content) {
		return value.Content[i], value.Content[i]
	}
	return key, value
}

// Child returns the first key called name of mapping n and its value, or nil if
// there is none.
func Child(n *yaml.Node, name string) (key, value *yaml.Node) {
	for i := 0; n != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}
