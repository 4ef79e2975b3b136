package spec

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/plinthdev/plinth/internal/ports"
	"github.com/plinthdev/plinth/internal/strictyaml"
)

// checkRule returns why value breaks rule and how to fix it; message is empty if it
// does not.
func checkRule(rule, value string) (message, hint string) {
	want, fixed := map[string]string{"api-version": APIVersion, "kind": Kind}[rule]
	if !fixed {
		return CheckValue(rule, value)
	}
	if value != want {
		return "must be " + want + ", found " + strictyaml.QuoteValue(value), ""
	}
	return "", ""
}

// checkRelations checks rules that need more than one value or a table.
func (r reader) checkRelations(in *Installer) {
	r.checkNetworks(in.Spec.Network)
	r.checkK0sConfig(in.Spec.K0s)
	r.checkVelero(in.Spec)
	r.checkLoadBalancer(in.Spec)
	r.checkIngress(in)
	r.checkPrometheus(in.Spec)
	r.checkBackup(in.Spec.Backup)
	r.checkTrustedCAs(in)
	r.checkCharts(in)
	k := in.Spec.Kotsadm
	if k == nil || r.HasError("spec.kotsadm") {
		return
	}
	if k.ApplicationSlug == "" {
		k.ApplicationSlug = in.Metadata.Name
	}
	r.checkUIPort(k.UIBindPort, in.Spec.Network, in.addOnKeys())
	if in.Spec.LocalPathStorage == nil && !r.HasError("spec.localPathStorage") {
		r.Report("kotsadm-storage", "spec.kotsadm", r.NodeAt("spec.kotsadm"), "requires localPathStorage for its data",
			"add spec.localPathStorage unless a chart of spec.charts installs a default storage class")
	}
}

// checkVelero checks that the object store for snapshots has a place, and that it is used.
func (r reader) checkVelero(s Spec) {
	const store = "spec.velero.objectStore"
	v := s.Velero
	switch {
	case v == nil || r.HasError("spec.velero"):
	case v.ObjectStore.Mode == ObjectStoreNone && v.ObjectStore.Folder != "":
		r.Report("object-store-folder", store+".folder", r.NodeAt(store+".folder"), "is not used with the mode none", "remove one of them")
	case v.ObjectStore.Mode != ObjectStoreNone && v.ObjectStore.Folder == "" && s.LocalPathStorage == nil && !r.HasError("spec.localPathStorage"):
		r.Report("velero-storage", "spec.velero", r.NodeAt("spec.velero"), "requires localPathStorage for its object store",
			"add spec.localPathStorage or set objectStore.folder, unless a chart in spec.k0s.config installs a default storage class")
	}
}

// checkNetworks checks the size and the addresses of the cluster networks and that
// they do not overlap.
func (r reader) checkNetworks(n Network) {
	const pod, service = "spec.network.podCIDR", "spec.network.serviceCIDR"
	type network struct {
		path, value       string
		shortest, longest int // prefix lengths: the limits of kube-controller-manager and kube-apiserver, and of Plinth
	}
	var prefixes []netip.Prefix
	for _, c := range []network{{pod, n.PodCIDR, 8, 24}, {service, n.ServiceCIDR, 12, 24}} {
		p, err := netip.ParsePrefix(c.value)
		if err != nil || r.HasError(c.path) {
			continue
		}
		prefixes = append(prefixes, p)
		if p.Bits() < c.shortest || p.Bits() > c.longest {
			r.Report("cidr-size", c.path, r.NodeAt(c.path), fmt.Sprintf("%s must be between /%d and /%d", p, c.shortest, c.longest), "")
		}
		if overlapsAny(p, "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3") {
			r.Report("cidr-special", c.path, r.NodeAt(c.path), p.String()+" contains loopback, link-local, multicast or reserved addresses", "use private addresses such as 10.244.0.0/16")
		} else if !insideAny(p, "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10") {
			r.Report("cidr-public", c.path, r.NodeAt(c.path), p.String()+" contains public addresses", "use private addresses such as 10.244.0.0/16")
		}
	}
	if len(prefixes) == 2 && prefixes[0].Overlaps(prefixes[1]) {
		path := service
		if r.NodeAt(service) == nil {
			path = pod
		}
		r.Report("cidr-overlap", path, r.NodeAt(path),
			fmt.Sprintf("podCIDR %s and serviceCIDR %s overlap", prefixes[0], prefixes[1]), "use separate networks, such as 10.244.0.0/16 and 10.96.0.0/12")
	}
	if _, last, err := ParsePortRange(n.NodePortRange); err == nil && last >= 32768 {
		r.Report("node-port-ephemeral", "spec.network.nodePortRange", r.NodeAt("spec.network.nodePortRange"),
			n.NodePortRange+" overlaps the kernel's ports for outgoing connections, 32768-60999", "end it at 32767")
	}
}

// overlapsAny reports whether p overlaps any of the networks.
func overlapsAny(p netip.Prefix, others ...string) bool {
	return slices.ContainsFunc(others, func(o string) bool { return netip.MustParsePrefix(o).Overlaps(p) })
}

// insideAny reports whether one of the networks contains all of p.
func insideAny(p netip.Prefix, others ...string) bool {
	return slices.ContainsFunc(others, func(s string) bool {
		o := netip.MustParsePrefix(s)
		return o.Contains(p.Addr()) && o.Bits() <= p.Bits()
	})
}

// checkUIPort checks that the port of the console is free on hosts and inside the
// range of node ports.
func (r reader) checkUIPort(port int, n Network, addOns []string) {
	const path = "spec.kotsadm.uiBindPort"
	if r.HasError(path) {
		return
	}
	at := r.NodeAt(path, "spec.network.nodePortRange", "spec.kotsadm")
	if p, reserved := ports.Reserved(port, addOns...); reserved {
		r.Report("ui-port", path, at, fmt.Sprintf("%d is used by %s on hosts of the cluster", port, p.Use), "use another port, such as 8800")
		return
	}
	if first, last, err := ParsePortRange(n.NodePortRange); err == nil && (port < first || port > last) {
		r.Report("ui-port", path, at, fmt.Sprintf("%d is outside nodePortRange %s", port, n.NodePortRange), "")
	}
}
