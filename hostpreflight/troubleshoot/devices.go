package troubleshoot

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// devicesKind returns the kind blockDevices: its conditions count the devices that are
// free for use.
func devicesKind() analyzerKind {
	return analyzerKind{title: "Block Devices", factName: func(collector) string { return facts.FactDevices },
		addRequest: func(r *facts.Request, _ hp.Requirements, _ collector, _ analyzer) { r.Devices = true },
		describe: func(f facts.Facts, _ hp.Requirements, _ collector) (string, error) {
			var free []string
			for _, d := range f.Devices {
				if d.Type == "disk" && isUnused(d, f.Devices) {
					free = append(free, fmt.Sprintf("%s (%s)", d.Name, hp.FormatBytes(d.Size)))
				}
			}
			if free == nil {
				return "no unused disk", nil
			}
			return "unused disks: " + strings.Join(free, ", "), nil
		},
		compileCondition: func(_ collector, a analyzer, text string) (condition, error) {
			return fromFactsCondition(parseDevices(a, text))
		}}
}

// parseDevices parses "sdb > 0": a regular expression for names, an operator and a number
// of unused devices.
func parseDevices(a analyzer, when string) (factsCondition, error) {
	w, err := splitWords(when, 3, 3)
	if err != nil {
		return nil, err
	}
	name, err := regexp.Compile(w[0])
	if err != nil {
		return nil, err
	}
	n, err := parseWholeNumber(w[2])
	if err != nil {
		return nil, err
	}
	if err := requireOneOf(w[1], "<", "<=", ">", ">=", "=", "==", "==="); err != nil {
		return nil, err
	}
	return compareNumber(w[1], float64(n), func(f facts.Facts) float64 {
		count := 0
		for _, d := range f.Devices {
			kind := d.Type == "disk" || d.Type == "part" && a.IncludeUnmountedPartitions || slices.Contains(a.AdditionalDeviceTypes, d.Type)
			if kind && name.MatchString(d.Name) && d.Size >= a.MinimumAcceptableSize && isUnused(d, f.Devices) {
				count++
			}
		}
		return float64(count)
	})
}

// isUnused reports whether d can be written to, is neither formatted nor mounted, and has
// no partition or other device on it.
func isUnused(d facts.BlockDevice, all []facts.BlockDevice) bool {
	return d.Mount == "" && d.FSType == "" && !d.ReadOnly && !d.Removable &&
		!slices.ContainsFunc(all, func(other facts.BlockDevice) bool { return other.Parent == d.KernelName })
}
