package troubleshoot

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// analyzerKind is one kind of collector and analyzer.
type analyzerKind struct {
	title            string
	factName         func(collector) string
	hasSettings      func(collector) bool // reports whether the collector has the settings that it needs; nil if it needs none
	addRequest       func(*facts.Request, hp.Requirements, collector, analyzer)
	describe         func(facts.Facts, hp.Requirements, collector) (string, error) // returns what was found; an error if it is not known
	compileCondition func(c collector, a analyzer, text string) (condition, error)
	runEach          func(collector, []compiledOutcome) func(facts.Facts, hp.Requirements) hp.Result // returns the check's Run if it differs from the result of runFunc; nil otherwise
	allOutcomes      bool                                                                            // every outcome that applies counts, those without a condition last (kernelModules)
}

// SupportedCollectors returns the names of the supported collectors, sorted. textAnalyze
// evaluates what some of them would write to files; these have no analyzer of their own.
func SupportedCollectors() []string {
	return slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Keys(analyzerKinds())), slices.Collect(maps.Keys(fileWriters())))))
}

// SupportedAnalyzers returns the names of the supported analyzers, sorted.
func SupportedAnalyzers() []string {
	return slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(analyzerKinds())), textAnalyzeName)))
}

// analyzerKinds returns the kinds that are both a collector and its analyzer, by their
// name.
func analyzerKinds() map[string]analyzerKind {
	is := func(fact string) func(collector) string { return func(collector) string { return fact } }
	return map[string]analyzerKind{
		"cpu":    {title: "Number of CPUs", factName: is(facts.FactCPU), describe: describeCPUs, compileCondition: compileWithoutSettings(parseCPU)},
		"memory": {title: "Amount of Memory", factName: is(facts.FactMemory), describe: describeMemory, compileCondition: compileWithoutSettings(parseMemory)},
		"hostOS": {title: "Host OS Info", factName: is(facts.FactOS), describe: describeOS, compileCondition: compileWithoutSettings(parseHostOS)},
		"time":   {title: "Time", factName: is(facts.FactClockSync), addRequest: requestTimeUnits, describe: describeTime, compileCondition: compileWithoutSettings(parseTime)},
		"sysctl": {title: "Sysctl", factName: is(facts.FactSettings), addRequest: requestSysctls, describe: describeSysctls, compileCondition: compileWithoutSettings(parseSysctl)},
		"ipv4Interfaces": {title: "IPv4 Interfaces", factName: is(facts.FactNetwork), compileCondition: compileWithoutSettings(parseInterfaces),
			describe: func(f facts.Facts, _ hp.Requirements, _ collector) (string, error) {
				return hp.FormatCount(countIPv4Interfaces(f), "interface") + " with an IPv4 address", nil
			}},
		"kernelModules": {title: "Kernel Modules", factName: is(facts.FactKernel), addRequest: requestModules, describe: describeModules, compileCondition: compileWithoutSettings(parseModule), allOutcomes: true},
		"diskUsage": {title: "Disk Usage", factName: func(c collector) string { return facts.FactDisk + ":" + c.Path }, hasSettings: func(c collector) bool { return c.Path != "" },
			addRequest: func(r *facts.Request, _ hp.Requirements, c collector, _ analyzer) { appendUnique(&r.Paths, c.Path) },
			describe:   describeDisk, compileCondition: func(c collector, _ analyzer, text string) (condition, error) {
				return fromFactsCondition(parseDisk(c.Path, text))
			}},
		"tcpPortStatus": portStatusKind("tcp", "TCP Port Status"),
		"udpPortStatus": portStatusKind("udp", "UDP Port Status"),
		"tcpConnect": {title: "TCP Connection Attempt", factName: func(c collector) string { return facts.FactDial + ":" + c.Address }, hasSettings: func(c collector) bool { return c.Address != "" },
			addRequest: func(r *facts.Request, _ hp.Requirements, c collector, _ analyzer) { appendUnique(&r.Dials, c.Address) },
			describe:   describeDial, compileCondition: compileDialStatus},
		"http": {title: "HTTP Request", factName: func(c collector) string { return facts.FactSource + ":" + c.Get.URL }, hasSettings: func(c collector) bool { return c.Get != nil && c.Get.URL != "" },
			addRequest: func(r *facts.Request, _ hp.Requirements, c collector, _ analyzer) {
				appendUnique(&r.Sources, c.Get.URL)
			},
			describe: describeHTTP, compileCondition: func(c collector, _ analyzer, text string) (condition, error) {
				return fromFactsCondition(parseHTTP(c.Get.URL, text))
			}},
		"systemPackages":        packagesKind(),
		"blockDevices":          devicesKind(),
		"hostServices":          servicesKind(),
		"certificate":           certificateKind(),
		"subnetAvailable":       subnetKind(),
		"tcpLoadBalancer":       balancerKind("TCP Load Balancer", false),
		"httpLoadBalancer":      balancerKind("HTTP Load Balancer", true),
		"filesystemPerformance": {title: "Filesystem Performance", factName: is(facts.FactMeasure + ":fsync"), addRequest: requestFsync, describe: describeFsync, compileCondition: compileWithoutSettings(parseLatency)},
	}
}

// compileWithoutSettings returns a compile function for conditions that do not use the
// settings of a collector. read parses the text of a condition.
func compileWithoutSettings(read func(string) (factsCondition, error)) func(collector, analyzer, string) (condition, error) {
	return func(_ collector, _ analyzer, text string) (condition, error) { return fromFactsCondition(read(text)) }
}

