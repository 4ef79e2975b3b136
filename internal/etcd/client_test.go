package etcd

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// newGateway returns a client of a server with fixed responses by path, and the
// requests that the server got.
func newGateway(t *testing.T, answers map[string]string) (*Client, *[]string) {
	t.Helper()
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, r.URL.Path+" "+string(body))
		answer, ok := answers[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			answer = `{"error":"etcdserver: member not found","code":5,"message":"etcdserver: member not found"}`
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(srv.Close)
	return &Client{http: srv.Client(), base: srv.URL}, &asked
}

const three = `{"header":{"cluster_id":"1"},"members":[
 {"ID":"9372538179322589801","name":"b","peerURLs":["https://10.0.0.2:2380"],"clientURLs":["https://127.0.0.1:2379"]},
 {"ID":"10501334649042878790","name":"a","peerURLs":["https://10.0.0.1:2380"]},
 {"ID":"18249187646912138824","peerURLs":["https://[2001:db8::3]:2380"],"isLearner":true}]}`

func TestMembers_MarksLeader(t *testing.T) {
	c, _ := newGateway(t, map[string]string{"/v3/cluster/member/list": three, "/v3/maintenance/status": `{"version":"3.5.27","leader":"9372538179322589801"}`})
	got, err := c.Members(t.Context())
	want := []Member{
		{ID: "18249187646912138824", Address: "2001:db8::3", Learner: true},
		{ID: "10501334649042878790", Name: "a", Address: "10.0.0.1"},
		{ID: "9372538179322589801", Name: "b", Address: "10.0.0.2", Leader: true},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v %v", got, err)
	}
}

func TestSetPeerAddress_UpdatesThePeerURL(t *testing.T) {
	const update = "/v3/cluster/member/update"
	for name, c := range map[string]struct{ address, answer, url, err string }{
		"IPv4":         {"10.0.0.9", `{"members":[]}`, "https://10.0.0.9:2380", ""},
		"IPv6":         {"2001:db8::9", `{"members":[]}`, "https://[2001:db8::9]:2380", ""},
		"other member": {"10.0.0.9", "", "https://10.0.0.9:2380", "member not found"},
	} {
		t.Run(name, func(t *testing.T) {
			answers := map[string]string{}
			if c.answer != "" {
				answers[update] = c.answer
			}
			client, asked := newGateway(t, answers)
			err := client.SetPeerAddress(t.Context(), "7", c.address)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || (*asked)[0] != update+` {"ID":"7","peerURLs":["`+c.url+`"]}` {
				t.Errorf("%v, requests %v", err, *asked)
			}
		})
	}
}

func TestAddLearner_AddsMemberOnce(t *testing.T) {
	const list, add = "/v3/cluster/member/list", "/v3/cluster/member/add"
	for name, c := range map[string]struct {
		list, added string
		want        []string
		err         string
		asked       int
	}{
		"new member": {`{"members":[{"ID":"1","name":"a","peerURLs":["https://10.0.0.1:2380"]}]}`,
			`{"member":{"ID":"2"},"members":[{"ID":"2","peerURLs":["https://10.0.0.2:2380"],"isLearner":true},{"ID":"1","name":"a","peerURLs":["https://10.0.0.1:2380"]}]}`,
			[]string{"b=https://10.0.0.2:2380", "a=https://10.0.0.1:2380"}, "", 2},
		"member that was added before": {`{"members":[{"ID":"2","peerURLs":["https://10.0.0.2:2380"],"isLearner":true},{"ID":"1","name":"a","peerURLs":["https://10.0.0.1:2380"]}]}`, "",
			[]string{"b=https://10.0.0.2:2380", "a=https://10.0.0.1:2380"}, "", 1},
		"another member never started": {`{"members":[{"ID":"3","peerURLs":["https://10.0.0.3:2380"]}]}`, "", nil, "never started, at https://10.0.0.3:2380", 1},
		"error from etcd":              {`{"members":[]}`, "", nil, "etcdserver: member not found", 2}, // any message of etcd
	} {
		t.Run(name, func(t *testing.T) {
			answers := map[string]string{list: c.list}
			if c.added != "" {
				answers[add] = c.added
			}
			client, asked := newGateway(t, answers)
			got, err := client.AddLearner(t.Context(), "b", "https://10.0.0.2:2380")
			if !slices.Equal(got, c.want) || (c.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.err) || len(*asked) != c.asked {
				t.Errorf("%v, %v, requests %v", got, err, *asked)
			}
			if c.asked == 2 && (*asked)[1] != add+` {"isLearner":true,"peerURLs":["https://10.0.0.2:2380"]}` {
				t.Error((*asked)[1])
			}
		})
	}
}

