package probe

import (
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestParseIptables_ReadsRules(t *testing.T) {
	match := func(key string, values ...string) facts.FilterMatch {
		return facts.FilterMatch{Key: key, Values: values}
	}
	for line, want := range map[string]facts.FilterRule{
		"-j LOGDROP": {Verdict: "jump", Target: "LOGDROP"},
		"-g other":   {Verdict: "goto", Target: "other"},
		"-j REJECT --reject-with icmp-host-prohibited":                   {Verdict: "drop"},
		"-m limit --limit 3/min -j LOG --log-prefix \"[A] B\"":           {Matches: []facts.FilterMatch{match(facts.MatchUnknown, "--limit")}},
		"! -i docker0 -d 172.17.0.2/32 -j DROP":                          {Verdict: "drop", Matches: []facts.FilterMatch{{Key: facts.MatchIn, Not: true, Values: []string{"docker0"}}, match(facts.MatchDestination, "172.17.0.2/32")}},
		"-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT":           {Verdict: "accept", Matches: []facts.FilterMatch{match(facts.MatchState, "related", "established")}},
		"-p tcp -m multiport --dports 22,80:90 -j ACCEPT":                {Verdict: "accept", Matches: []facts.FilterMatch{match(facts.MatchProtocol, "tcp"), match(facts.MatchPort, "22", "80-90")}},
		"-i tun+ -m comment --comment \"-j DROP is not here\" -j RETURN": {Verdict: "return", Matches: []facts.FilterMatch{match(facts.MatchIn, "tun*")}},
		"-m rpfilter --validmark --invert -j DROP":                       {Verdict: "drop", Matches: []facts.FilterMatch{{Key: facts.MatchNever}}},
		"-m rpfilter -j ACCEPT":                                          {Verdict: "accept"},
		"-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j DROP":        {Verdict: "drop", Matches: []facts.FilterMatch{match(facts.MatchProtocol, "tcp"), {Key: facts.MatchFlags, Not: true, Values: []string{"fin,syn,rst,ack=syn"}}}},
		"-m set --match-set blocked src -j DROP":                         {Verdict: "drop", Matches: []facts.FilterMatch{{Key: facts.MatchNever}}},
		"-m set ! --match-set allowed src -j DROP":                       {Verdict: "drop", Matches: []facts.FilterMatch{{Key: facts.MatchUnknown, Not: true, Values: []string{"--match-set", "allowed"}}}},
		"-m set --match-set allowed src -j ACCEPT":                       {Verdict: "accept", Matches: []facts.FilterMatch{match(facts.MatchUnknown, "--match-set", "allowed")}},
		"-m addrtype --dst-type LOCAL -j RETURN":                         {Verdict: "return", Matches: []facts.FilterMatch{match(facts.MatchDestinationType, "local")}},
		"-j NFQUEUE --queue-num 1":                                       {Verdict: "unknown"},
	} {
		t.Run(line, func(t *testing.T) {
			got := parseIptables([]byte("*filter\n:INPUT DROP [0:0]\n-A INPUT "+line+"\nCOMMIT\n"), "iptables")
			if len(got) != 1 || got[0].Hook != "input" || got[0].Policy != "drop" || len(got[0].Rules) != 1 {
				t.Fatalf("%+v", got)
			}
			r := got[0].Rules[0]
			r.Text = ""
			if !reflect.DeepEqual(r, want) {
				t.Errorf("%+v, want %+v", r, want)
			}
		})
	}
}

func TestParseNft_ReadsRules(t *testing.T) {
	rules, err := parseNft([]byte(nft))
	testkit.Must(t, err)
	if len(rules.chains) != 2 || rules.chains[0].Policy != "drop" || rules.chains[1].Hook != "" {
		t.Fatalf("%+v", rules.chains)
	}
	first := rules.chains[0].Rules
	if len(first) != 4 { // the map has two elements
		t.Fatalf("%+v", first)
	}
	if first[1].Verdict != "accept" || first[2].Target != "other" || first[2].Matches[1].Values[0] != "80" {
		t.Errorf("map: %+v", first[1:3])
	}
	if m := first[3].Matches; !m[0].Not || !slices.Equal(m[0].Values, []string{"10.1.0.0/16", "192.0.2.1-192.0.2.9"}) || !slices.Equal(m[2].Values, []string{"53", "100-200"}) {
		t.Errorf("sets: %+v", m)
	}
	if other := rules.chains[1].Rules; other[0].Matches[0].Key != facts.MatchUnknown || other[0].Verdict != "drop" || other[1].Matches[0].Key != facts.MatchNever || other[2].Matches[1].Values[0] != "fin,syn=syn" {
		t.Errorf("%+v", other)
	}
	want := facts.FilterRule{Text: "ct state established related accept", Verdict: "accept", Matches: []facts.FilterMatch{{Key: facts.MatchState, Values: []string{"established", "related"}}}}
	if !reflect.DeepEqual(first[0], want) {
		t.Errorf("%+v, want %+v", first[0], want)
	}
}

// TestParseNft_SkipsTheContentOfLargeSets reads a list of networks such as one of the addresses of a country.
func TestParseNft_SkipsTheContentOfLargeSets(t *testing.T) {
	const count = 100_000
	element := `{"prefix": {"addr": "192.0.2.0", "len": 24}}`
	text := []byte(`{"nftables": [{"set": {"family": "inet", "name": "country", "table": "host", "type": "ipv4_addr", "elem": [` + strings.Repeat(element+", ", count) + element + `]}},
{"chain": {"family": "inet", "table": "host", "name": "input", "type": "filter", "hook": "input", "policy": "accept"}},
{"rule": {"family": "inet", "table": "host", "chain": "input", "expr": [{"match": {"op": "!=", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@country"}}, {"drop": null}]}},
{"rule": {"family": "inet", "table": "host", "chain": "input", "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@country"}}, {"drop": null}]}}]}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	rules, err := parseNft(text)
	runtime.ReadMemStats(&after)
	testkit.Must(t, err)
	if used := after.TotalAlloc - before.TotalAlloc; used > 4*uint64(len(text)) {
		t.Errorf("%d bytes of output took %d bytes of memory", len(text), used)
	}
	list := rules.chains[0].Rules
	if all, blocked := list[0].Matches, list[1].Matches; len(all) != 1 || all[0].Key != facts.MatchUnknown || len(blocked) != 1 || blocked[0].Key != facts.MatchNever {
		t.Errorf("all but the set: %+v, the set: %+v", all, blocked)
	}
}

func TestParseNft_RejectsOtherOutput(t *testing.T) {
	if _, err := parseNft([]byte("table inet filter {}")); err == nil {
		t.Error("no error")
	}
}

func TestParseUFWEnabled_ReadsTheFileAsAShell(t *testing.T) {
	for text, want := range map[string]bool{
		"ENABLED=yes": true, "# ufw\nENABLED=yes\n": true, "ENABLED=\"yes\"\n": true, "ENABLED='YES'\n": true, "  ENABLED=Yes # by hand\n": true, "ENABLED=no\nENABLED=yes\n": true,
		"": false, "ENABLED=no\n": false, "#ENABLED=yes\n": false, "ENABLED=yes\nENABLED=no\n": false, "ENABLED = yes\n": false, "NOT_ENABLED=yes\n": false,
	} {
		t.Run(text, func(t *testing.T) {
			if got := parseUFWEnabled([]byte(text)); got != want {
				t.Errorf("%v", got)
			}
		})
	}
}
