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
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/problem"
)

// Preflights contains the checks of a vendor and the requests for their facts.
type Preflights struct {
	Checks   []hp.Check
	requests []func(*facts.Request, hp.Requirements)
	ids      map[string]int // of Checks; the value is the last number that was appended to the ID
	inert    bool           // the vendor's programs do not run
}

// WithoutPrograms returns p without running the vendor's programs: the checks that read
// their output are undetermined. It is for a vendor who is not known.
func (p Preflights) WithoutPrograms() Preflights {
	p.inert = true
	return p
}

// AddRequests adds the facts that the checks need to r.
func (p Preflights) AddRequests(r *facts.Request, req hp.Requirements) {
	for _, need := range p.requests {
		need(r, req)
	}
	if p.inert {
		r.Runs = nil
	}
}

// collector says what to gather. It has the fields of all kinds.
type collector struct {
	CollectorName string   `json:"collectorName"`
	Exclude       any      `json:"exclude"`
	Path          string   `json:"path"`      // diskUsage
	Port          int      `json:"port"`      // tcpPortStatus, udpPortStatus, load balancers
	Interface     string   `json:"interface"` // tcpPortStatus, udpPortStatus
	Address       string   `json:"address"`   // tcpConnect, load balancers
	Timeout       string   `json:"timeout"`   // load balancers, run
	Directory     string   `json:"directory"` // filesystemPerformance
	Get           *httpGet `json:"get"`       // http
	Post          any      `json:"post"`
	Put           any      `json:"put"`

	CertificatePath string `json:"certificatePath"` // certificate
	KeyPath         string `json:"keyPath"`

	CIDRRangeAlloc string `json:"CIDRRangeAlloc"` // subnetAvailable
	DesiredCIDR    int    `json:"desiredCIDR"`

	Hostnames  []string `json:"hostnames"`  // dns
	MountPoint string   `json:"mountPoint"` // cgroups

	Command          string   `json:"command"` // run
	Args             []string `json:"args"`
	Env              []string `json:"env"`
	InheritEnvs      []string `json:"inheritEnvs"`
	IgnoreParentEnvs bool     `json:"ignoreParentEnvs"`
	Input            any      `json:"input"`
	OutputDir        string   `json:"outputDir"`

	packages map[string][]string // of systemPackages, by operating system, with or without its major version: rhel, rhel9
}

// analyzer says how to evaluate what was gathered. It has the fields of all kinds.
type analyzer struct {
	CheckName     string    `json:"checkName"`
	CollectorName string    `json:"collectorName"`
	Exclude       any       `json:"exclude"`
	Strict        any       `json:"strict"`
	Outcomes      []outcome `json:"outcomes"`

	MinimumAcceptableSize      uint64   `json:"minimumAcceptableSize"` // blockDevices; bytes
	IncludeUnmountedPartitions bool     `json:"includeUnmountedPartitions"`
	AdditionalDeviceTypes      []string `json:"additionalDeviceTypes"`

	FileName        string   `json:"fileName"` // textAnalyze
	RegexPattern    string   `json:"regex"`
	RegexGroups     string   `json:"regexGroups"`
	IgnoreIfNoFiles bool     `json:"ignoreIfNoFiles"`
	ExcludeFiles    []string `json:"excludeFiles"`
}

// conditions returns the conditions of a's outcomes.
func (a analyzer) conditions() (all []string) {
	for _, o := range a.Outcomes {
		if _, v := o.stateAndVerdict(); v != nil && v.When != "" {
			all = append(all, v.When)
		}
	}
	return all
}

