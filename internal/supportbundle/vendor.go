package supportbundle

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"sync/atomic"
	"time"
)

// Limits of what a vendor's redactors may contain: a spec may come from anyone who may create a ConfigMap.
const (
	maxVendorValue   = 16 << 10 // bytes of a value, an expression or a path
	maxInstructions  = 10_000   // of one compiled expression
	maxVendorEffort  = 100_000  // instructions of all expressions, values and paths together
	maxVendorTime    = 60 * time.Second
	vendorRulePrefix = "vendor-"
	ruleVendorTime   = "vendor-redactors-too-slow"
	ruleVendorFailed = "vendor-redactors-failed" // what they have changed cannot be written
)

// Removal is one redactor of a vendor: what it removes, and from which files (troubleshoot.sh's kind Redactor; v0.133.0,
// pkg/redact).
type Removal struct {
	Name      string   // for the manifest
	Files     []string // globs of names in the bundle; none for all files
	Values    []string
	Regexes   []LineRegex
	YAMLPaths []string // such as spec.users.*.password
}

// LineRegex removes parts of lines: the groups called mask and drop, and what is in no group. A regular expression without
// such a group removes all of the match.
type LineRegex struct {
	Selector string // a regular expression; only the line after one that matches is changed; "" for all lines
	Redactor string
}

// FieldError is a part of a Removal that cannot be used.
type FieldError struct {
	Field string // such as "removals.regex[0].redactor"
	Err   error
}

// VendorRule is a compiled Removal.
type VendorRule struct {
	mark   string
	files  []*regexp.Regexp // nil for all files
	values []string
	lines  []lineRule
	paths  [][]string
	effort int // cost of it, in instructions
}

type lineRule struct {
	selector *regexp.Regexp // nil for all lines
	redactor *regexp.Regexp
}

// CompileRemoval returns the parts of a removal that can be used, and what is wrong with the others.
func CompileRemoval(r Removal) (rule VendorRule, wrong []FieldError) {
	fail := func(err error, format string, args ...any) {
		wrong = append(wrong, FieldError{fmt.Sprintf(format, args...), err})
	}
	rule.mark = mark(vendorRulePrefix + ruleName(r.Name))
	for i, glob := range r.Files {
		match, err := compileGlob(glob)
		if err != nil {
			fail(err, "fileSelector.files[%d]", i)
			continue
		}
		rule.files = append(rule.files, match)
		rule.effort++
	}
	if len(r.Files) > 0 && len(rule.files) == 0 {
		return rule, wrong // without its selector, it would change all files
	}
	for i, v := range r.Values {
		if err := checkVendorText(v); err != nil {
			fail(err, "removals.values[%d]", i)
			continue
		}
		rule.values = append(rule.values, v)
		if quoted, err := encodeJSON(v, ""); err == nil { // as a string in JSON has it
			if inner := strings.Trim(strings.TrimSpace(string(quoted)), `"`); inner != v {
				rule.values = append(rule.values, inner)
			}
		}
		rule.effort++
	}
	for i, l := range r.Regexes {
		compiled := lineRule{}
		var err error
		if l.Selector != "" {
			if compiled.selector, err = rule.compile(l.Selector); err != nil {
				fail(err, "removals.regex[%d].selector", i)
			}
		}
		redactor, failed := rule.compile(l.Redactor)
		if failed != nil {
			fail(failed, "removals.regex[%d].redactor", i)
		}
		if compiled.redactor = redactor; err == nil && failed == nil {
			rule.lines = append(rule.lines, compiled)
		}
	}
	for i, p := range r.YAMLPaths {
		if err := checkVendorText(p); err != nil {
			fail(err, "removals.yamlPath[%d]", i)
			continue
		}
		rule.paths = append(rule.paths, strings.Split(p, "."))
		rule.effort++
	}
	return rule, wrong
}

// checkVendorText refuses a text that matches everything, or too much of it.
func checkVendorText(text string) error {
	switch {
	case strings.TrimSpace(text) == "":
		return errors.New("is empty")
	case len(text) > maxVendorValue:
		return fmt.Errorf("has %d bytes, the limit is %d", len(text), maxVendorValue)
	}
	return nil
}

