package addons_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/spec"
)

// renderAddOn returns the objects of the add-on of an Installer that has only this one.
func renderAddOn(t *testing.T, change func(*spec.Spec)) []*unstructured.Unstructured {
	t.Helper()
	in := &spec.Installer{}
	in.Spec.Network.PodCIDR, in.Spec.Network.ServiceCIDR = "10.244.0.0/16", "10.96.0.0/12"
	change(&in.Spec)
	all, err := addons.Resolve(in, "/var/lib/plinth")
	if err != nil || len(all) != 1 {
		t.Fatal(len(all), err)
	}
	objects, err := kube.Decode(renderChart(t, all[0]))
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func TestIngress_IsExposedAsTheInstallerSays(t *testing.T) {
	for expose, c := range map[string]struct {
		service   bool
		hostPorts string
	}{spec.ExposeLoadBalancer: {true, ""}, spec.ExposeHostPorts: {false, "8080 8443 "}} {
		t.Run(expose, func(t *testing.T) {
			objects := renderAddOn(t, func(s *spec.Spec) {
				s.Ingress = &spec.Ingress{Version: "3.7.13", Expose: expose, HTTPPort: 8080, HTTPSPort: 8443}
			})
			service := slices.ContainsFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == "Service" })
			containers, _, _ := unstructured.NestedSlice(find(t, objects, "DaemonSet", "traefik"), "spec", "template", "spec", "containers")
			ports, _, _ := unstructured.NestedSlice(containers[0].(map[string]any), "ports")
			host := ""
			for _, p := range ports {
				if n := p.(map[string]any)["hostPort"]; n != nil {
					host += fmt.Sprint(n, " ")
				}
			}
			if service != c.service || host != c.hostPorts {
				t.Errorf("service %v, host ports %q", service, host)
			}
		})
	}
}

func TestIngress_UsesADefaultCertificate(t *testing.T) {
	for name, want := range map[string]bool{"": false, "example-com": true} {
		t.Run(name, func(t *testing.T) {
			objects := renderAddOn(t, func(s *spec.Spec) {
				s.Ingress = &spec.Ingress{Version: "3.7.13", Expose: spec.ExposeLoadBalancer, HTTPPort: 80, HTTPSPort: 443, DefaultCertificate: name}
			})
			i := slices.IndexFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == "TLSStore" })
			if (i >= 0) != want {
				t.Fatalf("store at %d", i)
			}
			if i >= 0 {
				if secret, _, _ := unstructured.NestedString(objects[i].Object, "spec", "defaultCertificate", "secretName"); secret != name {
					t.Error(secret)
				}
			}
		})
	}
}

// Each program watches these kinds, and does not start without them.
func TestCharts_DefineTheKindsOfTheirPrograms(t *testing.T) {
	for name, c := range map[string]struct {
		kinds  string
		change func(*spec.Spec)
	}{
		"MetalLB": {"BFDProfile BGPAdvertisement BGPPeer Community ConfigurationState IPAddressPool L2Advertisement ServiceBGPStatus ServiceL2Status", func(s *spec.Spec) {
			s.LoadBalancer = &spec.LoadBalancer{Version: "0.16.2", Addresses: []string{"10.0.0.0/24"}}
		}},
		"Traefik": {"IngressRoute IngressRouteTCP IngressRouteUDP Middleware MiddlewareTCP ServersTransport ServersTransportTCP TLSOption TLSStore TraefikService", func(s *spec.Spec) {
			s.Ingress = &spec.Ingress{Version: "3.7.13", Expose: spec.ExposeHostPorts, HTTPPort: 80, HTTPSPort: 443}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var kinds []string
			for _, o := range renderAddOn(t, c.change) {
				if o.GetKind() == "CustomResourceDefinition" {
					kind, _, _ := unstructured.NestedString(o.Object, "spec", "names", "kind")
					plural, _, _ := unstructured.NestedString(o.Object, "spec", "names", "plural")
					if !strings.HasPrefix(o.GetName(), plural+".") {
						t.Errorf("%s defines %s", o.GetName(), plural)
					}
					kinds = append(kinds, kind)
				}
			}
			slices.Sort(kinds)
			if got := strings.Join(kinds, " "); got != c.kinds {
				t.Errorf("%s\nwant %s", got, c.kinds)
			}
		})
	}
}