// eachOutcome calls add for every outcome of a, and joins the errors. severity is Fail when one of them
// fails, otherwise Warn.
func (a analyzer) eachOutcome(add func(hp.State, verdict) error) (severity hp.State, err error) {
	severity = hp.Warn
	if len(a.Outcomes) == 0 {
		return "", errors.New("outcomes: must not be empty")
	}
	var wrong []error
	for i, o := range a.Outcomes {
		state, v := o.stateAndVerdict()
		if v == nil {
			wrong = append(wrong, fmt.Errorf("outcomes[%d]: must be exactly one of fail, warn and pass", i))
			continue
		}
		if state == hp.Fail {
			severity = hp.Fail
		}
		if err := add(state, *v); err != nil {
			wrong = append(wrong, fmt.Errorf("outcomes[%d].when: %q: %w", i, v.When, err))
		}
	}
	return severity, errors.Join(wrong...)
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

// Parse converts the collectors and analyzers of a HostPreflight's spec. at is its path in
// the Installer. The error joins every problem, each of them one line.
func Parse(at string, collectors, analyzers []map[string]any) (Preflights, error) {
	p := Preflights{ids: map[string]int{}}
	var wrong []error
	var files []producedFile
	byKind := map[string][]collector{}
	for i, m := range collectors {
		where := fmt.Sprintf("%s.collectors[%d]", at, i)
		name, c, err := parseCollector(m, where)
		byKind[name] = append(byKind[name], c)
		if writer, ok := fileWriters()[name]; ok && err == nil {
			produced := writer.files(c)
			for j := range produced {
				produced[j].collector = c
			}
			if slices.ContainsFunc(files, func(f producedFile) bool { return f.path == produced[0].path }) {
				err = fmt.Errorf("%s.%s: another collector also produces %s; set collectorName", where, name, produced[0].path)
			}
			files = append(files, produced...)
		}
		wrong = append(wrong, err)
	}
	for i, m := range analyzers {
		where := fmt.Sprintf("%s.analyzers[%d]", at, i)
		wrong = append(wrong, splitLines(p.addAnalyzer(m, where, byKind, files))...)
	}
	return p, errors.Join(wrong...)
}

// splitLines returns the errors that err joins, or err.
func splitLines(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// prefixEach returns err with prefix before each of the errors that it joins.
func prefixEach(prefix string, err error) error {
	var all []error
	for _, e := range splitLines(err) {
		all = append(all, fmt.Errorf("%s%w", prefix, e))
	}
	return errors.Join(all...)
}

// parseCollector parses and validates one collector m. where is its path in the Installer.
func parseCollector(m map[string]any, where string) (kind string, c collector, err error) {
	kind, err = decodeSingleKey(m, where, &c)
	switch {
	case err != nil:
		return kind, c, err
	case !slices.Contains(SupportedCollectors(), kind):
		return kind, c, fmt.Errorf("%s: collector %s is not supported; supported are: %s", where, kind, strings.Join(SupportedCollectors(), ", "))
	case c.Post != nil || c.Put != nil:
		return kind, c, fmt.Errorf("%s: http supports only get", where)
	}
	if kind == "systemPackages" {
		settings, _ := m[kind].(map[string]any)
		c.packages, err = parsePackageLists(settings)
	}
	if writer, ok := fileWriters()[kind]; ok && err == nil {
		err = writer.validate(c)
	}
	if err == nil {
		err = c.validate()
	}
	if err != nil {
		err = fmt.Errorf("%s.%s: %w", where, kind, err)
	}
	return kind, c, err
}

// validate returns an error for a setting that cannot be used, whatever the kind is.
func (c collector) validate() error {
	if c.Timeout != "" {
		if err := parseTimeout(c.Timeout); err != nil {
			return fmt.Errorf("timeout: %w", err)
		}
	}
	if c.Get != nil {
		if err := c.Get.validate(); err != nil {
			return fmt.Errorf("get.%w", err)
		}
	}
	if c.CIDRRangeAlloc != "" {
		if _, err := c.allocationRange(); err != nil {
			return err
		}
	}
	if c.Port < 0 || c.Port > 65535 {
		return fmt.Errorf("port: %d is not between 1 and 65535", c.Port)
	}
	for key, p := range map[string]string{"certificatePath": c.CertificatePath, "keyPath": c.KeyPath} {
		if p != "" && !path.IsAbs(p) {
			return fmt.Errorf("%s: %q is not an absolute path", key, p)
		}
	}
	return nil
}

// httpGet is the request of an http collector.
type httpGet struct {
	URL     string `json:"url"`
	Timeout string `json:"timeout"` // Plinth has its own, which is shorter
}

// validate returns an error for a request that cannot be sent.
func (g httpGet) validate() error {
	if u, err := url.Parse(g.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("url: must be an http or https URL with a host")
	}
	if g.Timeout != "" {
		if err := parseTimeout(g.Timeout); err != nil {
			return fmt.Errorf("timeout: %w", err)
		}
	}
	return nil
}

// letters are those of which the kinds of collectors and analyzers consist, and digits.
const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// decodeSingleKey decodes the only entry of m into to and returns its key, the kind.
func decodeSingleKey(m map[string]any, where string, to any) (kind string, err error) {
	if len(m) != 1 {
		return "", fmt.Errorf("%s: must have exactly one key, the kind of a collector or analyzer", where)
	}
	for name, body := range m {
		if name == "" || strings.Trim(name, letters) != "" {
			return "", fmt.Errorf("%s: %q is not the kind of a collector or analyzer", where, name)
		}
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
	return errors.New(cmp.Or(form.Field, "value") + " " + problem.DescribeTypeError(form))
}

// addAnalyzer adds the check of one analyzer m. where is its path in the Installer.
func (p *Preflights) addAnalyzer(m map[string]any, where string, byKind map[string][]collector, files []producedFile) error {
	var a analyzer
	name, err := decodeSingleKey(m, where, &a)
	if err != nil {
		return err
	}
	where += "." + name
	if name == textAnalyzeName {
		return p.addTextAnalyzer(a, where, files)
	}
	k, ok := analyzerKinds()[name]
	if !ok {
		return fmt.Errorf("%s: analyzer is not supported; supported are: %s", where, strings.Join(SupportedAnalyzers(), ", "))
	}
	c, err := findCollector(a, name, byKind[name], where)
	if err != nil {
		return err
	}
	flags, err := parseFlags(a, []producedFile{{collector: c}})
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	answers, severity, err := compileOutcomes(a, k, c)
	if err != nil {
		return prefixEach(where+".", err)
	}
	var request func(*facts.Request, hp.Requirements)
	if k.addRequest != nil {
		request = func(r *facts.Request, req hp.Requirements) { k.addRequest(r, req, c, a) }
	}
	p.addCheck(cmp.Or(a.CheckName, k.title), severity, flags, hp.RequireFact(k.factName(c), k.runFunc(c, answers)), request)
	return nil
}

// checkFlags are the flags of an analyzer and its collectors.
type checkFlags struct{ excluded, strict bool }

// parseFlags returns the flags of a, which evaluates files. It is excluded with the
// collector of one of them.
func parseFlags(a analyzer, files []producedFile) (checkFlags, error) {
	excluded, err1 := parseBoolOrString(a.Exclude)
	strict, err2 := parseBoolOrString(a.Strict)
	err := cmp.Or(err1, err2)
	for _, f := range files {
		without, wrong := parseBoolOrString(f.collector.Exclude)
		excluded, err = excluded || without, cmp.Or(err, wrong)
	}
	return checkFlags{excluded, strict}, err
}

// addCheck adds a check and, unless it is excluded, the request for its facts; nil for
// none.
func (p *Preflights) addCheck(title string, severity hp.State, flags checkFlags, run func(facts.Facts, hp.Requirements) hp.Result, request func(*facts.Request, hp.Requirements)) {
	check := hp.Check{ID: p.uniqueID(title), Group: "Vendor", Title: title, Severity: severity, Strict: flags.strict,
		Expected: "what the vendor requires", Rationale: "the vendor requires it (spec.hostPreflights).", Run: run}
	if flags.excluded {
		check.Run = func(facts.Facts, hp.Requirements) hp.Result { return hp.Skip("vendor", "excluded") }
	} else if request != nil {
		p.requests = append(p.requests, request)
	}
	p.Checks = append(p.Checks, check)
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
	found, err := json.Marshal(v) // one line
	return false, cmp.Or(err, fmt.Errorf("exclude and strict must be true or false, not %s", found))
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
	severity, err = a.eachOutcome(func(state hp.State, v verdict) (err error) {
		ans := compiledOutcome{state: state, verdict: v}
		if v.When != "" {
			ans.condition, err = k.compileCondition(c, a, v.When)
		}
		all = append(all, ans)
		return err
	})
	return all, severity, err
}

// uniqueID returns a check id that is built from title and unique in p.
func (p *Preflights) uniqueID(title string) string {
	slug := "vendor-" + strings.Trim(notInID.ReplaceAllString(strings.ToLower(title), "-"), "-")
	id := slug
	for p.ids[id] > 0 {
		p.ids[slug]++
		id = fmt.Sprintf("%s-%d", slug, p.ids[slug])
	}
	p.ids[id] = 1
	return id
}

// notInID matches what the ID of a check does not contain.
var notInID = regexp.MustCompile(`[^a-z0-9]+`)
