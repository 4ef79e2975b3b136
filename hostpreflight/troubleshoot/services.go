package troubleshoot

import (
	"errors"
	"fmt"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// servicesKind returns the kind hostServices.
func servicesKind() analyzerKind {
	return analyzerKind{title: "Host Services", factName: func(collector) string { return facts.FactServices },
		addRequest: func(r *facts.Request, _ hp.Requirements, _ collector, a analyzer) {
			for _, when := range a.conditions() {
				appendUnique(&r.Services, strings.Fields(when)[0])
			}
		},
		describe: func(f facts.Facts, _ hp.Requirements, _ collector) (string, error) {
			if !f.Systemd.Booted {
				return "", errors.New("this host does not run under systemd")
			}
			var all []string
			for _, s := range f.Services {
				all = append(all, fmt.Sprintf("%s %s (%s)", s.Unit, s.Active, s.Sub))
			}
			if all == nil {
				return "no such service", nil
			}
			return strings.Join(all, ", "), nil
		},
		compileCondition: compileWithoutSettings(parseService)}
}

// parseService parses "ufw.service == active,running,loaded": the beginning of a unit's
// name and what its active, sub and load states are. The last two may be missing; * and ""
// are any state. Only the first unit with such a name counts, and none fulfills no
// condition, not even !=.
func parseService(when string) (factsCondition, error) {
	w, err := splitWords(when, 3, 3)
	if err == nil {
		err = requireOneOf(w[1], "=", "==", "!=", "<>")
	}
	if err != nil {
		return nil, err
	}
	want := strings.Split(w[2], ",")
	if len(want) > 3 {
		return nil, errors.New("has more than an active, a sub and a load state")
	}
	equal := w[1][0] == '='
	return func(f facts.Facts) bool {
		for _, s := range f.Services {
			if !strings.HasPrefix(s.Unit, w[0]) {
				continue
			}
			same := true
			for i, state := range want {
				same = same && (state == "" || state == "*" || state == []string{s.Active, s.Sub, s.Load}[i])
			}
			return same == equal
		}
		return false
	}, nil
}
