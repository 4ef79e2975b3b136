package desired

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/helm"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/testkit"
)

// renderPool returns the object that the cluster has of the load balancer of an Installer with these addresses.
func renderPool(t *testing.T, in *spec.Installer, a Addresses) map[string]any {
	t.Helper()
	all, err := a.Resolve(in, dataDir)
	testkit.Must(t, err)
	for _, part := range all {
		if part.Name != "load-balancer" {
			continue
		}
		out, err := (helm.Release{Name: part.Release, Namespace: part.Namespace, Archive: part.Chart.Archive, Values: part.Values}).Render("v1.33.8")
		testkit.Must(t, err)
		for _, document := range strings.Split(string(out), "\n---\n") {
			obj := map[string]any{}
			if testkit.Must(t, yaml.Unmarshal([]byte(document), &obj)); obj["kind"] == "IPAddressPool" {
				return obj
			}
		}
	}
	t.Fatal("no pool")
	return nil
}

func TestChooseAddresses_PrefersTheFlagThenWhatIsRemembered(t *testing.T) {
	const vendor, flag, chosen, old = "192.168.1.0/28", "10.0.0.0/28", "10.0.1.0/28", "10.0.2.0/28"
	for name, c := range map[string]struct {
		installer string // addresses in it
		flag      string
		run       string // of an unfinished run
		cluster   string // "" for one that does not answer
		isChosen  bool   // a user has chosen those of the cluster
		receipt   string
		want      string // "" for those of the Installer
	}{
		"none":                           {installer: vendor},
		"the flag":                       {vendor, flag, chosen, chosen, true, chosen, flag},
		"an unfinished run":              {vendor, "", flag, chosen, true, old, flag},
		"the cluster":                    {vendor, "", "", chosen, true, old, chosen},
		"a cluster with the Installer's": {vendor, "", "", vendor, false, old, ""},
		"a cluster that does not answer": {vendor, "", "", "", false, old, old},
		"none in the Installer":          {"", "", "", chosen, true, "", chosen},
	} {
		t.Run(name, func(t *testing.T) {
			in := installer(t)
			in.Spec.LoadBalancer = &spec.LoadBalancer{Version: "0.16.2", Addresses: list(c.installer)}
			h := hosttest.New(t).Host()
			env := &action.Env{Host: h, GlobalOptions: action.GlobalOptions{DataDir: dataDir, Now: clock}}
			j, err := env.OpenJournal()
			testkit.Must(t, err)
			testkit.Must(t, j.BeginRun("install", journal.Args{LoadBalancer: list(c.run)}))
			if c.cluster != "" {
				s, _ := kubetest.New(t)
				testkit.Must(t, h.Write(k0s.AdminConf, bytes.NewReader(kubetest.Kubeconfig(t, s)), 0o600))
				of, addresses := *in, Addresses(nil)
				if of.Spec.LoadBalancer = (&spec.LoadBalancer{Version: "0.16.2", Addresses: list(vendor)}); c.isChosen {
					addresses = list(c.cluster)
				}
				s.Put("/apis/metallb.io/v1beta1/namespaces/load-balancer/ipaddresspools/default", renderPool(t, &of, addresses))
			}
			got, err := ChooseAddresses(t.Context(), env, in, journal.Receipt{LoadBalancer: list(c.receipt)}, list(c.flag))
			if err != nil || !slices.Equal(got, list(c.want)) {
				t.Errorf("%q, %v, want %s", got, err, c.want)
			}
			if after := got.Apply(in).Spec.LoadBalancer.Addresses; c.want != "" && !slices.Equal(after, list(c.want)) || c.want == "" && !slices.Equal(after, list(c.installer)) {
				t.Errorf("applied: %q", after)
			}
		})
	}
}

// list returns a list of one text, none for "".
func list(text string) []string {
	if text == "" {
		return nil
	}
	return []string{text}
}

func TestChooseAddresses_RefusesWhatDoesNotFit(t *testing.T) {
	with := func(address string, ranges ...string) *spec.Installer {
		in := installer(t)
		in.Spec.LoadBalancer, in.Spec.Ingress = &spec.LoadBalancer{Version: "0.16.2", Addresses: ranges}, &spec.Ingress{Version: "3.7.13", Address: address}
		return in
	}
	for name, c := range map[string]struct {
		in            *spec.Installer
		flag, receipt string
		exit          int
		want          string // in the error
	}{
		"no load balancer":             {installer(t), "10.0.0.0/28", "", problem.ExitUsage, "the Installer of this bundle has no loadBalancer"},
		"a dropped load balancer":      {installer(t), "", "10.0.0.0/28", 0, ""},
		"no range":                     {with(""), "10.0.0.1", "", problem.ExitUsage, `--load-balancer-addresses: "10.0.0.1" is not a range of IPv4 addresses`},
		"without that of the ingress":  {with("10.0.1.1"), "10.0.0.0/28", "", problem.ExitUsage, "--load-balancer-addresses: they do not contain 10.0.1.1"},
		"a remembered one without it":  {with("10.0.1.1", "10.0.1.0/28"), "", "10.0.0.0/28", problem.ExitConfig, "those that were chosen before do not fit the Installer of this bundle: they do not contain 10.0.1.1"},
		"nothing, and none is needed":  {with("", "10.0.1.0/28"), "", "", 0, ""},
		"nothing, but some are needed": {with(""), "", "", problem.ExitConfig, "leaves the addresses of its load balancer to you, and --load-balancer-addresses is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			env := &action.Env{Host: hosttest.New(t).Host(), GlobalOptions: action.GlobalOptions{DataDir: dataDir, Now: clock}}
			got, err := ChooseAddresses(t.Context(), env, c.in, journal.Receipt{LoadBalancer: list(c.receipt)}, list(c.flag))
			if err == nil {
				err = got.Require(c.in)
			}
			if problem.ExitCode(err) != c.exit || err != nil && !strings.Contains(err.Error(), c.want) || err == nil && len(got) > 0 {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}
