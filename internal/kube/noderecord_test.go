package kube_test

import (
	"errors"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/token"
)

const recordsPath = "/api/v1/namespaces/kube-system/configmaps/plinth-nodes"

func TestUpdateNodeRecords_StoresTwoKeysInOneWrite(t *testing.T) {
	s, c := kubetest.New(t)
	if records, err := c.NodeRecords(t.Context()); len(records) != 0 || err != nil {
		t.Errorf("before the first: %v %v", records, err)
	}
	want := kube.NodeRecord{Node: "a.example.com", UID: "abc", Role: token.Controller, Address: "10.0.0.1", MachineID: "m", AgentKey: "k",
		Admitted: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Joined: true}
	add := func(records kube.NodeRecords) error { records["a.example.com"] = want; return nil }
	if err := c.UpdateNodeRecords(t.Context(), add); err != nil {
		t.Fatal(err)
	}
	if w := s.Writes(); len(w) != 1 {
		t.Errorf("writes: %q", w)
	}
	data, _ := s.Object(recordsPath)["data"].(map[string]any)
	if data["uid_a.example.com"] != "controller:abc" || len(data) != 2 {
		t.Errorf("data: %v", data)
	}
	got, err := c.NodeRecords(t.Context())
	if err != nil || !reflect.DeepEqual(got, kube.NodeRecords{"a.example.com": want}) {
		t.Errorf("%+v %v", got, err)
	}
	if err := c.UpdateNodeRecords(t.Context(), add); err != nil || s.Writes() != nil {
		t.Errorf("the same records were written again: %v", err)
	}
	if err := c.UpdateNodeRecords(t.Context(), func(records kube.NodeRecords) error { delete(records, "a.example.com"); return nil }); err != nil {
		t.Fatal(err)
	}
	if data, _ := s.Object(recordsPath)["data"].(map[string]any); len(data) != 0 {
		t.Errorf("after it was deleted: %v", data)
	}
}

func TestUpdateNodeRecords_RetriesAfterConflict(t *testing.T) {
	_, c := kubetest.New(t)
	for name, existing := range map[string]string{"the first record": "", "a further record": "a"} {
		t.Run(name, func(t *testing.T) {
			if existing != "" {
				kubetest.RecordNodes(t, c, kube.NodeRecord{Node: existing, Role: token.Worker})
			}
			calls := 0
			err := c.UpdateNodeRecords(t.Context(), func(records kube.NodeRecords) error {
				if calls++; calls == 1 { // another controller is faster
					kubetest.RecordNodes(t, c, kube.NodeRecord{Node: "other" + existing, Role: token.Worker})
				}
				records["mine"+existing] = kube.NodeRecord{UID: "u", Role: token.Worker, Address: "10.0.0.2", MachineID: "m"}
				return nil
			})
			records, readErr := c.NodeRecords(t.Context())
			if err != nil || readErr != nil || calls != 2 || records["other"+existing].UID == "" || records["mine"+existing].Node != "mine"+existing {
				t.Errorf("%v %v: %d calls, records %v", err, readErr, calls, records)
			}
		})
	}
}

func TestUpdateNodeRecords_WritesNothingInvalid(t *testing.T) {
	s, c := kubetest.New(t)
	refused := errors.New("the name is in use")
	if err := c.UpdateNodeRecords(t.Context(), func(kube.NodeRecords) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("%v", err)
	}
	good := kube.NodeRecord{UID: "u", Role: token.Worker, Address: "10.0.0.2", MachineID: "m"}
	for name, change := range map[string]func(kube.NodeRecords){
		"no name":              func(r kube.NodeRecords) { r[""] = good },
		"a name of the policy": func(r kube.NodeRecords) { r["uid_b"] = good },
		"no uid":               func(r kube.NodeRecords) { bad := good; bad.UID = ""; r["b"] = bad },
		"a uid with a role":    func(r kube.NodeRecords) { bad := good; bad.UID = "controller:u"; r["b"] = bad },
		"no role":              func(r kube.NodeRecords) { bad := good; bad.Role = ""; r["b"] = bad },
		"an address with a port": func(r kube.NodeRecords) {
			bad := good
			bad.Address = "10.0.0.1:6443"
			r["b"] = bad
		},
		"no machine id": func(r kube.NodeRecords) { bad := good; bad.MachineID = ""; r["b"] = bad },
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.UpdateNodeRecords(t.Context(), func(r kube.NodeRecords) error { change(r); return nil }); err == nil {
				t.Error("it was written")
			}
		})
	}
	if w := s.Writes(); w != nil {
		t.Errorf("writes: %q", w)
	}
}

