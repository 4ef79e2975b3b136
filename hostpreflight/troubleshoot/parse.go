// Package troubleshoot converts the spec of a troubleshoot.sh/v1beta2 HostPreflight
// to host checks and to the request for the facts that they need. An unknown
// collector, analyzer or condition is an error, not a check that never fails.
// Replicated's own library is not used: alone it adds up to a binary of 90 MB that
// uses 75 MB of memory at startup.
package troubleshoot

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// Preflights contains the checks of a vendor and the requests for their facts.
type Preflights struct {
	Checks   []hp.Check
	requests []func(*facts.Request, hp.Requirements)
}

// AddRequests adds the facts that the checks need to r.
func (p Preflights) AddRequests(r *facts.Request, req hp.Requirements) {
	for _, need := range p.requests {
		need(r, req)
	}
}

// collector says what to gather. It has the fields of all kinds.
type collector struct {
	CollectorName string `json:"collectorName"`
	Exclude       any    `json:"exclude"`
	Path          string `json:"path"`      // diskUsage
	Port          int    `json:"port"`      // tcpPortStatus, udpPortStatus
	Interface     string `json:"interface"` // tcpPortStatus, udpPortStatus
	Address       string `json:"address"`   // tcpConnect
	Directory     string `json:"directory"` // filesystemPerformance
	Get           *struct {
		URL string `json:"url"`
	} `json:"get"` // http
	Post any `json:"post"`

	packages map[string][]string // of systemPackages, by operating system, with or without its major version: rhel, rhel9
	Put      any                 `json:"put"`
}

// analyzer says how to evaluate what was gathered.
type analyzer struct {
	CheckName     string    `json:"checkName"`
	CollectorName string    `json:"collectorName"`
	Exclude       any       `json:"exclude"`
	Strict        any       `json:"strict"`
	Outcomes      []outcome `json:"outcomes"`
}

// outcome is one possible result; exactly one of its fields is set.
type outcome struct {
	Fail, Warn, Pass *verdict
}

// verdict is the condition and message of an outcome.
type verdict struct {
	When    string `json:"when"`
	Message string `json:"message"`
	URI     string `json:"uri"`
}

// stateAndVerdict returns the state and verdict of o, or nil when not exactly one
// field is set.
func (o outcome) stateAndVerdict() (hp.State, *verdict) {
	switch {
	case o.Fail != nil && o.Warn == nil && o.Pass == nil:
		return hp.Fail, o.Fail
	case o.Warn != nil && o.Fail == nil && o.Pass == nil:
		return hp.Warn, o.Warn
	case o.Pass != nil && o.Fail == nil && o.Warn == nil:
		return hp.Pass, o.Pass
	}
	return "", nil
}

// Parse converts the collectors and analyzers of a HostPreflight's spec. The error
// contains every problem, one per line.
func Parse(collectors, analyzers []map[string]any) (Preflights, error) {
	var p Preflights
	var wrong []error
	byKind := map[string][]collector{}
	for i, m := range collectors {
		where := fmt.Sprintf("spec.hostPreflights.collectors[%d]", i)
		var c collector
		name, err := decodeSingleKey(m, where, &c)
		if err == nil && !slices.Contains(SupportedKinds(), name) {
			err = fmt.Errorf("%s: collector %s is not supported; supported are: %s", where, name, strings.Join(SupportedKinds(), ", "))
		}
		if err == nil && (c.Post != nil || c.Put != nil) {
			err = fmt.Errorf("%s: http supports only get", where)
		}
		if err == nil && name == "systemPackages" {
			settings, _ := m[name].(map[string]any)
			if c.packages, err = parsePackageLists(settings); err != nil {
				err = fmt.Errorf("%s.%s: %w", where, name, err)
			}
		}
		wrong = append(wrong, err)
		byKind[name] = append(byKind[name], c)
	}
	for i, m := range analyzers {
		where := fmt.Sprintf("spec.hostPreflights.analyzers[%d]", i)
		wrong = append(wrong, p.addAnalyzer(m, where, byKind))
	}
	return p, errors.Join(wrong...)
}

// decodeSingleKey decodes the only entry of m into to and returns its key, the kind.
func decodeSingleKey(m map[string]any, where string, to any) (kind string, err error) {
	if len(m) != 1 {
		return "", fmt.Errorf("%s: must have exactly one key, the kind of a collector or analyzer", where)
	}
	for name, body := range m {
		kind = name
		raw, err := json.Marshal(body)
		if err == nil {
			err = json.Unmarshal(raw, to)
		}
		if err != nil {
			return kind, fmt.Errorf("%s.%s: %w", where, name, describeTypeError(err))
		}
	}
	return kind, nil
}

