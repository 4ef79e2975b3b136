package spec

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/ports"
	"github.com/plinthdev/plinth/internal/strictyaml"
)

// LoadBalancer gives addresses to services of type LoadBalancer: MetalLB in its layer 2 mode.
type LoadBalancer struct {
	// Exact release without a v.
	Version string `json:"version" required:"true" rule:"version-exact/addon"`
	// Free IPv4 addresses of the network of the hosts: CIDRs, or ranges first-last. Those of the flag --load-balancer-addresses replace them. Empty: every install needs the flag.
	Addresses []string `json:"addresses,omitempty" rule:"load-balancer-addresses"`
}

// Ingress is an ingress controller for the users of the application: Traefik.
type Ingress struct {
	// Exact release without a v.
	Version string `json:"version" required:"true" rule:"version-exact/addon"`
	// loadBalancer: at an address of a load balancer. hostPorts: on ports of every controller.
	Expose string `json:"expose" default:"loadBalancer" rule:"ingress-expose"`
	// Address to use of those of loadBalancer. Empty: any of them.
	Address string `json:"address" rule:"ingress-address"`
	// Port for http.
	HTTPPort int `json:"httpPort" default:"80" rule:"ingress-port"`
	// Port for https.
	HTTPSPort int `json:"httpsPort" default:"443" rule:"ingress-port"`
	// Name of a kubernetes.io/tls Secret in the namespace ingress, for hosts without a certificate of their own. Empty: a self-signed one.
	DefaultCertificate string `json:"defaultCertificate" rule:"dns-label"`
}

// Values of Ingress.Expose.
const (
	ExposeLoadBalancer = "loadBalancer"
	ExposeHostPorts    = "hostPorts"
)

// AddressRange is a range of IPv4 addresses.
type AddressRange struct{ First, Last netip.Addr }

// String returns the range as an Installer has it.
func (r AddressRange) String() string { return r.First.String() + "-" + r.Last.String() }

// Overlaps reports whether the ranges have an address in common.
func (r AddressRange) Overlaps(other AddressRange) bool {
	return r.First.Compare(other.Last) <= 0 && other.First.Compare(r.Last) <= 0
}

// Contains reports whether an address is in the range.
func (r AddressRange) Contains(a netip.Addr) bool { return r.Overlaps(AddressRange{a, a}) }

// ParseAddressRange parses a CIDR, or first-last. The error completes a sentence that begins with the value.
func ParseAddressRange(value string) (AddressRange, error) {
	if strings.Contains(value, "/") {
		p, err := netip.ParsePrefix(value)
		switch {
		case err != nil || !p.Addr().Is4():
			return AddressRange{}, errors.New("is not a range of IPv4 addresses")
		case p != p.Masked():
			return AddressRange{}, fmt.Errorf("has host bits: %s contains it", p.Masked())
		}
		return rangeOf(p), nil
	}
	first, last, ok := strings.Cut(value, "-")
	a, errA := netip.ParseAddr(first)
	b, errB := netip.ParseAddr(last)
	switch {
	case !ok || errA != nil || errB != nil || !a.Is4() || !b.Is4():
		return AddressRange{}, errors.New("is not a range of IPv4 addresses")
	case b.Less(a):
		return AddressRange{}, errors.New("has a last address below the first")
	}
	return AddressRange{a, b}, nil
}

// rangeOf returns the addresses of an IPv4 network.
func rangeOf(p netip.Prefix) AddressRange {
	last := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		last[bit/8] |= 1 << (7 - bit%8)
	}
	return AddressRange{p.Masked().Addr(), netip.AddrFrom4(last)}
}

const rangeHint = "such as 192.168.1.240-192.168.1.250, or 192.168.1.240/29"

// checkNetworkValue is CheckValue for the rules of load balancer and ingress controller.
func checkNetworkValue(rule, value string) (message, hint string) {
	switch rule {
	case "load-balancer-addresses":
		if _, err := ParseAddressRange(value); err != nil {
			return strictyaml.QuoteValue(value) + " " + err.Error(), rangeHint
		}
	case "ingress-expose":
		if value != ExposeLoadBalancer && value != ExposeHostPorts {
			return strictyaml.QuoteValue(value) + " is neither loadBalancer nor hostPorts", ""
		}
	case "ingress-address":
		if a, err := netip.ParseAddr(value); err != nil || !a.Is4() {
			return strictyaml.QuoteValue(value) + " is not an IPv4 address", "such as 192.168.1.240"
		}
	}
	return checkChartValue(rule, value)
}

// checkLoadBalancer checks the addresses of the load balancer against each other and the networks of the cluster.
func (r reader) checkLoadBalancer(s Spec) {
	const path = "spec.loadBalancer"
	l := s.LoadBalancer
	if l == nil {
		return
	}
	if len(l.Addresses) == 0 && !r.HasError(path+".addresses") {
		r.Report("load-balancer-flag", path, r.NodeAt(path+".addresses", path), "has no addresses: every install needs --load-balancer-addresses", "add addresses, unless each customer chooses them")
	}
	const proxy = "spec.k0s.config.spec.network.kubeProxy"
	if s.K0s.overlayValue("spec", "network", "kubeProxy", "mode") == "ipvs" && s.K0s.overlayValue("spec", "network", "kubeProxy", "ipvs", "strictARP") != true {
		r.Report("load-balancer-ipvs", proxy+".mode", r.findNode(proxy+".mode"), "every node answers ARP requests for the addresses of spec.loadBalancer", "set ipvs.strictARP to true beside it")
	}
	l.checkRanges(s.Network, func(i int, message, hint string) {
		at := fmt.Sprintf("%s.addresses[%d]", path, i)
		r.Report("load-balancer-addresses", at, r.findNode(at), message, hint)
	})
}

