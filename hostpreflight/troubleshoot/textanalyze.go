package troubleshoot

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// textAnalyzeName is the name of the analyzer of texts.
const textAnalyzeName = "textAnalyze"

// textAnalyzer evaluates the text of one file.
type textAnalyzer func(text string) hp.Result

// addTextAnalyzer adds the check of one textAnalyze analyzer.
func (p *Preflights) addTextAnalyzer(a analyzer, where string, produced []producedFile) error {
	analyzers, severity, err := compileTextAnalyzers(a)
	if err != nil {
		return prefixEach(where+".", err)
	}
	files, err := selectFiles(a, produced)
	if err != nil {
		return fmt.Errorf("%s.%w", where, err)
	}
	flags, err := parseFlags(a, files)
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	run := func(f facts.Facts, _ hp.Requirements) hp.Result {
		var all []hp.Result
		for _, file := range files {
			if reason := f.UnknownReason(file.fact); reason != "" {
				all = append(all, hp.Undetermined(reason))
				continue
			}
			text, err := file.read(f)
			if err != nil {
				all = append(all, hp.Undetermined(err.Error()))
				continue
			}
			for _, analyze := range analyzers {
				r := analyze(text)
				r.Found = file.path + " " + r.Found
				all = append(all, r)
			}
		}
		if all == nil {
			return hp.Skip("vendor", "ignoreIfNoFiles")
		}
		return hp.WorstResult(all)
	}
	p.addCheck(cmp.Or(a.CheckName, "Regular Expression"), severity, flags, run, func(r *facts.Request, _ hp.Requirements) {
		for _, file := range files {
			file.addRequest(r)
		}
	})
	return nil
}

// selectFiles returns the files among all that analyzer a evaluates: those whose path
// begins with its file name or matches it as a pattern.
func selectFiles(a analyzer, all []producedFile) ([]producedFile, error) {
	name := path.Join(a.CollectorName, a.FileName)
	matches := func(pattern, s string) bool { ok, err := path.Match(pattern, s); return ok && err == nil }
	var chosen []producedFile
	var paths []string
	for _, f := range all {
		excluded := slices.ContainsFunc(a.ExcludeFiles, func(pattern string) bool { return matches(path.Join(a.CollectorName, pattern), f.path) })
		if !excluded && (strings.HasPrefix(f.path, name) || matches(name, f.path)) {
			chosen = append(chosen, f)
		}
		paths = append(paths, f.path)
	}
	switch {
	case len(chosen) > 0 || a.IgnoreIfNoFiles:
		return chosen, nil
	case len(paths) == 0:
		return nil, fmt.Errorf("fileName: no collector run, dns or cgroups produces %q", name)
	}
	return nil, fmt.Errorf("fileName: no collector produces %q, only %s", name, strings.Join(paths, ", "))
}

// compileTextAnalyzers compiles the regular expressions and outcomes of a.
func compileTextAnalyzers(a analyzer) (all []textAnalyzer, severity hp.State, err error) {
	if a.RegexPattern == "" && a.RegexGroups == "" {
		return nil, "", errors.New("regex: either regex or regexGroups must be set")
	}
	for _, kind := range []struct {
		key, pattern string
		compile      func(*regexp.Regexp, []textOutcome) textAnalyzer
		condition    func(*regexp.Regexp, hp.State, string) (textCondition, error)
	}{
		{"regex", a.RegexPattern, analyzeMatch, parseMatchCondition},
		{"regexGroups", a.RegexGroups, analyzeGroups, parseGroupCondition},
	} {
		if kind.pattern == "" {
			continue
		}
		re, err := regexp.Compile(kind.pattern)
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", kind.key, err)
		}
		var outcomes []textOutcome
		if severity, err = a.eachOutcome(func(state hp.State, v verdict) error {
			holds, err := kind.condition(re, state, v.When)
			outcomes = append(outcomes, textOutcome{compiledOutcome{state: state, verdict: v}, holds})
			return err
		}); err != nil {
			return nil, "", err
		}
		all = append(all, kind.compile(re, outcomes))
	}
	return all, severity, nil
}