// describeTypeError replaces the Go types in a JSON type error by YAML terms.
func describeTypeError(err error) error {
	var form *json.UnmarshalTypeError
	if !errors.As(err, &form) {
		return err
	}
	found, _, _ := strings.Cut(form.Value, " ") // the value of a number follows
	typeNames := map[string]string{"string": "text", "number": "a number", "bool": "true or false", "array": "a list", "object": "a mapping"}
	want := "a mapping"
	switch form.Type.Kind() {
	case reflect.String:
		want = "text"
	case reflect.Bool:
		want = "true or false"
	case reflect.Slice:
		want = "a list"
	case reflect.Int, reflect.Int64, reflect.Float64:
		want = "a number"
	}
	what := "value"
	if form.Field != "" {
		what = form.Field
	}
	return fmt.Errorf("%s must be %s, found %s", what, want, typeNames[found])
}

// addAnalyzer adds the check of one analyzer m. where is its path in the Installer.
func (p *Preflights) addAnalyzer(m map[string]any, where string, byKind map[string][]collector) error {
	var a analyzer
	name, err := decodeSingleKey(m, where, &a)
	if err != nil {
		return err
	}
	where += "." + name
	k, ok := analyzerKinds()[name]
	if !ok {
		return fmt.Errorf("%s: analyzer is not supported; supported are: %s", where, strings.Join(SupportedKinds(), ", "))
	}
	c, err := findCollector(a, name, byKind[name], where)
	if err != nil {
		return err
	}
	excluded, err1 := parseBoolOrString(a.Exclude)
	without, err2 := parseBoolOrString(c.Exclude)
	strict, err3 := parseBoolOrString(a.Strict)
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	answers, severity, err := compileOutcomes(a, k, c)
	if err != nil {
		return fmt.Errorf("%s.%w", where, err)
	}
	check := hp.Check{ID: p.uniqueID(cmp.Or(a.CheckName, k.title)), Group: "Vendor", Title: cmp.Or(a.CheckName, k.title), Severity: severity, Strict: strict,
		Expected: "what the vendor requires", Rationale: "the vendor requires it (spec.hostPreflights)."}
	check.Run = hp.RequireFact(k.factName(c), k.runFunc(c, answers))
	if excluded || without {
		check.Run = func(facts.Facts, hp.Requirements) hp.Result { return hp.Skip("vendor", "excluded") }
	} else if k.addRequest != nil {
		p.requests = append(p.requests, func(r *facts.Request, req hp.Requirements) { k.addRequest(r, req, c, a) })
	}
	p.Checks = append(p.Checks, check)
	return nil
}

// findCollector returns the collector of an analyzer: the one of its kind and, if
// set, of its collectorName. Collectors without settings do not have to be listed.
func findCollector(a analyzer, kind string, all []collector, where string) (collector, error) {
	for _, c := range all {
		if a.CollectorName == "" || c.CollectorName == a.CollectorName {
			return c, analyzerKinds()[kind].validateSettings(c, where)
		}
	}
	if a.CollectorName != "" && len(all) > 0 {
		return collector{}, fmt.Errorf("%s: there is no %s collector with collectorName %q", where, kind, a.CollectorName)
	}
	return collector{}, analyzerKinds()[kind].validateSettings(collector{}, where)
}

// parseBoolOrString parses the "bool or string" type of troubleshoot.sh. nil is false.
func parseBoolOrString(v any) (bool, error) {
	switch v := v.(type) {
	case nil:
		return false, nil
	case bool:
		return v, nil
	case string:
		if b, err := strconv.ParseBool(v); err == nil {
			return b, nil
		}
	}
	return false, fmt.Errorf("exclude and strict must be true or false, not %v", v)
}

// compiledOutcome is an outcome with its compiled condition.
type compiledOutcome struct {
	state     hp.State
	condition condition // nil for always
	verdict   verdict
}

// condition reports whether an outcome applies.
type condition func(facts.Facts, hp.Requirements) bool

// compileOutcomes compiles all outcomes of a. severity is Fail when one of them fails,
// otherwise Warn.
func compileOutcomes(a analyzer, k analyzerKind, c collector) (all []compiledOutcome, severity hp.State, err error) {
	severity = hp.Warn
	if len(a.Outcomes) == 0 {
		return nil, "", errors.New("outcomes: must not be empty")
	}
	for i, o := range a.Outcomes {
		state, v := o.stateAndVerdict()
		if v == nil {
			return nil, "", fmt.Errorf("outcomes[%d]: must be exactly one of fail, warn and pass", i)
		}
		if state == hp.Fail {
			severity = hp.Fail
		}
		ans := compiledOutcome{state: state, verdict: *v}
		if v.When != "" {
			if ans.condition, err = k.compileCondition(c, v.When); err != nil {
				return nil, "", fmt.Errorf("outcomes[%d].when: %q: %w", i, v.When, err)
			}
		}
		all = append(all, ans)
	}
	return all, severity, nil
}

// uniqueID returns a check id that is built from title and unique in p.
func (p *Preflights) uniqueID(title string) string {
	slug := strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(title), "-"), "-")
	id := "vendor-" + slug
	for n := 2; slices.ContainsFunc(p.Checks, func(c hp.Check) bool { return c.ID == id }); n++ {
		id = fmt.Sprintf("vendor-%s-%d", slug, n)
	}
	return id
}
