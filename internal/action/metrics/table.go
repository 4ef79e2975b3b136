package metrics

import (
	"maps"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/plinthdev/plinth/internal/action/certificates"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/token"
)

// metric is one row of the table of metrics.
type metric struct {
	name    string
	help    string // what a value means; a sentence
	labels  []string
	source  source                  // without it, the metric has no samples
	samples func(snapshot) []sample // of the state of a node
}

// table returns every metric, in the order of the output. Names, labels and units are public: alerts depend on them.
// Times are in seconds since 1970, sizes in bytes; conditions are 1 or 0.
func table() []metric {
	return append(hostMetrics(), clusterMetrics()...)
}

// hostMetrics returns the metrics of the node itself.
func hostMetrics() []metric {
	return []metric{
		{"plinth_agent_info", "Version of Plinth's agent; the value is 1.", []string{"version"}, "",
			func(s snapshot) []sample { return []sample{{1, []string{s.version}}} }},
		{"plinth_node_info", "Cluster, name, role (controller or worker) and bundle of the node; the value is 1.",
			[]string{"cluster", "node", "role", "bundle"}, sourceReceipt,
			func(s snapshot) []sample {
				return []sample{{1, []string{s.receipt.Name, s.receipt.Node, s.receipt.Role, s.receipt.Bundle}}}
			}},
		{"plinth_component_info", "Version of k0s and of each add-on; the value is 1.", []string{"component", "version"}, sourceReceipt, componentSamples},
		{"plinth_node_removed", "1 if the cluster has removed this host, which has then stopped k0s.", nil, sourceReceipt,
			func(s snapshot) []sample { return condition(s.removed) }},
		{"plinth_run_active", "1 while a command changes this host.", nil, sourceJournal,
			func(s snapshot) []sample { return condition(s.active) }},
		{"plinth_run_unfinished", "1 if the last command that changed this host failed or was killed, and has to be resumed.", nil, sourceJournal,
			func(s snapshot) []sample { return condition(s.unfinished) }},
		{"plinth_run_start_timestamp_seconds", "When the last command that changed this host was started.", []string{"verb"}, sourceJournal,
			func(s snapshot) []sample {
				if s.lastVerb == "" {
					return nil
				}
				return []sample{{seconds(s.lastStart), []string{s.lastVerb}}}
			}},
		{"plinth_certificate_end_timestamp_seconds", "When a certificate ends; controllers have those of the cluster, too.",
			[]string{"name", "renewed_by"}, sourceCertificates,
			func(s snapshot) []sample {
				return certificateSamples(s, func(c certificates.Certificate) (float64, []string, bool) {
					return seconds(c.Ends), []string{c.Name, string(c.RenewedBy)}, c.Problem == ""
				})
			}},
		{"plinth_certificate_warning", "1 if a certificate cannot be read, its renewal is overdue, or users have to renew it soon.",
			[]string{"name"}, sourceCertificates,
			func(s snapshot) []sample {
				return certificateSamples(s, func(c certificates.Certificate) (float64, []string, bool) {
					return number(c.Warning(s.now) != ""), []string{c.Name}, true
				})
			}},
		{"plinth_image_content_bytes", "Size of the content of images in containerd's store, compressed.", nil, sourceImages,
			func(s snapshot) []sample { return []sample{{value: float64(s.imageBytes)}} }},
		{"plinth_filesystem_size_bytes", "Size of the file system that holds a folder of the cluster.", []string{"path"}, sourceFilesystem,
			func(s snapshot) []sample {
				return spaceSamples(s, func(sp space) uint64 { return sp.size })
			}},
		{"plinth_filesystem_available_bytes", "Free space of that file system, without what is reserved for root.", []string{"path"}, sourceFilesystem,
			func(s snapshot) []sample {
				return spaceSamples(s, func(sp space) uint64 { return sp.available })
			}},
		{"plinth_source_success", "1 if the state of this kind could be read; 0 means that its metrics are missing.", []string{"source"}, "", sourceSamples},
	}
}

