// Package troubleshoot owns the vendor's own host preflights: it turns the spec of a
// troubleshoot.sh/v1beta2 HostPreflight into checks like the built-in ones, and
// into what probe must look at for them. It refuses what it does not know: an
// unknown collector, analyzer or condition is an error, not a check that never
// fails. Replicated's own library is not used: alone it makes a binary of 90 MB
// that takes 75 MB of memory at its start.
package troubleshoot

import (
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

// Preflights are a vendor's checks, and what they need to be known.
type Preflights struct {
	Checks []hp.Check
	needs  []func(*facts.Request, hp.Want)
}

// Request adds to r what the checks need.
func (p Preflights) Request(r *facts.Request, w hp.Want) {
	for _, need := range p.needs {
		need(r, w)
	}
}

// collector says what to look at. Its fields are those of all kinds.
type collector struct {
	CollectorName string `json:"collectorName"`
	Exclude       any    `json:"exclude"`
	Path          string `json:"path"`      // diskUsage
	Port          int    `json:"port"`      // tcpPortStatus, udpPortStatus
	Interface     string `json:"interface"` // likewise
	Address       string `json:"address"`   // tcpConnect
	Directory     string `json:"directory"` // filesystemPerformance
	Get           *struct {
		URL string `json:"url"`
	} `json:"get"` // http
	Post any `json:"post"`

	packages map[string][]string // of systemPackages, by system and, if it has one, main version: rhel9
	Put      any                 `json:"put"`
}

// analyzer says what to conclude.
type analyzer struct {
	CheckName     string    `json:"checkName"`
	CollectorName string    `json:"collectorName"`
	Exclude       any       `json:"exclude"`
	Strict        any       `json:"strict"`
	Outcomes      []outcome `json:"outcomes"`
}

// outcome is one verdict; exactly one of its fields is set.
type outcome struct {
	Fail, Warn, Pass *verdict
}

type verdict struct {
	When    string `json:"when"`
	Message string `json:"message"`
	URI     string `json:"uri"`
}

// one is the state and verdict of an outcome.
func (o outcome) one() (hp.State, *verdict) {
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

// Parse reads the collectors and analyzers of a HostPreflight's spec. All that
// is wrong is in the error, a line each.
func Parse(collectors, analyzers []map[string]any) (Preflights, error) {
	var p Preflights
	var wrong []error
	byKind := map[string][]collector{}
	for i, m := range collectors {
		where := fmt.Sprintf("spec.hostPreflights.collectors[%d]", i)
		var c collector
		name, err := only(m, where, &c)
		if err == nil && !slices.Contains(Supported(), name) {
			err = fmt.Errorf("%s: the collector %s is not supported; these are: %s", where, name, strings.Join(Supported(), ", "))
		}
		if err == nil && (c.Post != nil || c.Put != nil) {
			err = fmt.Errorf("%s: of http only get is supported", where)
		}
		if err == nil && name == "systemPackages" {
			settings, _ := m[name].(map[string]any)
			if c.packages, err = lists(settings); err != nil {
				err = fmt.Errorf("%s.%s: %w", where, name, err)
			}
		}
		wrong = append(wrong, err)
		byKind[name] = append(byKind[name], c)
	}
	for i, m := range analyzers {
		where := fmt.Sprintf("spec.hostPreflights.analyzers[%d]", i)
		wrong = append(wrong, p.add(m, where, byKind))
	}
	return p, errors.Join(wrong...)
}

// only decodes the one entry of m, whose key is the kind.
func only(m map[string]any, where string, to any) (kind string, err error) {
	if len(m) != 1 {
		return "", fmt.Errorf("%s: it must have one key, the name of a collector or analyzer", where)
	}
	for name, body := range m {
		kind = name
		raw, err := json.Marshal(body)
		if err == nil {
			err = json.Unmarshal(raw, to)
		}
		if err != nil {
			return kind, fmt.Errorf("%s.%s: %w", where, name, formed(err))
		}
	}
	return kind, nil
}

// formed says in the words of the file what does not have the form that it must have.
func formed(err error) error {
	var form *json.UnmarshalTypeError
	if !errors.As(err, &form) {
		return err
	}
	found, _, _ := strings.Cut(form.Value, " ") // a number's value follows
	words := map[string]string{"string": "text", "number": "a number", "bool": "true or false", "array": "a list", "object": "a mapping"}
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
	what := "it"
	if form.Field != "" {
		what = form.Field
	}
	return fmt.Errorf("%s must be %s, found %s", what, want, words[found])
}

// add makes a check of one analyzer.
func (p *Preflights) add(m map[string]any, where string, byKind map[string][]collector) error {
	var a analyzer
	name, err := only(m, where, &a)
	if err != nil {
		return err
	}
	where += "." + name
	k, ok := kinds()[name]
	if !ok {
		return fmt.Errorf("%s: this analyzer is not supported; these are: %s", where, strings.Join(Supported(), ", "))
	}
	c, err := collectorOf(a, name, byKind[name], where)
	if err != nil {
		return err
	}
	excluded, err1 := truth(a.Exclude)
	without, err2 := truth(c.Exclude)
	strict, err3 := truth(a.Strict)
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	answers, severity, err := verdicts(a, k, c)
	if err != nil {
		return fmt.Errorf("%s.%w", where, err)
	}
	check := hp.Check{ID: p.id(or(a.CheckName, k.title)), Group: "The vendor's", Title: or(a.CheckName, k.title), Severity: severity, Strict: strict,
		Wants: "what the vendor asks for", Why: "the vendor asks for it (spec.hostPreflights)."}
	check.Run = hp.Told(k.fact(c), k.run(c, answers))
	if excluded || without {
		check.Run = func(facts.Facts, hp.Want) hp.Result { return hp.Skip("vendor", "excluded") }
	} else if k.need != nil {
		p.needs = append(p.needs, func(r *facts.Request, w hp.Want) { k.need(r, w, c, a) })
	}
	p.Checks = append(p.Checks, check)
	return nil
}

// collectorOf is what an analyzer concludes from: the collector of its kind and
// name. Those without settings need not be listed.
func collectorOf(a analyzer, kind string, all []collector, where string) (collector, error) {
	for _, c := range all {
		if a.CollectorName == "" || c.CollectorName == a.CollectorName {
			return c, kinds()[kind].settled(c, where)
		}
	}
	if a.CollectorName != "" && len(all) > 0 {
		return collector{}, fmt.Errorf("%s: no collector %s is called %q", where, kind, a.CollectorName)
	}
	return collector{}, kinds()[kind].settled(collector{}, where)
}

// truth reads troubleshoot's "bool or string".
func truth(v any) (bool, error) {
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
	return false, fmt.Errorf("exclude and strict are true or false, not %v", v)
}

// answer is an outcome whose condition was understood.
type answer struct {
	state   hp.State
	when    condition // nil for always
	verdict verdict
}

// condition reports whether an outcome applies.
type condition func(facts.Facts, hp.Want) bool

// verdicts compiles all outcomes of a; severity is the worst of them.
func verdicts(a analyzer, k kind, c collector) (all []answer, severity hp.State, err error) {
	severity = hp.Warn
	if len(a.Outcomes) == 0 {
		return nil, "", errors.New("outcomes: there is none")
	}
	for i, o := range a.Outcomes {
		state, v := o.one()
		if v == nil {
			return nil, "", fmt.Errorf("outcomes[%d]: it must be one of fail, warn and pass", i)
		}
		if state == hp.Fail {
			severity = hp.Fail
		}
		ans := answer{state: state, verdict: *v}
		if v.When != "" {
			if ans.when, err = k.compile(c, v.When); err != nil {
				return nil, "", fmt.Errorf("outcomes[%d].when: %q: %w", i, v.When, err)
			}
		}
		all = append(all, ans)
	}
	return all, severity, nil
}

// id is a stable name made of the check's title.
func (p *Preflights) id(title string) string {
	slug := strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(title), "-"), "-")
	id := "vendor-" + slug
	for n := 2; slices.ContainsFunc(p.Checks, func(c hp.Check) bool { return c.ID == id }); n++ {
		id = fmt.Sprintf("vendor-%s-%d", slug, n)
	}
	return id
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