// checkRanges reports what is wrong with the addresses beside their form, by their index: they are compared with each other
// and with the networks of the cluster.
func (l LoadBalancer) checkRanges(n Network, report func(i int, message, hint string)) {
	var seen []AddressRange
	for i, value := range l.Addresses {
		a, err := ParseAddressRange(value)
		if err != nil {
			continue
		}
		for _, other := range seen {
			if a.Overlaps(other) {
				report(i, fmt.Sprintf("%s overlaps %s, which is in the list, too", value, other), "name each address once")
			}
		}
		seen = append(seen, a)
		for _, network := range [][2]string{{"podCIDR", n.PodCIDR}, {"serviceCIDR", n.ServiceCIDR}} {
			if p, err := netip.ParsePrefix(network[1]); err == nil && p.Addr().Is4() && a.Overlaps(rangeOf(p)) {
				report(i, fmt.Sprintf("%s overlaps %s %s, which the cluster uses itself", value, network[0], p), "use free addresses of the network of the hosts")
			}
		}
		for _, special := range []string{"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"} {
			if a.Overlaps(rangeOf(netip.MustParsePrefix(special))) {
				report(i, value+" contains loopback, link-local, multicast or reserved addresses", rangeHint)
			}
		}
	}
}

// contains reports whether address is one of those of the load balancer.
func (l LoadBalancer) contains(address netip.Addr) bool {
	return slices.ContainsFunc(l.Addresses, func(value string) bool {
		a, err := ParseAddressRange(value)
		return err == nil && a.Contains(address)
	})
}

// WithLoadBalancerAddresses returns a copy of the Installer, which has a load balancer, with other addresses for it. The
// error completes a sentence about them.
func (i *Installer) WithLoadBalancerAddresses(ranges []string) (*Installer, error) {
	var wrong []string
	refuse := func(message, hint string) { wrong = append(wrong, fmt.Sprintf("%s (%s)", message, hint)) }
	for _, value := range ranges {
		if message, hint := CheckValue("load-balancer-addresses", value); message != "" {
			refuse(message, hint)
		}
	}
	out, l := *i, *i.Spec.LoadBalancer
	l.Addresses, out.Spec.LoadBalancer = ranges, &l
	l.checkRanges(i.Spec.Network, func(_ int, message, hint string) { refuse(message, hint) })
	if n := i.Spec.Ingress; n != nil && n.Address != "" {
		if address, err := netip.ParseAddr(n.Address); err == nil && !l.contains(address) {
			refuse("they do not contain "+n.Address, "which spec.ingress.address of the Installer requests")
		}
	}
	if len(wrong) > 0 {
		return nil, errors.New(strings.Join(wrong, "; "))
	}
	return &out, nil
}

// checkIngress checks where the ingress controller is reached.
func (r reader) checkIngress(in *Installer) {
	const path = "spec.ingress"
	s, n := in.Spec, in.Spec.Ingress
	if n == nil || r.HasError(path) {
		return
	}
	for i, port := range []int{n.HTTPPort, n.HTTPSPort} {
		at := path + "." + []string{"httpPort", "httpsPort"}[i]
		report := func(message string) { r.Report("ingress-port", at, r.NodeAt(at, path), message, "use another port") }
		p, reserved := ports.Reserved(port, in.addOnKeys()...)
		switch {
		case r.HasError(at):
		case port < 1 || port > 65535:
			report(fmt.Sprintf("%d is outside 1 to 65535", port))
		case n.Expose == ExposeHostPorts && reserved:
			report(fmt.Sprintf("%d is used by %s on hosts of the cluster", port, p.Use))
		case n.Expose == ExposeHostPorts && s.Kotsadm != nil && s.Kotsadm.UIBindPort == port:
			report(fmt.Sprintf("%d is the port of the console (spec.kotsadm.uiBindPort)", port))
		}
	}
	if n.HTTPPort == n.HTTPSPort && !r.HasError(path+".httpPort") && !r.HasError(path+".httpsPort") {
		r.Report("ingress-port", path+".httpsPort", r.NodeAt(path+".httpsPort", path+".httpPort", path), fmt.Sprintf("%d is httpPort, too", n.HTTPSPort), "use another port")
	}
	r.checkIngressAddress(s)
}

// checkIngressAddress checks the address of the ingress controller.
func (r reader) checkIngressAddress(s Spec) {
	const path, at = "spec.ingress", "spec.ingress.address"
	n, l := s.Ingress, s.LoadBalancer
	address, err := netip.ParseAddr(n.Address)
	switch {
	case n.Expose == ExposeHostPorts && n.Address != "":
		r.Report("ingress-address", at, r.NodeAt(at), "is not used with expose: hostPorts", "remove one of them")
	case n.Expose != ExposeHostPorts && l == nil && !r.HasError("spec.loadBalancer"):
		r.Report("ingress-load-balancer", path, r.NodeAt(path), "requires loadBalancer for its address",
			"add spec.loadBalancer unless a chart of spec.charts gives addresses to services, or set expose: hostPorts")
	case err == nil && l != nil && len(l.Addresses) > 0 && !r.HasError("spec.loadBalancer") && !l.contains(address):
		r.Report("ingress-address", at, r.NodeAt(at), n.Address+" is not in spec.loadBalancer.addresses", "use one of them")
	}
}
