package probe

import (
	"slices"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/facts"
)

// TestGatherFirewall_AsksTheClustersIptables tests hosts whose own iptables cannot read a table: with a
// cluster that has a newer one, the rules may be the cluster's.
func TestGatherFirewall_AsksTheClustersIptables(t *testing.T) {
	const unreadable = "# Table `filter' is incompatible, use 'nft' tool.\n"
	for name, c := range map[string]struct {
		save    string // the host's program
		cluster string // what the cluster's program prints; "" if there is none
		foreign []string
		chains  int
	}{
		"no cluster":                        {"iptables-nft-save", "", []string{"ip filter"}, 0},
		"the rules are the cluster's":       {"iptables-nft-save", "*filter\n:INPUT DROP [0:0]\n", nil, 1},
		"the same, by the plain name":       {"iptables-save", "*filter\n:INPUT DROP [0:0]\n", nil, 1},
		"another program's, with a cluster": {"iptables-nft-save", unreadable, []string{"ip filter"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"/usr/sbin/" + c.save: ""}
			if c.cluster != "" {
				files[clusterIptables] = ""
			}
			fake := newFakeHost(t, files)
			fake.Expect(c.save).Return(unreadable, nil)
			if c.cluster != "" {
				fake.Expect(clusterIptables+" iptables-save").Return(c.cluster, nil)
			}
			f := gatherFacts(t.Context(), newProber(fake.Host(), fakeSystem(), facts.Request{}), time.Minute)
			if !slices.Equal(f.ForeignTables, c.foreign) || len(f.Filters) != c.chains {
				t.Errorf("foreign %q, chains %+v", f.ForeignTables, f.Filters)
			}
		})
	}
}
