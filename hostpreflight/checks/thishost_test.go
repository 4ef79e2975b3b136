package checks

import (
	"context"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"testing"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/probe"
)

var factsOut = flag.String("facts-out", "", "write the facts of this host to a file, as a test fixture")

// exampleRequirements returns the requirements of the root installer.yaml.
func exampleRequirements() hp.Requirements {
	return hp.Requirements{
		Verb: "install", Role: hp.Controller, Arch: "amd64", KubernetesMinor: 33, ConsolePort: 8800,
		PodCIDR: netip.MustParsePrefix("10.244.0.0/16"), ServiceCIDR: netip.MustParsePrefix("10.96.0.0/12"),
		NodePorts: [2]int{80, 32767}, Containerd: hp.Containerd{Version: 2, DropIn: "/etc/k0s/containerd.d/plinth.toml"},
		WritePaths: []hp.WritePath{
			{Path: "/var/lib/k0s", Purpose: "programs, images and containers", Bytes: 4e9, Exec: true, Pods: true},
			{Path: "/usr/local/bin", Purpose: "k0s and the kots command", Bytes: 3e8, Exec: true},
			{Path: "/etc", Purpose: "configuration", Bytes: 1e6},
		},
	}
}

// onlineRequirements returns the requirements of an install from the internet.
func onlineRequirements() hp.Requirements {
	req := exampleRequirements()
	req.Sources = []string{"https://registry.example.com"}
	return req
}

func TestAll_RunsOnThisHost(t *testing.T) {
	req := exampleRequirements()
	f := probe.Gather(context.Background(), host.Local("/"), FactsRequest(req))
	r, err := hp.Run(All(), f, req, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d ms\n%s", f.TookMS, r.Text())
	if *factsOut != "" {
		b, err := json.MarshalIndent(f, "", " ")
		if err == nil {
			err = os.WriteFile(*factsOut, append(b, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
