package spec

import (
	"regexp"

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

// The limits of Prometheus, as its flags have them.
var (
	retentionPattern     = regexp.MustCompile(`^[1-9][0-9]{0,4}[hdwy]$`)
	retentionSizePattern = regexp.MustCompile(`^[1-9][0-9]{0,4}(MB|GB|TB)$`)
)

// checkPrometheusValue is CheckValue for the rules of spec.prometheus.
func checkPrometheusValue(rule, value string) (message, hint string) {
	switch {
	case rule == "prometheus-retention" && !retentionPattern.MatchString(value):
		return strictyaml.QuoteValue(value) + " is not a number of hours, days, weeks or years", "such as 15d"
	case rule == "prometheus-size" && !retentionSizePattern.MatchString(value):
		return strictyaml.QuoteValue(value) + " is not a size in MB, GB or TB", "such as 10GB"
	}
	return checkNetworkValue(rule, value)
}

// checkPrometheus checks that metrics have a place.
func (r reader) checkPrometheus(s Spec) {
	if s.Prometheus != nil && s.LocalPathStorage == nil && !r.HasError("spec.localPathStorage") {
		r.Report("prometheus-storage", "spec.prometheus", r.NodeAt("spec.prometheus"), "requires localPathStorage for its metrics",
			"add spec.localPathStorage unless a chart of spec.charts installs a default storage class")
	}
}