// fromFactsCondition returns a condition that uses the facts only.
func fromFactsCondition(c factsCondition, err error) (condition, error) {
	return func(f facts.Facts, _ hp.Requirements) bool { return c(f) }, err
}

// validateSettings returns an error when collector c does not have the settings that
// its kind needs. where is the path of the analyzer in the Installer.
func (k analyzerKind) validateSettings(c collector, where string) error {
	if k.hasSettings != nil && !k.hasSettings(c) {
		return fmt.Errorf("%s: it needs a collector of the same kind with settings", where)
	}
	if c.Interface != "" && c.Interface != "lo" {
		return fmt.Errorf("%s: the only supported interface of its collector is lo", where)
	}
	return nil
}

// runFunc returns the Run function of a check: its result is the first of answers that
// applies, or the worst one for kinds with allOutcomes.
func (k analyzerKind) runFunc(c collector, answers []compiledOutcome) func(facts.Facts, hp.Requirements) hp.Result {
	if k.runEach != nil {
		return k.runEach(c, answers)
	}
	return func(f facts.Facts, req hp.Requirements) hp.Result {
		found, err := k.describe(f, req, c)
		var skipped skipError
		if errors.As(err, &skipped) {
			return hp.Skip(skipped.by, skipped.reason)
		}
		if err != nil {
			return hp.Undetermined(err.Error())
		}
		var all []hp.Result
		for _, conditional := range []bool{true, false} {
			for _, a := range answers {
				if k.allOutcomes && conditional != (a.condition != nil) || !k.allOutcomes && !conditional {
					continue
				}
				if (a.condition == nil || a.condition(f, req)) && (a.condition != nil || all == nil) {
					all = append(all, a.toResult(found))
				}
				if len(all) > 0 && !k.allOutcomes {
					return all[0]
				}
			}
		}
		if all == nil {
			return hp.Undetermined("no outcome of the vendor applies to: " + found)
		}
		return hp.WorstResult(all)
	}
}

// toResult returns the outcome as the result of a check that found found.
func (a compiledOutcome) toResult(found string) hp.Result {
	r := hp.Result{State: a.state, Found: found, Expected: a.verdict.Message}
	if a.state == hp.Pass {
		return r
	}
	r.Fix = cmp.Or(a.verdict.Message, "ask the vendor for the requirement")
	if a.verdict.URI != "" {
		r.Fix += "\nsee " + a.verdict.URI
	}
	return r
}

// appendUnique appends s to all unless it is already there.
func appendUnique(all *[]string, s string) {
	if !slices.Contains(*all, s) {
		*all = append(*all, s)
	}
}

// portStatusKind returns the kind for ports of protocol, which are bound like those of
// the built-in checks.
func portStatusKind(protocol, title string) analyzerKind {
	key := func(c collector) facts.PortKey {
		k := facts.PortKey{Number: c.Port, Protocol: protocol}
		if c.Interface == "lo" {
			k.Address = "127.0.0.1"
		}
		return k
	}
	status := func(f facts.Facts, req hp.Requirements, c collector) string {
		p, _ := f.Port(key(c))
		switch {
		case p.Free, req.Owned.HasProcess(p.Owner):
			return "connected"
		case p.Error == "EADDRINUSE":
			return "address-in-use"
		}
		return "error"
	}
	return analyzerKind{title: title, factName: func(c collector) string { return facts.FactPort + ":" + key(c).String() }, hasSettings: func(c collector) bool { return c.Port != 0 },
		addRequest: func(r *facts.Request, _ hp.Requirements, c collector, _ analyzer) {
			if !slices.Contains(r.Ports, key(c)) {
				r.Ports = append(r.Ports, key(c))
			}
		},
		describe: func(f facts.Facts, req hp.Requirements, c collector) (string, error) {
			p, ok := f.Port(key(c))
			s := fmt.Sprintf("%s %s", key(c), status(f, req, c))
			if !ok {
				return "", fmt.Errorf("%s: binding was not tried", key(c))
			}
			if p.Owner != nil {
				s += fmt.Sprintf(" by pid %d (%s)", p.Owner.PID, p.Owner.Program)
			}
			return s, nil
		},
		compileCondition: func(c collector, _ analyzer, text string) (condition, error) {
			return func(f facts.Facts, req hp.Requirements) bool { return status(f, req, c) == text }, requireOneOf(text, networkStatuses()...)
		}}
}

// describeDial returns what was found for the analyzer tcpConnect.
func describeDial(f facts.Facts, _ hp.Requirements, c collector) (string, error) {
	for _, d := range f.Dials {
		if d.Address == c.Address {
			return c.Address + " " + d.Status, nil
		}
	}
	return "", errors.New("no connection was tried to " + c.Address)
}

// compileDialStatus compiles a condition of the analyzer tcpConnect, which is a status.
func compileDialStatus(c collector, _ analyzer, text string) (condition, error) {
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		return nil, err
	}
	return func(f facts.Facts, _ hp.Requirements) bool {
		return slices.Contains(f.Dials, facts.Dial{Address: c.Address, Status: text})
	}, requireOneOf(text, networkStatuses()...)
}

// describeHTTP returns what was found for the analyzer http.
func describeHTTP(f facts.Facts, _ hp.Requirements, c collector) (string, error) {
	for _, s := range f.Sources {
		switch {
		case s.URL != c.Get.URL:
		case s.Error != "":
			return s.URL + ": " + s.Error, nil
		default:
			return fmt.Sprintf("%s responds with status %d", s.URL, s.Status), nil
		}
	}
	return "", errors.New(c.Get.URL + " was not requested")
}
