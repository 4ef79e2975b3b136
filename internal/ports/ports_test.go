package ports

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/testkit"
)

// TestDocument_ListsEveryPort compares the table of ports for a firewall's
// administrator with the one here; -update writes it.
func TestDocument_ListsEveryPort(t *testing.T) {
	const page, begin, end = "../../docs/guide/requirements.md", "<!-- ports -->\n", "<!-- /ports -->"
	all := All()
	number := func(p Port) int { return cmp.Or(p.Number, p.Default) }
	slices.SortStableFunc(all, func(a, b Port) int { return number(a) - number(b) })
	var b strings.Builder
	b.WriteString("| port | on | reached by | used by |\n|---|---|---|---|\n")
	for _, p := range all {
		from := p.Scope.String()
		if p.Scope == Loopback {
			from += " (127.0.0.1)"
		}
		fmt.Fprintf(&b, "| %d/tcp | %s | %s | %s: %s |\n", number(p), p.Nodes, from, p.Use, strings.TrimSuffix(p.Why, "."))
	}
	fmt.Fprintf(&b, "| %d/udp | %s | %s | nothing listens there; a join checks with it that UDP passes between nodes |\n", Kubelet, AllNodes, Cluster)
	text, err := os.ReadFile(page)
	testkit.Must(t, err)
	head, rest, found := strings.Cut(string(text), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no place for the table", page)
	}
	testkit.Golden(t, page, []byte(head+begin+b.String()+end+tail))
}

func TestAll_HasEachUseAndEachNumberOfARoleOnce(t *testing.T) {
	uses := map[string]bool{}
	numbers := map[string]string{}
	for _, p := range All() {
		if uses[p.Use] || p.Use == "" || p.Why == "" {
			t.Errorf("%+v: the use must be unique, and it needs a sentence", p)
		}
		uses[p.Use] = true
		if (p.Number == 0) != (p.Field != "") || (p.Number == 0) != (p.Default != 0) {
			t.Errorf("%s: a port has either a number, or the field that chooses it and a default", p.Use)
		}
		for _, n := range []Nodes{Controllers, Workers} {
			if p.Nodes != AllNodes && p.Nodes != n {
				continue
			}
			key := n.String() + strconv.Itoa(cmp.Or(p.Number, p.Default))
			if other := numbers[key]; other != "" {
				t.Errorf("%s and %s both have %d on %s", p.Use, other, p.Number, n)
			}
			numbers[key] = p.Use
		}
	}
}

func TestReserved_FindsEveryFixedPort(t *testing.T) {
	for number, want := range map[int]string{Agent: "plinth-agent", 50051: "kube-router-admin", API: "kube-apiserver", 22: "ssh", 8800: "", 443: "", SpeakerHealth: "", 0: ""} {
		t.Run(strconv.Itoa(number), func(t *testing.T) {
			if p, ok := Reserved(number); ok != (want != "") || p.Use != want {
				t.Errorf("%+v, %v", p, ok)
			}
		})
	}
}

func TestReserved_FindsPortsOfAddOnsOnlyWithThem(t *testing.T) {
	if p, ok := Reserved(SpeakerHealth, "ingress", "loadBalancer"); !ok || p.Use != LoadBalancerState {
		t.Errorf("%+v, %v", p, ok)
	}
	if p, ok := Reserved(SpeakerHealth, "ingress"); ok {
		t.Errorf("%+v", p)
	}
}

func TestText_IsTheNumber(t *testing.T) {
	for text, number := range map[string]int{APIText: API, EtcdClientText: EtcdClient, AuthorizerText: Authorizer, MetricsText: Metrics} {
		if text != strconv.Itoa(number) {
			t.Errorf("%s is not %d", text, number)
		}
	}
}

func TestBetween_ReachesOnlyPortsThatTheOtherNodeServes(t *testing.T) {
	serves := func(number int, controller bool) bool {
		for _, p := range All() {
			if p.Number == number && p.Scope >= Cluster && (p.Nodes == AllNodes || (p.Nodes == Controllers) == controller) {
				return true
			}
		}
		return false
	}
	for _, from := range []bool{false, true} {
		for _, to := range []bool{false, true} {
			for _, number := range Between(from, to) {
				if !serves(number, to) {
					t.Errorf("from controller %v to controller %v: %d is not a port of the other node in the table", from, to, number)
				}
			}
		}
	}
}