// textCondition reports whether an outcome applies, given the groups of a match; nil for
// no match.
type textCondition func(groups map[string]string) bool

// textOutcome is an outcome with its condition.
type textOutcome struct {
	compiledOutcome
	holds textCondition
}

// namedGroups returns the named groups of the first match of re in text, and nil if there
// is none.
func namedGroups(re *regexp.Regexp, text string) map[string]string {
	found := re.FindStringSubmatch(text)
	if found == nil {
		return nil
	}
	groups := map[string]string{}
	for i, name := range re.SubexpNames() {
		if name != "" {
			groups[name] = found[i]
		}
	}
	return groups
}

// parseMatchCondition parses the condition of regex: whether it matches, true or false.
// Without one, a pass applies to a match and other outcomes to its absence.
func parseMatchCondition(_ *regexp.Regexp, state hp.State, when string) (textCondition, error) {
	want := state == hp.Pass
	if when != "" {
		var err error
		if want, err = strconv.ParseBool(when); err != nil {
			return nil, errors.New("must be true or false")
		}
	}
	return func(groups map[string]string) bool { return (groups != nil) == want }, nil
}

// analyzeMatch returns the worst outcome that applies to whether re matches.
func analyzeMatch(re *regexp.Regexp, outcomes []textOutcome) textAnalyzer {
	return func(text string) hp.Result {
		groups := namedGroups(re, text)
		found := map[bool]string{true: "matches", false: "does not match"}[groups != nil]
		var all []hp.Result
		for _, o := range outcomes {
			if o.holds(groups) {
				all = append(all, o.toResult(found))
			}
		}
		if all == nil {
			return hp.Undetermined(found + ": no outcome of the vendor applies")
		}
		return hp.WorstResult(all)
	}
}

// parseGroupCondition parses the condition of regexGroups: "Loss < 5" or "State == ready".
// Numbers are compared as such; a text can only be equal. A group that was not found
// fulfills no condition.
func parseGroupCondition(re *regexp.Regexp, _ hp.State, when string) (textCondition, error) {
	if when == "" {
		return func(map[string]string) bool { return true }, nil
	}
	w, err := splitWords(when, 3, 3)
	if err != nil {
		return nil, err
	}
	if re.SubexpIndex(w[0]) < 0 {
		return nil, fmt.Errorf("regexGroups has no group %q", w[0])
	}
	want := w[2]
	if want == "''" || want == `""` {
		want = ""
	}
	n, err := strconv.Atoi(want)
	if err != nil {
		return func(groups map[string]string) bool { value, ok := groups[w[0]]; return ok && value == want }, requireOneOf(w[1], "=", "==", "===")
	}
	return func(groups map[string]string) bool {
		value, err := strconv.Atoi(groups[w[0]])
		ok, _ := applyOperator(w[1], cmp.Compare(value, n)) // the operator is known
		return err == nil && ok
	}, requireOneOf(w[1], "=", "==", "===", "<", ">", "<=", ">=")
}

// analyzeGroups returns the first outcome that applies to the groups of re.
func analyzeGroups(re *regexp.Regexp, outcomes []textOutcome) textAnalyzer {
	return func(text string) hp.Result {
		groups := namedGroups(re, text)
		found := "does not match"
		if groups != nil {
			found = "matches"
			for _, name := range re.SubexpNames() {
				if name != "" {
					found += fmt.Sprintf(", %s=%s", name, groups[name])
				}
			}
		}
		data := map[string]any{}
		for name, value := range groups {
			data[name] = value
		}
		for _, o := range outcomes {
			if o.holds(groups) {
				o.verdict.Message = renderMessage(o.verdict.Message, data)
				return o.toResult(found)
			}
		}
		return hp.Undetermined(found + ": no outcome of the vendor applies")
	}
}