func TestNodeRecords_RefusesDamagedRecord(t *testing.T) {
	s, c := kubetest.New(t)
	const good = `{"uid":"u","role":"worker","address":"10.0.0.1","machineId":"m","agentKey":"","admitted":"2026-01-02T03:04:05Z","joined":false}`
	for name, tt := range map[string]struct {
		data map[string]any
		want string
	}{
		"not JSON":            {map[string]any{"b": "{", "uid_b": "worker:u"}, "it is not JSON"},
		"more than one value": {map[string]any{"b": good + "{}", "uid_b": "worker:u"}, "it is not JSON"},
		"unknown field":       {map[string]any{"b": strings.Replace(good, "joined", "learner", 1), "uid_b": "worker:u"}, "unknown field"},
		"null":                {map[string]any{"b": "null", "uid_b": "worker:u"}, "is not valid"},
		"unknown role":        {map[string]any{"b": strings.Replace(good, "worker", "master", 1), "uid_b": "master:u"}, "neither controller nor worker"},
		"no uid key":          {map[string]any{"b": good}, `key uid_b is "" instead of "worker:u"`},
		"another uid":         {map[string]any{"b": good, "uid_b": "worker:v"}, `key uid_b is "worker:v"`},
		"another role":        {map[string]any{"b": good, "uid_b": "controller:u"}, `key uid_b is "controller:u"`},
		"only the uid":        {map[string]any{"uid_b": "worker:u"}, "key uid_b has no record"},
	} {
		t.Run(name, func(t *testing.T) {
			data := maps.Clone(tt.data)
			data["a"], data["uid_a"] = good, "worker:u"
			s.Put(recordsPath, map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "plinth-nodes"}, "data": data})
			for what, err := range map[string]error{
				"read":   func() error { _, err := c.NodeRecords(t.Context()); return err }(),
				"update": c.UpdateNodeRecords(t.Context(), func(kube.NodeRecords) error { return nil }),
			} {
				if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), `the record of node "b" in ConfigMap kube-system/plinth-nodes is damaged`) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

func TestNodeRecordsControllers_ReturnsJoinedOnesSorted(t *testing.T) {
	all := kube.NodeRecords{
		"c": {Role: token.Controller, Joined: true}, "a": {Role: token.Controller, Joined: true},
		"b": {Role: token.Controller}, "w": {Role: token.Worker, Joined: true},
	}
	names := func(records []kube.NodeRecord) (out []string) {
		for _, rec := range records {
			out = append(out, rec.Node)
		}
		return out
	}
	if got := names(all.Controllers()); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("controllers %q", got)
	}
	if got := names(all.Sorted()); !slices.Equal(got, []string{"a", "b", "c", "w"}) {
		t.Errorf("sorted %q", got)
	}
}

func TestOtherControllers_AreThoseThatHaveJoined(t *testing.T) {
	records := kube.NodeRecords{}
	for _, r := range []kube.NodeRecord{
		{Node: "c1", Role: token.Controller, Address: "10.0.0.1", Joined: true},
		{Node: "c2", Role: token.Controller, Address: "10.0.0.2", Joined: true},
		{Node: "c3", Role: token.Controller, Address: "10.0.0.3"},
		{Node: "w1", Role: token.Worker, Address: "10.0.0.4", Joined: true},
	} {
		records[r.Node] = r
	}
	if got, want := records.OtherControllers("c1"), []netip.Addr{netip.MustParseAddr("10.0.0.2")}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