// clusterMetrics returns the metrics that only controllers have.
func clusterMetrics() []metric {
	return []metric{
		{"plinth_backup_timestamp_seconds", "When this host wrote its last good backup of the control plane; 0 if it has written none.", nil, sourceBackup,
			func(s snapshot) []sample { return []sample{{value: seconds(s.backup.TakenAt)}} }},
		{"plinth_backup_size_bytes", "Size of the last good backup of the control plane; 0 if there is none.", nil, sourceBackup,
			func(s snapshot) []sample { return []sample{{value: float64(s.backup.Size)}} }},
		{"plinth_backup_failed", "1 if the last backup of the control plane on this host has failed, or the last one of its schedule failed or did not end.", nil, sourceBackup,
			func(s snapshot) []sample {
				return condition(s.backup.FailedAt != nil || s.backup.ScheduleFailed(s.now))
			}},
		{"plinth_upgrade_unfinished", "1 while an upgrade of the cluster is not finished: it runs, or has to be resumed or rolled back.", nil, sourceCluster,
			func(s snapshot) []sample { return condition(s.cluster.upgrade.Active()) }},
		{"plinth_admitted_nodes", "Number of nodes that the cluster has admitted.", []string{"role"}, sourceCluster,
			func(s snapshot) []sample {
				return roleSamples(func(role string) int {
					return countNodes(s.cluster.nodes, func(n kube.NodeRecord) bool { return n.Role == role })
				})
			}},
		{"plinth_joining_controllers", "Number of controllers that were admitted, but are no voters of etcd yet.", nil, sourceCluster,
			func(s snapshot) []sample {
				joining := countNodes(s.cluster.nodes, func(n kube.NodeRecord) bool { return n.Role == token.Controller && !n.Joined })
				return []sample{{value: float64(joining)}}
			}},
		{"plinth_join_tokens", "Number of join tokens with which hosts can join now.", []string{"role"}, sourceCluster,
			func(s snapshot) []sample {
				return roleSamples(func(role string) int { return len(activeTokens(s.cluster.tokens, role)) })
			}},
		{"plinth_join_token_uses_left", "Number of hosts that can still join with these tokens.", []string{"role"}, sourceCluster,
			func(s snapshot) []sample {
				return roleSamples(func(role string) (n int) {
					for _, t := range activeTokens(s.cluster.tokens, role) {
						n += t.UsesLeft
					}
					return n
				})
			}},
	}
}

// seconds returns t as the text format has it; 0 for the zero time.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}

// number returns 1 for true and 0 for false.
func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// condition returns the one sample of a metric without labels.
func condition(yes bool) []sample { return []sample{{value: number(yes)}} }

// componentSamples returns a sample for each component that is installed.
func componentSamples(s snapshot) (all []sample) {
	for _, name := range slices.Sorted(maps.Keys(s.receipt.Versions)) {
		all = append(all, sample{1, []string{name, s.receipt.Versions[name]}})
	}
	return all
}

// certificateSamples returns a sample for each certificate of the host, and of the cluster if they could be read. of returns
// its value and labels, or false for none.
func certificateSamples(s snapshot, of func(certificates.Certificate) (float64, []string, bool)) (all []sample) {
	for _, c := range slices.Concat(s.certificates, s.cluster.certificates) {
		if value, labels, ok := of(c); ok {
			all = append(all, sample{value, labels})
		}
	}
	return all
}

// spaceSamples returns a sample for each folder.
func spaceSamples(s snapshot, of func(space) uint64) (all []sample) {
	for _, sp := range s.spaces {
		all = append(all, sample{float64(of(sp)), []string{sp.path}})
	}
	return all
}

// sourceSamples returns a sample for each source of this node.
func sourceSamples(s snapshot) (all []sample) {
	for _, name := range slices.Sorted(maps.Keys(s.read)) {
		all = append(all, sample{number(s.read[name]), []string{string(name)}})
	}
	return all
}

// roleSamples returns a sample for each role.
func roleSamples(count func(role string) int) (all []sample) {
	for _, role := range []string{token.Controller, token.Worker} {
		all = append(all, sample{float64(count(role)), []string{role}})
	}
	return all
}

// countNodes returns the number of nodes for which is returns true.
func countNodes(all kube.NodeRecords, is func(kube.NodeRecord) bool) (n int) {
	for _, r := range all {
		if is(r) {
			n++
		}
	}
	return n
}

// activeTokens returns the tokens with which hosts can join in a role.
func activeTokens(all []token.Record, role string) []token.Record {
	return slices.DeleteFunc(slices.Clone(all), func(t token.Record) bool { return t.Role != role || t.State != token.Active })
}

// families returns the metrics of a node with the state s, without those that have no samples. All are gauges: values that
// go up and down.
func families(s snapshot) (all []*dto.MetricFamily) {
	for _, m := range table() {
		if m.source != "" && !s.read[m.source] {
			continue
		}
		f := &dto.MetricFamily{Name: &m.name, Help: &m.help, Type: dto.MetricType_GAUGE.Enum()}
		for _, v := range m.samples(s) {
			f.Metric = append(f.Metric, v.metric(m.labels))
		}
		if len(f.Metric) > 0 {
			all = append(all, f)
		}
	}
	return all
}

// sample is one value of a metric, with a value for each of its labels.
type sample struct {
	value  float64
	labels []string
}

// metric returns the sample with the names of its labels.
func (v sample) metric(names []string) *dto.Metric {
	out := &dto.Metric{Gauge: &dto.Gauge{Value: &v.value}}
	for i := range names {
		value := strings.ToValidUTF8(v.labels[i], "\uFFFD") // Prometheus refuses the whole scrape otherwise
		out.Label = append(out.Label, &dto.LabelPair{Name: &names[i], Value: &value})
	}
	return out
}
