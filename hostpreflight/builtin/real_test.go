package builtin

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

var factsOut = flag.String("facts-out", "", "write this host's facts to a file, to make a fixture of it")

// wanted is what an install of the root installer.yaml wants.
func wanted() hp.Want {
	return hp.Want{
		Verb: "install", Role: hp.Controller, Arch: "amd64", KubernetesMinor: 33, ConsolePort: 8800,
		PodCIDR: netip.MustParsePrefix("10.244.0.0/16"), ServiceCIDR: netip.MustParsePrefix("10.96.0.0/12"),
		NodePorts: [2]int{80, 32767},
		Disks: []hp.Disk{
			{Path: "/var/lib/k0s", Use: "programs, images and containers", Bytes: 4e9, Exec: true, Pods: true},
			{Path: "/usr/local/bin", Use: "k0s and the kots command", Bytes: 3e8, Exec: true},
			{Path: "/etc", Use: "configuration", Bytes: 1e6},
		},
	}
}

// online is an install that fetches from the internet.
func online() hp.Want {
	w := wanted()
	w.Sources = []string{"https://registry.example.com"}
	return w
}

func TestThisMachineIsJudged(t *testing.T) {
	w := wanted()
	f := probe.Gather(context.Background(), host.Local("/"), Request(w))
	r, err := hp.Run(Checks(), f, w, nil)
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
