// Package supportbundle writes support bundles in the layout of troubleshoot.sh (a tar.gz), without the secrets in what
// is added: by patterns, and the ones that Plinth knows by their value.
package supportbundle

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Marks that stand in a bundle for a secret: the id of the rule that removed it is between them.
const (
	markBegin = "***REDACTED:"
	markEnd   = "***"
)

func mark(rule string) string { return markBegin + rule + markEnd }

// anyMark matches a mark and its rule.
var anyMark = regexp.MustCompile(`\*\*\*REDACTED:([a-z0-9-]+)\*\*\*`)

// Ids of the rules that are not patterns of a line.
const (
	ruleKnown      = "known-secret"
	rulePrivateKey = "private-key"
	ruleValue      = "secret-value" // of a key such as "password"
	ruleSecretData = "kubernetes-secret"
	ruleBinaryData = "binary-data" // of a ConfigMap: what is not text, in base64
	ruleTooLong    = "line-too-long"
)

// maxLine is the longest line, in bytes, that is searched; a longer one is left out.
const maxLine = 128 << 10

// Redactor replaces secrets by marks. It is safe for concurrent use.
type Redactor struct {
	known  *strings.Replacer // of the secrets that are known by value; nil for none
	vendor *vendorRules      // nil for none
}

// NewRedactor returns a redactor that also knows the secrets in values, each in the encodings in which it may be stored.
// Values that could be ordinary words are ignored.
func NewRedactor(values ...string) *Redactor {
	var all []string
	add := func(v string) {
		if v = strings.TrimSpace(v); isSecretValue(v) && !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	for _, v := range values {
		add(v)
		for line := range strings.Lines(v) {
			add(line)
		}
		if !isSecretValue(v) {
			continue
		}
		quoted, _ := json.Marshal(v) // a string has no error
		add(strings.Trim(string(quoted), `"`))
		add(base64.StdEncoding.EncodeToString([]byte(v)))
		add(base64.URLEncoding.EncodeToString([]byte(v)))
		add(base64.RawURLEncoding.EncodeToString([]byte(v)))
		add(url.QueryEscape(v))
	}
	if len(all) == 0 {
		return &Redactor{}
	}
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) }) // one may contain another
	pairs := make([]string, 0, 2*len(all))
	for _, v := range all {
		pairs = append(pairs, v, mark(ruleKnown))
	}
	return &Redactor{known: strings.NewReplacer(pairs...)}
}

// publicBlock matches lines that begin or end a PEM block, which are not secret themselves.
var publicBlock = regexp.MustCompile(`^-----(BEGIN|END) [A-Z0-9 ]+-----$`)

// isSecretValue reports whether v is too long or too random to be an ordinary word, such as the name of a namespace.
func isSecretValue(v string) bool {
	if len(v) < 8 || publicBlock.MatchString(v) {
		return false
	}
	return len(v) >= 20 || looksRandom(v)
}

// looksRandom reports whether v has a digit or an upper-case letter between letters, as words do not.
func looksRandom(v string) bool {
	hasLetter, hasOther := false, false
	for i, r := range v {
		switch {
		case r >= 'a' && r <= 'z':
			hasLetter = true
		case r >= '0' && r <= '9', i > 0 && r >= 'A' && r <= 'Z', strings.ContainsRune("!#$%&*+=?@^~", r):
			hasOther = true
		}
	}
	return hasLetter && hasOther || hasOther && len(v) >= 12
}

// Redact returns content, the file with a name in the bundle, without secrets and without what the redactors of a vendor
// remove. Files whose name ends in .json are read as JSON, if they are.
func (r *Redactor) Redact(name string, content []byte) []byte {
	if strings.HasSuffix(name, ".json") {
		if clean, ok := r.redactJSON(name, content); ok {
			return r.redactVendor(name, string(clean))
		}
	}
	return r.redactVendor(name, r.redactText(string(r.vendor.redactYAML(name, content))))
}

// redactVendor returns the text of a file without what the redactors of a vendor remove from lines. What they leave of a
// line can be a secret that is known by value.
func (r *Redactor) redactVendor(name, text string) []byte {
	if r.vendor == nil {
		return []byte(text)
	}
	return []byte(r.replaceKnown(r.vendor.redactLines(name, text)))
}

// RedactLines returns the lines of a text without secrets, which may span several of them.
func (r *Redactor) RedactLines(lines []string) []string {
	if len(lines) == 0 {
		return nil
	}
	clean := make([]string, len(lines))
	for i, l := range lines {
		clean[i] = strings.ReplaceAll(l, "\n", " ")
	}
	return strings.Split(r.redactText(strings.Join(clean, "\n")), "\n")
}

// redactJSON returns a JSON document without secrets, indented; ok is false if it is not one.
func (r *Redactor) redactJSON(name string, content []byte) (clean []byte, ok bool) {
	doc, ok := decodeJSON(content)
	if !ok {
		return nil, false
	}
	clean, err := encodeJSON(r.redactValue("", r.vendor.redactDocument(name, doc)), "  ")
	if err != nil {
		return nil, false
	}
	return []byte(r.replaceKnown(string(clean))), true
}

