package troubleshoot

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/hostpreflight/troubleshoot/when"
	"github.com/plinthdev/plinth/internal/facts"
)

// analyzerKind is one kind of collector and analyzer.
type kind struct {
	title   string
	fact    func(collector) string
	needs   func(collector) bool // reports whether the collector has the settings that it needs; nil if it needs none
	need    func(*facts.Request, hp.Want, collector, analyzer)
	found   func(facts.Facts, hp.Want, collector) (string, error) // returns what was found; an error if it is not known
	compile func(c collector, text string) (condition, error)
	each    func(collector, []answer) func(facts.Facts, hp.Want) hp.Result // returns the check's Run if it differs from the result of runFunc; nil otherwise
	all     bool                                                           // every outcome that applies counts, those without a condition last (kernelModules)
}

// SupportedKinds returns the names of the supported collectors and analyzers, sorted.
func Supported() []string { return slices.Sorted(maps.Keys(kinds())) }

// analyzerKinds returns the supported kinds by their name.
func kinds() map[string]kind {
	is := func(fact string) func(collector) string { return func(collector) string { return fact } }
	return map[string]kind{
		"cpu":    {title: "Number of CPUs", fact: is(facts.FactCPU), found: cpus, compile: plain(when.CPU)},
		"memory": {title: "Amount of Memory", fact: is(facts.FactMemory), found: memoryFound, compile: plain(when.Memory)},
		"hostOS": {title: "Host OS Info", fact: is(facts.FactOS), found: osFound, compile: plain(when.HostOS)},
		"time":   {title: "Time", fact: is(facts.FactSync), need: timeUnits, found: timeFound, compile: plain(when.Timing)},
		"sysctl": {title: "Sysctl", fact: is(facts.FactSettings), need: sysctlKeys, found: sysctlFound, compile: plain(when.Sysctl)},
		"ipv4Interfaces": {title: "IPv4 Interfaces", fact: is(facts.FactNetwork), compile: plain(when.Interfaces),
			found: func(f facts.Facts, _ hp.Want, _ collector) (string, error) {
				return hp.Count(when.Interfaces4(f), "interface") + " with an IPv4 address", nil
			}},
		"kernelModules": {title: "Kernel Modules", fact: is(facts.FactKernel), need: modules, found: modulesFound, compile: plain(when.Module), all: true},
		"diskUsage": {title: "Disk Usage", fact: func(c collector) string { return facts.FactDisk + ":" + c.Path }, needs: func(c collector) bool { return c.Path != "" },
			need:  func(r *facts.Request, _ hp.Want, c collector, _ analyzer) { once(&r.Paths, c.Path) },
			found: diskFound, compile: func(c collector, text string) (condition, error) { return asked(when.Disk(c.Path, text)) }},
		"tcpPortStatus": ports("tcp", "TCP Port Status"),
		"udpPortStatus": ports("udp", "UDP Port Status"),
		"tcpConnect": {title: "TCP Connection Attempt", fact: func(c collector) string { return facts.FactDial + ":" + c.Address }, needs: func(c collector) bool { return c.Address != "" },
			need:  func(r *facts.Request, _ hp.Want, c collector, _ analyzer) { once(&r.Dials, c.Address) },
			found: dialFound, compile: dialled},
		"http": {title: "HTTP Request", fact: func(c collector) string { return facts.FactSource + ":" + c.Get.URL }, needs: func(c collector) bool { return c.Get != nil && c.Get.URL != "" },
			need:  func(r *facts.Request, _ hp.Want, c collector, _ analyzer) { once(&r.Sources, c.Get.URL) },
			found: httpFound, compile: func(c collector, text string) (condition, error) { return asked(when.HTTP(c.Get.URL, text)) }},
		"systemPackages":        packagesKind(),
		"filesystemPerformance": {title: "Filesystem Performance", fact: is(facts.FactMeasure + ":fsync"), need: fsync, found: fsyncFound, compile: plain(when.Latency)},
	}
}

// compileWithoutSettings returns a compile function for conditions that do not use the
// settings of a collector. read parses the text of a condition.
func plain(read func(string) (when.Condition, error)) func(collector, string) (condition, error) {
	return func(_ collector, text string) (condition, error) { return asked(read(text)) }
}

// fromFactsCondition returns a condition that uses the facts only.
func asked(c when.Condition, err error) (condition, error) {
	return func(f facts.Facts, _ hp.Want) bool { return c(f) }, err
}

