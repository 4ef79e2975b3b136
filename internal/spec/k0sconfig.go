package spec

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/spec/strict"
)

// OwnedField is a field of k0s's ClusterConfig that spec.k0s.config may not set.
type OwnedField struct {
	Path string // below the ClusterConfig; all that is below it is owned too
	Why  string // who sets it, or where to set it instead
}

// OwnedFields lists what Plinth owns of the ClusterConfig.
func OwnedFields() []OwnedField {
	const (
		fixed  = "Plinth writes it"
		host   = "it differs from host to host, and Plinth takes the node's address"
		ports  = "preflights and joining hosts count on the port of k0s"
		images = "the bundle names every image by digest"
		router = "the bundle brings kube-router, IPv4"
	)
	return []OwnedField{
		{"apiVersion", fixed}, {"kind", fixed}, {"metadata", fixed}, {"status", fixed},
		{"spec.api.address", host},
		{"spec.api.port", ports}, {"spec.api.k0sApiPort", ports}, {"spec.api.extraArgs.secure-port", ports},
		{"spec.api.extraArgs.advertise-address", host},
		{"spec.api.extraArgs.service-node-port-range", "set spec.network.nodePortRange of the Installer"},
		{"spec.api.extraArgs.service-cluster-ip-range", "set spec.network.serviceCIDR of the Installer"},
		{"spec.controllerManager.extraArgs.cluster-cidr", "set spec.network.podCIDR of the Installer"},
		{"spec.controllerManager.extraArgs.service-cluster-ip-range", "set spec.network.serviceCIDR of the Installer"},
		{"spec.network.podCIDR", "set spec.network.podCIDR of the Installer"},
		{"spec.network.serviceCIDR", "set spec.network.serviceCIDR of the Installer"},
		{"spec.network.provider", router}, {"spec.network.calico", router}, {"spec.network.dualStack", router},
		{"spec.network.nodeLocalLoadBalancing", "it needs an image that no bundle holds"},
		{"spec.konnectivity.adminPort", ports}, {"spec.konnectivity.agentPort", ports},
		{"spec.images", images},
		{"spec.storage.type", "the cluster's state is in k0s's own etcd"}, {"spec.storage.kine", "the cluster's state is in k0s's own etcd"},
		{"spec.storage.etcd.externalCluster", "the cluster's state is in k0s's own etcd"},
		{"spec.storage.etcd.peerAddress", host},
	}
}

// k0sConfig checks the top of the overlay and the fields that Plinth owns; the
// rest of it is for k0s's own types to judge.
func (r reader) k0sConfig() {
	const path = "spec.k0s.config"
	root := r.At(path)
	if root == nil || root.Kind != yaml.MappingNode {
		return
	}
	known := []string{"apiVersion", "kind", "metadata", "spec", "status"}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if key := root.Content[i]; key.Kind == yaml.ScalarNode && !slices.Contains(known, key.Value) {
			r.Report("k0s-config", strict.Join(path, key.Value), key, "is not a key of a ClusterConfig", "its settings are below "+path+".spec")
		}
	}
	if key, spec := strict.Child(root, "spec"); key != nil && spec.Kind != yaml.MappingNode {
		r.Report("wrong-type", path+".spec", spec, "must be a mapping, found "+strict.Found(spec), "")
	}
	for _, owned := range OwnedFields() {
		n, key := root, (*yaml.Node)(nil)
		for name := range strings.SplitSeq(owned.Path, ".") {
			if key, n = strict.Child(n, name); n == nil {
				break
			}
		}
		if key != nil {
			r.Report("k0s-config", path+"."+owned.Path, key, "this field is Plinth's", owned.Why)
		}
	}
}
