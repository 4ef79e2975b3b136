package facts

import "testing"

func TestAReasonForTheWholeHoldsForItsParts(t *testing.T) {
	f := Facts{Unknown: []Unknown{{Fact: "disk", Why: "no answer"}, {Fact: "port:179/tcp", Why: "not permitted"}}}
	for fact, want := range map[string]string{
		"disk": "no answer", "disk:/var": "no answer", "port:179/tcp": "not permitted", "port": "", "port:6443/tcp": "", "diskette": "",
	} {
		if got := f.Why(fact); got != want {
			t.Errorf("%s: %q, want %q", fact, got, want)
		}
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	var f Facts
	if _, ok := f.Disk("/"); ok {
		t.Error("a disk")
	}
	if _, ok := f.Port(PortKey{Number: 1, Protocol: "tcp"}); ok {
		t.Error("a port")
	}
	if _, ok := f.Lookup("x"); ok {
		t.Error("a look-up")
	}
	if _, ok := f.Unit("x"); ok {
		t.Error("a unit")
	}
	if got := f.Kernel.Feature("overlay"); got.State != FeatureVague || got.Present() || got.How == "" {
		t.Errorf("a feature: %+v", got)
	}
}

func TestPortsAreWrittenAsPeopleWriteThem(t *testing.T) {
	for want, k := range map[string]PortKey{
		"6443/tcp": {Number: 6443, Protocol: "tcp"}, "127.0.0.1:2379/tcp": {Number: 2379, Protocol: "tcp", Address: "127.0.0.1"},
	} {
		if k.String() != want {
			t.Errorf("%s, want %s", k, want)
		}
	}
}
