package spec

import (
	"regexp"
	"strconv"

	"github.com/plinthdev/plinth/internal/strictyaml"
)

// Prometheus collects metrics of the cluster, with Alertmanager, kube-state-metrics and the node exporter.
type Prometheus struct {
	// Exact release without a v.
	Version string `json:"version" required:"true" rule:"version-exact/addon"`
	// How long metrics are kept: a number of hours, days, weeks or years, such as 15d.
	Retention string `json:"retention" default:"15d" rule:"prometheus-retention"`
	// How much space metrics take at most, such as 10GB. Older ones are deleted.
	RetentionSize string `json:"retentionSize" default:"10GB" rule:"prometheus-size"`
}

// The limits of Prometheus, as its flags have them. It does not start with more than 292 years (prometheus/common,
// model.ParseDuration): the digits of each unit keep it below 274.
var (
	retentionPattern     = regexp.MustCompile(`^([1-9][0-9]{0,4}[hd]|[1-9][0-9]{0,3}w|[1-9][0-9]?y)$`)
	retentionSizePattern = regexp.MustCompile(`^[1-9][0-9]{0,4}(MB|GB|TB)$`)
)

// checkPrometheusValue is CheckValue for the rules of spec.prometheus.
func checkPrometheusValue(rule, value string) (message, hint string) {
	switch {
	case rule == "prometheus-retention" && !retentionPattern.MatchString(value):
		return strictyaml.QuoteValue(value) + " is not a number of hours, days, weeks or years, at most 99y", "such as 15d"
	case rule == "prometheus-size" && !retentionSizePattern.MatchString(value):
		return strictyaml.QuoteValue(value) + " is not a size in MB, GB or TB", "such as 10GB"
	}
	return checkNetworkValue(rule, value)
}

// prometheusVolume is the size of the volume that Prometheus requests: the chart's, of which the newest metrics need some
// beside retentionSize. A volume cannot shrink, and many cannot grow, so that it does not depend on the Installer.
const prometheusVolume = 12 << 30

// Bytes returns the size that metrics may take, which lint has parsed.
func (p Prometheus) Bytes() uint64 {
	units := map[string]uint64{"MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40} // of Prometheus: powers of 1024
	number, unit := p.RetentionSize[:len(p.RetentionSize)-2], p.RetentionSize[len(p.RetentionSize)-2:]
	n, _ := strconv.ParseUint(number, 10, 64)
	return n * units[unit]
}

// checkPrometheus checks that metrics have a place.
func (r reader) checkPrometheus(s Spec) {
	const path = "spec.prometheus"
	if s.Prometheus == nil || s.LocalPathStorage != nil || r.HasError("spec.localPathStorage") {
		return
	}
	r.Report("prometheus-storage", path, r.NodeAt(path), "requires localPathStorage for its metrics",
		"add spec.localPathStorage unless a chart of spec.charts installs a default storage class")
	if at := path + ".retentionSize"; !r.HasError(at) && s.Prometheus.Bytes() > prometheusVolume*10/12 {
		r.Report("prometheus-size", at, r.NodeAt(at, path), s.Prometheus.RetentionSize+" does not fit the volume of 12 GiB, whose size other storage than localPathStorage can enforce",
			"use at most 10GB, or add spec.localPathStorage")
	}
}