// compile returns a compiled expression. Go's expressions take linear time; the number of their instructions, which is the
// factor, is limited.
func (r *VendorRule) compile(expression string) (*regexp.Regexp, error) {
	if err := checkVendorText(expression); err != nil {
		return nil, err
	}
	tree, err := syntax.Parse(expression, syntax.Perl)
	var program *syntax.Prog
	if err == nil {
		program, err = syntax.Compile(tree.Simplify())
	}
	if err != nil {
		return nil, errors.New("is not a regular expression of RE2: " + strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	if n := len(program.Inst); n > maxInstructions {
		return nil, fmt.Errorf("is too complex: it has %d instructions, the limit is %d", n, maxInstructions)
	}
	r.effort += len(program.Inst)
	return regexp.Compile(expression)
}

// ruleName returns name as the id of a rule in the manifest: in lower case, with dashes.
func ruleName(name string) string {
	slug := strings.Trim(notInRules.ReplaceAllString(strings.ToLower(name), "-"), "-")
	if slug == "" {
		return "redactor"
	}
	return strings.TrimRight(slug[:min(len(slug), 60)], "-")
}

var notInRules = regexp.MustCompile(`[^a-z0-9]+`)

// compileGlob returns the expression for a glob as troubleshoot.sh reads it (github.com/gobwas/glob with the separator "/"):
// * and ? match no slash, ** matches all, [a-z] and [!a-z] are one character, {a,b} is one of several texts.
func compileGlob(glob string) (*regexp.Regexp, error) {
	if err := checkVendorText(glob); err != nil {
		return nil, err
	}
	var out strings.Builder
	out.WriteString(`^(?s:`)
	depth := 0
	for i := 0; i < len(glob); i++ {
		rest := glob[i:]
		switch c := glob[i]; {
		case strings.HasPrefix(rest, "**"):
			out.WriteString(`.*`)
			i++
		case c == '*':
			out.WriteString(`[^/]*`)
		case c == '?':
			out.WriteString(`[^/]`)
		case c == '\\' && len(rest) > 1:
			i++
			out.WriteString(regexp.QuoteMeta(glob[i : i+1]))
		case c == '[':
			end := strings.IndexByte(rest, ']')
			if end < 2 {
				return nil, errors.New("has a [ without its ]")
			}
			class := strings.NewReplacer(`\`, `\\`, `^`, `\^`, `[`, `\[`).Replace(rest[1:end])
			if negated, ok := strings.CutPrefix(class, "!"); ok {
				class = "^" + negated
			}
			out.WriteString("[" + class + "]")
			i += end
		case c == '{':
			depth++
			out.WriteString(`(?:`)
		case c == '}' && depth > 0:
			depth--
			out.WriteString(`)`)
		case c == ',' && depth > 0:
			out.WriteString(`|`)
		default:
			out.WriteString(regexp.QuoteMeta(glob[i : i+1]))
		}
	}
	if depth > 0 {
		return nil, errors.New("has a { without its }")
	}
	out.WriteString(`)$`)
	match, err := regexp.Compile(out.String())
	if err != nil {
		return nil, errors.New("is not a glob, such as cluster-resources/pods/*.json")
	}
	return match, nil
}

// matches reports whether the rule applies to a file.
func (r VendorRule) matches(name string) bool {
	if r.files == nil {
		return true
	}
	for _, f := range r.files {
		if f.MatchString(name) {
			return true
		}
	}
	return false
}

// specFolders have the specs themselves. Values in a spec are removed from them wherever they are to be removed.
var specFolders = []string{"support-bundle-specs/", "cluster-resources/configmaps/", "configmaps/"}

// vendorRules are the redactors of a vendor, and the time that they have taken.
type vendorRules struct {
	rules []VendorRule
	spent atomic.Int64 // nanoseconds
	limit time.Duration
}

// WithVendorRules returns a redactor that also applies rules. Rules above the limit of all together are not applied: their
// number is dropped.
func (r *Redactor) WithVendorRules(rules []VendorRule) (with *Redactor, dropped int) {
	v := &vendorRules{limit: maxVendorTime}
	effort := 0
	for _, rule := range rules {
		if effort += rule.effort; effort > maxVendorEffort {
			effort -= rule.effort
			dropped++
			continue
		}
		v.rules = append(v.rules, rule)
	}
	if len(v.rules) == 0 {
		return r, dropped
	}
	return &Redactor{known: r.known, vendor: v}, dropped
}

// late reports whether the rules have taken more time than they may, with that since begun.
func (v *vendorRules) late(begun time.Time) bool {
	return time.Duration(v.spent.Load())+time.Since(begun) > v.limit
}

// measure adds the time since start to that of the rules.
func (v *vendorRules) measure(start time.Time) { v.spent.Add(int64(time.Since(start))) }

// redactDocument returns doc, a file that was decoded, with the values at the rules' paths replaced. If that takes too long,
// nothing of doc is returned.
func (v *vendorRules) redactDocument(name string, doc any) any {
	if v == nil {
		return doc
	}
	begun := time.Now()
	defer v.measure(begun)
	for _, r := range v.rules {
		if len(r.paths) == 0 || !r.matches(name) {
			continue
		}
		for _, p := range r.paths {
			if v.late(begun) {
				return mark(ruleVendorTime)
			}
			doc = maskPath(doc, p, r.mark)
		}
	}
	return doc
}

// redactLines returns text without what the rules remove from lines. If they take too long, nothing of the text is
// returned: what should have been removed is not known.
func (v *vendorRules) redactLines(name, text string) string {
	if v == nil || text == "" {
		return text
	}
	begun := time.Now()
	defer v.measure(begun)
	inSpecs := false
	for _, folder := range specFolders {
		inSpecs = inSpecs || strings.HasPrefix(name, folder)
	}
	for _, r := range v.rules {
		use := r
		if !r.matches(name) {
			if use = (VendorRule{mark: r.mark, values: r.values}); !inSpecs {
				continue
			}
		}
		var ok bool
		if text, ok = v.applyRule(use, text, begun); !ok {
			return mark(ruleVendorTime) + "\n"
		}
	}
	return text
}

// bytesPerCheck is how much text is searched before the clock is checked again. In a longer line, such as a string of JSON, it
// is checked for each expression.
const bytesPerCheck = 64 << 10

// applyRule applies the values and the expressions of r to a text; ok is false if the time that began at begun is over.
func (v *vendorRules) applyRule(r VendorRule, text string, begun time.Time) (clean string, ok bool) {
	if len(r.values)+len(r.lines) == 0 {
		return text, true
	}
	var out strings.Builder
	selected := make([]bool, len(r.lines)) // by the line before
	unchecked := 0
	for raw := range strings.Lines(text) {
		if unchecked += len(raw); unchecked >= bytesPerCheck {
			if unchecked = 0; v.late(begun) {
				return "", false
			}
		}
		line := strings.TrimRight(raw, "\r\n")
		end := raw[len(line):]
		for _, value := range r.values {
			line = cutLine(line, valueCuts(line, value), r.mark)
		}
		whole := line // selectors see what no expression has changed
		for i, e := range r.lines {
			if len(line) >= bytesPerCheck && v.late(begun) {
				return "", false
			}
			if e.selector == nil || selected[i] {
				line = cutLine(line, regexCuts(line, e.redactor), r.mark)
			}
			selected[i] = e.selector != nil && e.selector.MatchString(whole)
		}
		out.WriteString(line)
		out.WriteString(end)
	}
	return out.String(), !v.late(begun)
}

// cut is a part of a line that is removed, or replaced by a mark.
type cut struct {
	from, to int
	marked   bool
}

// valueCuts returns where value is in line.
func valueCuts(line, value string) (cuts []cut) {
	for at := 0; ; {
		found := strings.Index(line[at:], value)
		if found < 0 {
			return cuts
		}
		cuts = append(cuts, cut{at + found, at + found + len(value), true})
		at += found + len(value)
	}
}

// Classes of the bytes of a match, by the group that they are in.
const (
	inNoGroup = iota
	inGroup
	inDrop
	inMask
)

// regexCuts returns what the matches of an expression remove from line.
func regexCuts(line string, e *regexp.Regexp) (cuts []cut) {
	names := e.SubexpNames()
	for _, m := range e.FindAllStringSubmatchIndex(line, -1) {
		class := make([]byte, m[1]-m[0])
		masks := false
		for _, c := range []byte{inGroup, inDrop, inMask} {
			for g := 1; g < len(names); g++ {
				if groupClass(names[g]) != c || m[2*g] < 0 {
					continue
				}
				for i := m[2*g]; i < m[2*g+1]; i++ {
					class[i-m[0]] = c
				}
				masks = masks || c == inMask && m[2*g] < m[2*g+1]
			}
		}
		for from := 0; from < len(class); {
			to := from
			for to < len(class) && class[to] == class[from] {
				to++
			}
			if class[from] != inGroup {
				marked := class[from] == inMask || !masks // a match without a mask leaves one, for the manifest
				masks = masks || marked
				cuts = append(cuts, cut{m[0] + from, m[0] + to, marked})
			}
			from = to
		}
	}
	return cuts
}

func groupClass(name string) byte {
	switch name {
	case "mask":
		return inMask
	case "drop":
		return inDrop
	}
	return inGroup
}

// cutLine returns line without cuts, which are in order and do not overlap. A mark that is there is not cut into parts.
func cutLine(line string, cuts []cut, mark string) string {
	if len(cuts) == 0 {
		return line
	}
	marks := anyMark.FindAllStringIndex(line, -1)
	var out strings.Builder
	at := 0
	for _, c := range cuts {
		for _, m := range marks {
			if c.from < m[1] && m[0] < c.to {
				c.from, c.to, c.marked = min(c.from, m[0]), max(c.to, m[1]), true
			}
		}
		if c.to <= at {
			continue
		}
		out.WriteString(line[at:max(at, c.from)])
		if c.marked {
			out.WriteString(mark)
		}
		at = c.to
	}
	out.WriteString(line[at:])
	return out.String()
}
