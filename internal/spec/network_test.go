package spec_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/spec"
)

func TestParseAddressRange(t *testing.T) {
	for value, want := range map[string]string{
		"192.168.1.240/28":            "192.168.1.240-192.168.1.255",
		"10.0.0.0/8":                  "10.0.0.0-10.255.255.255",
		"0.0.0.0/0":                   "0.0.0.0-255.255.255.255",
		"192.168.1.7/32":              "192.168.1.7-192.168.1.7",
		"192.168.1.7-192.168.1.7":     "192.168.1.7-192.168.1.7",
		"192.168.1.250-192.168.2.3":   "192.168.1.250-192.168.2.3",
		"192.168.1.241/28":            "",
		"192.168.1.250-192.168.1.249": "",
		"192.168.1.250":               "",
		"fd00::/64":                   "",
		"fd00::1-fd00::2":             "",
		"::ffff:10.0.0.1-10.0.0.2":    "",
		"10.0.0.1 - 10.0.0.2":         "",
		"10.0.0.0/33":                 "",
		"-":                           "",
		"":                            "",
	} {
		t.Run(value, func(t *testing.T) {
			got, err := spec.ParseAddressRange(value)
			if (err == nil) != (want != "") || err == nil && got.String() != want {
				t.Errorf("%v, %v, want %s", got, err, want)
			}
		})
	}
}

func TestAddressRange_Overlaps(t *testing.T) {
	parse := func(value string) spec.AddressRange {
		r, err := spec.ParseAddressRange(value)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	a := parse("10.0.0.8-10.0.0.15")
	for value, want := range map[string]bool{"10.0.0.0/29": false, "10.0.0.0-10.0.0.8": true, "10.0.0.9/32": true, "10.0.0.15-10.0.0.16": true, "10.0.0.16/28": false, "10.0.0.0/24": true} {
		t.Run(value, func(t *testing.T) {
			if b := parse(value); a.Overlaps(b) != want || b.Overlaps(a) != want {
				t.Errorf("want %v", want)
			}
		})
	}
	if !a.Contains(netip.MustParseAddr("10.0.0.15")) || a.Contains(netip.MustParseAddr("10.0.0.7")) {
		t.Error("Contains")
	}
}

func TestWithLoadBalancerAddresses_ChecksThemAsLint(t *testing.T) {
	in := &spec.Installer{Spec: spec.Spec{Network: spec.Network{PodCIDR: "10.244.0.0/16", ServiceCIDR: "10.96.0.0/12"},
		LoadBalancer: &spec.LoadBalancer{Addresses: []string{"192.168.1.240/29"}}, Ingress: &spec.Ingress{Address: "192.168.1.240"}}}
	for name, c := range map[string]struct {
		ranges []string
		want   string // in the error; "" for none
	}{
		"others":                  {[]string{"192.168.1.200-192.168.1.255", "10.0.0.0/29"}, ""},
		"not a range":             {[]string{"192.168.1.240"}, `"192.168.1.240" is not a range of IPv4 addresses (such as `},
		"twice":                   {[]string{"192.168.1.240/29", "192.168.1.247-192.168.1.250"}, "overlaps 192.168.1.240-192.168.1.247, which is in the list, too"},
		"of pods":                 {[]string{"10.244.1.0/24", "192.168.1.240/29"}, "overlaps podCIDR"},
		"loopback":                {[]string{"127.0.0.1-127.0.0.2"}, "contains loopback"},
		"without that of ingress": {[]string{"192.168.1.241-192.168.1.250"}, "they do not contain 192.168.1.240 (which spec.ingress.address of the Installer requests)"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := in.WithLoadBalancerAddresses(c.ranges)
			switch {
			case c.want != "":
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %s", err, c.want)
				}
			case err != nil || !slices.Equal(out.Spec.LoadBalancer.Addresses, c.ranges) || len(in.Spec.LoadBalancer.Addresses) != 1:
				t.Errorf("%+v, %v", out, err)
			}
		})
	}
}

func TestAddOns_HaveTheirOrder(t *testing.T) {
	in := withCharts(t, "")
	in.Spec.Registry, in.Spec.LocalPathStorage = &spec.AddOn{}, &spec.AddOn{}
	in.Spec.Ingress, in.Spec.LoadBalancer = &spec.Ingress{}, &spec.LoadBalancer{}
	var got string
	for _, pin := range in.AddOns() {
		got += pin.Key + " "
	}
	if got != "localPathStorage loadBalancer ingress registry " {
		t.Error(got)
	}
}

func FuzzParseAddressRange(f *testing.F) {
	f.Add("10.0.0.0/8")
	f.Add("10.0.0.1-10.0.0.2")
	f.Fuzz(func(t *testing.T, value string) {
		r, err := spec.ParseAddressRange(value)
		if err != nil {
			return
		}
		if again, err := spec.ParseAddressRange(r.String()); err != nil || again != r || r.Last.Less(r.First) {
			t.Errorf("%q is %s, and that is %v, %v", value, r, again, err)
		}
	})
}
