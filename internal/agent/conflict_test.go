package agent

import (
	"strings"
	"testing"
)

func TestConflict_ComparesWithEveryNode(t *testing.T) {
	nodes := []Node{
		{Name: "c1", MachineID: "m-c1", Key: "k-c1", Addresses: []string{"192.0.2.11", "2001:db8::11"}},
		{Name: "w1", MachineID: "m-w1", Key: "k-w1", Addresses: []string{"192.0.2.21"}},
		{Name: "w2", MachineID: "m-w2", Key: "k-w2", Addresses: []string{"192.0.2.22"}},
		{Name: "old", MachineID: "m-old", Addresses: []string{"192.0.2.23"}}, // without a record of its key
	}
	const free = "192.0.2.99"
	for name, c := range map[string]struct {
		node, machine, address, key string
		want                        []string // parts of the reason; none if the host can join
	}{
		"a new host":                               {"w3", "m", free, "k", nil},
		"a node that joins again":                  {"w1", "m-w1", "192.0.2.21", "k-w1", nil},
		"a node with a new address and machine id": {"w1", "m", free, "k-w1", nil},
		"a node with the address before it":        {"w1", "m-w1", "192.0.2.11", "k-w1", []string{"node c1 of the cluster has this host's address"}},
		"a node with the address after it":         {"w1", "m-w1", "192.0.2.22", "k-w1", []string{"node w2 of the cluster has this host's address"}},
		"a node with another's machine id":         {"w1", "m-c1", "192.0.2.21", "k-w1", []string{"node c1 of the cluster has this host's machine id"}},
		"a node's key under another name":          {"w3", "m", free, "k-w1", []string{"node w1 of the cluster has this host's key"}},
		"a node's name with another key":           {"w1", "m-w1", free, "k", []string{"already has a node named w1, with another key"}},
		"a node's name without a key":              {"w1", "m-w1", free, "", []string{"already has a node named w1"}},
		"the name of a node without a key":         {"old", "m-old", free, "", []string{"already has a node named old"}},
		"an address in IPv6 form":                  {"w3", "m", "::ffff:192.0.2.11", "k", []string{"node c1 of the cluster has this host's address"}},
		"another spelling of an address":           {"w3", "m", "2001:DB8:0::11", "k", []string{"node c1 of the cluster has this host's address"}},
		"all of another node":                      {"c1", "m-w1", "192.0.2.22", "k", []string{"a node named c1", "node w1 of the cluster has this host's machine id", "node w2 of the cluster has this host's address"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := Conflict(nodes, JoinRequest{Node: c.node, MachineID: c.machine, Address: c.address}, c.key)
			if len(c.want) == 0 && got != "" {
				t.Errorf("%s", got)
			}
			for _, part := range c.want {
				if !strings.Contains(got, part) {
					t.Errorf("%q lacks %q", got, part)
				}
			}
		})
	}
}

func TestServer_TellsBackendOneSpellingOfAddress(t *testing.T) {
	a := newTestCA(t)
	for sent, want := range map[string]string{
		"192.0.2.11":         "192.0.2.11",
		"::ffff:192.0.2.11":  "192.0.2.11",
		"::FFFF:c000:20b":    "192.0.2.11",
		"2001:DB8:0:0:0::11": "2001:db8::11",
		"x":                  "x",
	} {
		t.Run(sent, func(t *testing.T) {
			var got JoinRequest
			at := startNode(t, a, fakeCluster{bearer: "id.secret", sawJoin: func(r JoinRequest) { got = r }}, nil)
			if _, err := newTestClient(t, a, at).Admit(t.Context(), JoinRequest{Node: "w1", MachineID: "m", Address: sent}); err != nil || got.Address != want {
				t.Errorf("the backend got %q, %v", got.Address, err)
			}
		})
	}
}
