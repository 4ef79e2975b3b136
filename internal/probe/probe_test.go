package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
)

var factsOut = flag.String("facts-out", "", "write this host's facts to a file, to make a fixture of it")

func request() facts.Request {
	return facts.Request{
		Ports:    []facts.PortKey{{Number: 6443, Protocol: "tcp"}, {Number: 10250, Protocol: "tcp"}, {Number: 2379, Protocol: "tcp", Address: "127.0.0.1"}},
		Paths:    []string{"/var/lib/plinth", "/etc", "/var/lib/k0s"},
		DataDirs: []string{"/var/lib/k0s"},
		Commands: []string{"mount", "umount", "modprobe", "iptables", "useradd"},
		Units:    []string{"k0scontroller", "docker", "firewalld", "systemd-timesyncd"},
		Lookups:  []string{"localhost"},
	}
}

func TestThisMachineIsTold(t *testing.T) {
	f := Gather(context.Background(), host.Local("/"), request())
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if *factsOut != "" {
		if err := os.WriteFile(*factsOut, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var back facts.Facts
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	again, _ := json.MarshalIndent(back, "", "  ")
	if !bytes.Equal(b, again) {
		t.Errorf("facts change on their way through JSON")
	}
}