func TestPromote_SkipsVotersAndMembersThatNeverStarted(t *testing.T) {
	const list = `{"members":[{"ID":"1","name":"a"},{"ID":"2","name":"b","isLearner":true},{"ID":"3","isLearner":true}]}`
	c, asked := newGateway(t, map[string]string{"/v3/cluster/member/list": list, "/v3/cluster/member/promote": `{}`})
	names, err := c.Promote(t.Context())
	if err != nil || !slices.Equal(names, []string{"b"}) || len(*asked) != 2 || (*asked)[1] != `/v3/cluster/member/promote {"ID":"2"}` {
		t.Errorf("%v %v %v", names, err, *asked)
	}
	c, _ = newGateway(t, map[string]string{"/v3/cluster/member/list": list})
	if names, err := c.Promote(t.Context()); len(names) != 0 || err != nil {
		t.Errorf("member that has not caught up: %v %v", names, err)
	}
}

func TestRemove_AcceptsMissingMember(t *testing.T) {
	c, asked := newGateway(t, nil)
	if err := c.Remove(t.Context(), "7"); err != nil {
		t.Error(err)
	}
	if len(*asked) != 1 || (*asked)[0] != `/v3/cluster/member/remove {"ID":"7"}` {
		t.Error(*asked)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"message":"etcdserver: unhealthy cluster"}`)
	}))
	defer srv.Close()
	if err := (&Client{http: srv.Client(), base: srv.URL}).Remove(t.Context(), "7"); err == nil || !strings.Contains(err.Error(), "503 Service Unavailable: etcdserver: unhealthy cluster") {
		t.Error(err)
	}
}

func TestSimulateRemoval_ReportsLostQuorum(t *testing.T) {
	all := func(n int) (out []Member) {
		for i := range n {
			out = append(out, Member{ID: string(rune('a' + i)), Name: string(rune('a' + i))})
		}
		return out
	}
	for name, c := range map[string]struct {
		members []Member
		down    string
		breaks  bool
		says    string
	}{
		"one of three":                       {all(3), "", false, "2 controllers are left, and none of them may fail without stopping the cluster"},
		"one of five":                        {all(5), "", false, ""},
		"one of two":                         {all(2), "", false, "1 controller is left, and none"},
		"the last":                           {all(1), "", true, "last controller"},
		"dead one of three":                  {all(3), "a", false, "2 controllers are left"},
		"healthy one of three with one dead": {all(3), "b", true, "only 1 of the 2 controllers that are left would serve, and 2 have to"},
		"last voter beside a learner":        {append(all(1), Member{ID: "z", Learner: true}), "", true, "last controller"},
	} {
		t.Run(name, func(t *testing.T) {
			r := SimulateRemoval(c.members, "a", func(m Member) bool { return m.Name != c.down })
			if r.LosesQuorum != c.breaks || !strings.Contains(r.Message, c.says) || (c.says == "") != (r.Message == "") {
				t.Errorf("%+v", r)
			}
		})
	}
}

func FuzzMembers(f *testing.F) {
	f.Add([]byte(three))
	f.Add([]byte(`{"members":[{}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := &Client{base: "http://etcd", http: &http.Client{Transport: fixedResponse(raw)}}
		list, err := c.Members(t.Context())
		if err == nil && !json.Valid(raw) {
			t.Errorf("%q was read as %v", raw, list)
		}
	})
}

// fixedResponse is a transport that returns the same body for every request.
type fixedResponse []byte

func (a fixedResponse) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(string(a)))}, nil
}