// validateSettings returns an error when collector c does not have the settings that
// its kind needs. where is the path of the analyzer in the Installer.
func (k kind) settled(c collector, where string) error {
	if k.needs != nil && !k.needs(c) {
		return fmt.Errorf("%s: it needs a collector of the same kind with settings", where)
	}
	if c.Interface != "" && c.Interface != "lo" {
		return fmt.Errorf("%s: the only supported interface of its collector is lo", where)
	}
	return nil
}

// runFunc returns the Run function of a check: its result is the first of answers that
// applies, or the worst one for kinds with allOutcomes.
func (k kind) run(c collector, answers []answer) func(facts.Facts, hp.Want) hp.Result {
	if k.each != nil {
		return k.each(c, answers)
	}
	return func(f facts.Facts, req hp.Want) hp.Result {
		found, err := k.found(f, req, c)
		if errors.Is(err, errQuick) {
			return hp.Skip("user", "--quick")
		}
		if err != nil {
			return hp.CannotTell(err.Error())
		}
		var all []hp.Result
		for _, conditional := range []bool{true, false} {
			for _, a := range answers {
				if k.all && conditional != (a.when != nil) || !k.all && !conditional {
					continue
				}
				if (a.when == nil || a.when(f, req)) && (a.when != nil || all == nil) {
					all = append(all, a.result(found))
				}
				if len(all) > 0 && !k.all {
					return all[0]
				}
			}
		}
		if all == nil {
			return hp.CannotTell("no outcome of the vendor applies to: " + found)
		}
		return hp.Worst(all)
	}
}

// toResult returns the outcome as the result of a check that found found.
func (a answer) result(found string) hp.Result {
	r := hp.Result{State: a.state, Found: found, Wanted: a.verdict.Message}
	if a.state == hp.Pass {
		return r
	}
	r.Fix = or(a.verdict.Message, "ask the vendor for the requirement")
	if a.verdict.URI != "" {
		r.Fix += "\nsee " + a.verdict.URI
	}
	return r
}

// appendUnique appends s to all unless it is already there.
func once(all *[]string, s string) {
	if !slices.Contains(*all, s) {
		*all = append(*all, s)
	}
}

// portStatusKind returns the kind for ports of protocol, which are bound like those of
// the built-in checks.
func ports(protocol, title string) kind {
	key := func(c collector) facts.PortKey {
		k := facts.PortKey{Number: c.Port, Protocol: protocol}
		if c.Interface == "lo" {
			k.Address = "127.0.0.1"
		}
		return k
	}
	status := func(f facts.Facts, req hp.Want, c collector) string {
		p, _ := f.Port(key(c))
		switch {
		case p.Free, req.Ours.Owner(p.Owner):
			return "connected"
		case p.Error == "EADDRINUSE":
			return "address-in-use"
		}
		return "error"
	}
	return kind{title: title, fact: func(c collector) string { return facts.FactPort + ":" + key(c).String() }, needs: func(c collector) bool { return c.Port != 0 },
		need: func(r *facts.Request, _ hp.Want, c collector, _ analyzer) {
			if !slices.Contains(r.Ports, key(c)) {
				r.Ports = append(r.Ports, key(c))
			}
		},
		found: func(f facts.Facts, req hp.Want, c collector) (string, error) {
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
		compile: func(c collector, text string) (condition, error) {
			return func(f facts.Facts, req hp.Want) bool { return status(f, req, c) == text }, when.OneOf(text, "connected", "address-in-use", "connection-refused", "connection-timeout", "error")
		}}
}

// describeDial returns what was found for the analyzer tcpConnect.
func dialFound(f facts.Facts, _ hp.Want, c collector) (string, error) {
	for _, d := range f.Dials {
		if d.Address == c.Address {
			return c.Address + " " + d.Status, nil
		}
	}
	return "", errors.New("no connection was tried to " + c.Address)
}

// compileDialStatus compiles a condition of the analyzer tcpConnect, which is a status.
func dialled(c collector, text string) (condition, error) {
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		return nil, err
	}
	return func(f facts.Facts, _ hp.Want) bool {
		return slices.Contains(f.Dials, facts.Dial{Address: c.Address, Status: text})
	}, when.OneOf(text, "connected", "connection-refused", "connection-timeout", "error")
}

// describeHTTP returns what was found for the analyzer http.
func httpFound(f facts.Facts, _ hp.Want, c collector) (string, error) {
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
