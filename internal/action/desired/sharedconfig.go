package desired

import (
	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/spec"
)

// SharedConfig returns the settings that must be equal on all hosts of a cluster, in
// the order in which a person would compare them. plinth is the version of this
// build, bundle the digest of the bundle.
func SharedConfig(in *spec.Installer, bundle, dataDir, plinth string) []agent.Field {
	n := in.Spec.Network
	fields := []agent.Field{
		{Name: "plinth", Value: plinth},
		{Name: "metadata.name", Value: in.Metadata.Name},
		{Name: "spec.k0s.version", Value: in.Spec.K0s.Version},
		{Name: "spec.network.podCIDR", Value: n.PodCIDR},
		{Name: "spec.network.serviceCIDR", Value: n.ServiceCIDR},
		{Name: "spec.network.nodePortRange", Value: n.NodePortRange},
		{Name: "cluster domain", Value: in.Spec.K0s.ClusterDomain()},
		{Name: "--data-dir", Value: dataDir},
	}
	if p := in.Spec.K0s.Profile(); p != spec.DefaultWorkerProfile {
		fields = append(fields, agent.Field{Name: "spec.k0s.workerProfile", Value: p})
	}
	if k := in.Spec.Kotsadm; k != nil {
		fields = append(fields, agent.Field{Name: "spec.kotsadm.namespace", Value: k.Namespace})
	}
	return append(fields, agent.Field{Name: "bundle", Value: bundle})
}

// SharedConfigDigest returns the digest of fields that a join token carries.
func SharedConfigDigest(fields []agent.Field) string {
	var text string
	for _, f := range fields {
		text += f.Name + "\x00" + f.Value + "\x00"
	}
	return digest.FromString(text).String()
}

// Diff returns the fields that differ between this host and the cluster. Each row
// holds the name, the value here and the value in the cluster.
func Diff(here, cluster []agent.Field) (rows [][3]string) {
	value := map[string]string{}
	for _, f := range here {
		value[f.Name] = f.Value
	}
	for _, f := range cluster {
		mine, known := value[f.Name]
		if !known || mine != f.Value {
			rows = append(rows, [3]string{f.Name, mine, f.Value})
		}
		delete(value, f.Name)
	}
	for _, f := range here {
		if _, left := value[f.Name]; left {
			rows = append(rows, [3]string{f.Name, f.Value, ""})
		}
	}
	return rows
}