func decodeJSON(content []byte) (doc any, ok bool) {
	d := json.NewDecoder(bytes.NewReader(content))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil || d.More() {
		return nil, false
	}
	return doc, true
}

func encodeJSON(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	err := e.Encode(v)
	return b.Bytes(), err
}

// redactValue returns the value of key without secrets.
func (r *Redactor) redactValue(key string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		return r.redactMap(key, v)
	case []any:
		for i := range v {
			if flag, ok := v[max(i-1, 0)].(string); ok && i > 0 && strings.HasPrefix(flag, "-") && isSensitiveKey(flag) {
				v[i] = r.redactValue(flag, v[i]) // the value of a flag of a program
				continue
			}
			v[i] = r.redactValue(key, v[i])
		}
		return v
	case string:
		if isSensitiveKey(key) && !isHarmless(v) || key == "auth" && isBase64(v) { // auth: the login of a registry
			return mark(ruleValue)
		}
		return r.redactString(key, v)
	}
	return v
}

func (r *Redactor) redactMap(key string, m map[string]any) any {
	kind, _ := m["kind"].(string)
	name, _ := m["name"].(string)
	for k, v := range m {
		switch {
		case kind == "Secret" && (k == "data" || k == "stringData"), key == "signature" || k == "signature":
			m[k] = maskLeaves(v, mark(ruleSecretData))
		case k == "binaryData":
			m[k] = maskLeaves(v, binaryMark)
		case k == "value" && isSensitiveKey(name):
			m[k] = r.redactValue(name, v)
		default:
			m[k] = r.redactValue(k, v)
		}
	}
	return m
}

// binaryMark is a mark in base64: what reads an object decodes its binary data.
var binaryMark = base64.StdEncoding.EncodeToString([]byte(mark(ruleBinaryData)))

// maskLeaves returns v with every string and number in it replaced by mark.
func maskLeaves(v any, mark string) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = maskLeaves(v[k], mark)
		}
		return v
	case []any:
		for i := range v {
			v[i] = maskLeaves(v[i], mark)
		}
		return v
	case nil, bool:
		return v
	}
	return mark
}

// redactString returns the string s, the value of key in JSON, without secrets: s may itself be JSON or text.
func (r *Redactor) redactString(key, s string) string {
	if trimmed := strings.TrimSpace(s); strings.HasPrefix(trimmed, "{") || strings.HasPrefix(trimmed, "[") {
		if doc, ok := decodeJSON([]byte(s)); ok {
			if clean, err := encodeJSON(r.redactValue(key, doc), ""); err == nil {
				return strings.TrimSuffix(string(clean), "\n")
			}
		}
	}
	return r.redactText(s)
}

// maxKeyLines is the number of lines, and more, of the longest private key in PEM format.
const maxKeyLines = 400

// redactText returns text without secrets. It keeps the number of lines.
func (r *Redactor) redactText(text string) string {
	text = r.replaceKnown(text)
	lines := make([]string, 0, strings.Count(text, "\n")+1)
	var state textState
	keyEnded := 0 // number of lines up to the last private key
	for raw := range strings.Lines(text) {
		line := strings.TrimRight(raw, "\r\n")
		switch {
		case len(line) > maxLine:
			line = mark(ruleTooLong)
		case state.inKey:
			line = state.redactLine(line)
			keyEnded = len(lines) + 1
		default:
			if endsKey(line) { // the text was cut within the key
				for i := max(keyEnded, len(lines)-maxKeyLines); i < len(lines); i++ {
					lines[i] = mark(rulePrivateKey)
				}
				line = mark(rulePrivateKey) + line[keyEnd.FindStringIndex(line)[1]:]
				keyEnded = len(lines) + 1
			}
			line = state.redactLine(line)
		}
		lines = append(lines, line)
	}
	clean := strings.Join(lines, "\n")
	if strings.HasSuffix(text, "\n") {
		clean += "\n"
	}
	return clean
}

// endsKey reports whether line has the end of a private key without its beginning.
func endsKey(line string) bool {
	if !strings.Contains(line, "PRIVATE KEY") {
		return false
	}
	end := keyEnd.FindStringIndex(line)
	if end == nil {
		return false
	}
	begin := keyBegin.FindStringIndex(line)
	return begin == nil || begin[0] > end[0]
}

func (r *Redactor) replaceKnown(text string) string {
	if r.known == nil {
		return text
	}
	return r.known.Replace(text)
}

// Contains reports whether content has a secret that is known by value. Redact leaves none.
func (r *Redactor) Contains(content []byte) bool {
	return r.known != nil && r.known.Replace(string(content)) != string(content)
}

// textState is what earlier lines of a text say about the next one.
type textState struct {
	inKey     bool   // within a private key in PEM format
	sensitive bool   // the line before was the name of a secret, whose value follows
	block     int    // indentation of a key whose value is the lines that are indented more; -1 for none
	blockRule string // rule for these lines
	started   bool
	secret    bool // within a document of kind Secret
	held      int  // indentation of its data; -1 for none
}

var (
	keyBegin    = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----`)
	keyEnd      = regexp.MustCompile(`-----END [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----`)
	wholeKey    = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----.*?-----END [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----`)
	nameLine    = regexp.MustCompile(`^\s*(?:-\s+)?"?name"?:\s*"?([\w.-]+)"?,?\s*$`)
	valueLine   = regexp.MustCompile(`^(\s*"?value"?:\s*)(\S.*?)(,?\s*)$`)
	blockLine   = regexp.MustCompile(`^(\s*)(?:-\s+)?"?([\w.-]+)"?:\s*[|>][+-]?\d?\s*$`)
	secretKind  = regexp.MustCompile(`^kind:\s*"?Secret"?\s*$`)
	secretData  = regexp.MustCompile(`^(\s*)(data|stringData|binaryData):\s*$`)
	secretEntry = regexp.MustCompile(`^(\s*"?[\w.-]+"?:\s*)(\S.*)$`)
)

// redactLine returns line, the next line of a text, without secrets.
func (t *textState) redactLine(line string) string {
	if !t.started {
		t.started, t.block, t.held = true, -1, -1
	}
	if done, text := t.redactKey(line); done {
		return text
	}
	indent := len(line) - len(strings.TrimLeft(line, " \t"))
	blank := strings.TrimSpace(line) == ""
	if t.block >= 0 {
		if blank || indent > t.block {
			if blank {
				return line
			}
			return line[:indent] + mark(t.blockRule)
		}
		t.block = -1
	}
	if text, done := t.redactManifest(line, indent, blank); done {
		return text
	}
	if strings.ContainsAny(line, "|>") {
		if m := blockLine.FindStringSubmatch(line); m != nil && isSensitiveKey(m[2]) {
			t.block, t.blockRule = len(m[1]), ruleValue
			return line
		}
	}
	if t.sensitive {
		t.sensitive = false
		if m := valueLine.FindStringSubmatch(line); m != nil && !isHarmless(strings.Trim(m[2], `"'`)) {
			return m[1] + mark(ruleValue) + m[3]
		}
	}
	if strings.Contains(line, "name") {
		if m := nameLine.FindStringSubmatch(line); m != nil {
			t.sensitive = isSensitiveKey(m[1])
		}
	}
	return redactPatterns(line)
}

// redactKey handles the lines of private keys; done is false for other lines.
func (t *textState) redactKey(line string) (done bool, text string) {
	switch {
	case t.inKey && keyEnd.MatchString(line):
		t.inKey = false
		return true, mark(rulePrivateKey) + redactPatterns(line[keyEnd.FindStringIndex(line)[1]:])
	case t.inKey:
		return true, mark(rulePrivateKey)
	}
	if !strings.Contains(line, "PRIVATE KEY") {
		return false, ""
	}
	line = wholeKey.ReplaceAllLiteralString(line, mark(rulePrivateKey))
	if at := keyBegin.FindStringIndex(line); at != nil {
		t.inKey = true
		return true, redactPatterns(line[:at[0]]) + mark(rulePrivateKey)
	}
	return true, redactPatterns(line)
}

// redactManifest handles the data of a Secret in a YAML manifest whose kind comes first or last; done is false for
// other lines.
func (t *textState) redactManifest(line string, indent int, blank bool) (text string, done bool) {
	switch {
	case strings.HasPrefix(line, "---"):
		t.secret, t.held = false, -1
		return "", false
	case strings.HasPrefix(line, "kind:") && secretKind.MatchString(line):
		t.secret = true
		return line, true
	}
	// In a list of keys sorted by name, data stands before kind: so the data of every manifest that could be a Secret's
	// is masked if its values look like base64.
	if strings.Contains(line, "ata:") {
		if m := secretData.FindStringSubmatch(line); m != nil {
			t.held = len(m[1])
			return line, true
		}
	}
	if t.held < 0 || blank {
		return "", false
	}
	if indent <= t.held {
		t.held = -1
		return "", false
	}
	m := secretEntry.FindStringSubmatch(line)
	switch {
	case m == nil && t.secret:
		return line[:indent] + mark(ruleSecretData), true
	case m != nil && t.secret && !strings.HasPrefix(m[2], "|") && !strings.HasPrefix(m[2], ">"):
		return m[1] + mark(ruleSecretData), true
	case m != nil && isBase64(strings.Trim(m[2], `"'`)) && isCredential(strings.Trim(m[2], `"'`)):
		return m[1] + mark(ruleSecretData), true
	}
	return "", false
}

// base64Text matches what may be base64.
var base64Text = regexp.MustCompile(`^[A-Za-z0-9+/]{8,}={0,2}$`)

// isBase64 reports whether s is the base64 of something.
func isBase64(s string) bool {
	if len(s)%4 != 0 || !base64Text.MatchString(s) {
		return false
	}
	_, err := base64.StdEncoding.DecodeString(s)
	return err == nil
}
