package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/testkit"
)

// answering is a transport whose every answer has this body.
type answering []byte

func (a answering) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(a))}, nil
}

// readAdmission reads what a host sends and what a cluster answers before they trust each other.
func readAdmission(t *testing.T, data []byte) {
	t.Helper()
	bounded := testkit.CheckBounds
	if len(data) < 4<<10 { // JSON does not grow; and measuring takes much longer than reading
		bounded = func(_ testing.TB, read func()) { read() }
	}
	bounded(t, func() {
		r := httptest.NewRequest(http.MethodPost, "/v1/join", nil)
		r.Body = http.MaxBytesReader(httptest.NewRecorder(), io.NopCloser(bytes.NewReader(data)), maxBodyBytes)
		var q JoinRequest
		if err := decodeStrictly(r, &q); err == nil && len(data) > maxBodyBytes {
			var tooLarge *http.MaxBytesError
			if _, err := io.Copy(io.Discard, r.Body); !errors.As(err, &tooLarge) {
				t.Errorf("a body of %d bytes is read", len(data))
			}
		}
		client := &http.Client{Transport: answering(data)}
		for _, answer := range []any{new(ClusterInfo), new(JoinResponse), new(RenewResponse)} {
			_ = requestJSON(t.Context(), client, clientRequest{method: http.MethodGet, url: "https://192.0.2.1/"}, answer)
		}
	})
}

func TestAdmission_BoundsWork(t *testing.T) {
	for name, data := range map[string]string{
		"many nodes":         `{"nodes":[` + strings.Repeat(`{},`, testkit.MaxInput/3-10) + `{}]}`,
		"many fields":        `{"fields":[` + strings.Repeat(`{"name":"a"},`, testkit.MaxInput/20) + `{}]}`,
		"deeply nested":      strings.Repeat(`[`, testkit.MaxInput),
		"escaped characters": `{"node":"` + strings.Repeat(`\u202e`, testkit.MaxInput/6-10) + `"}`,
		"a large authority":  `{"ca":"` + strings.Repeat("QUFB", testkit.MaxInput/4-10) + `"}`,
	} {
		t.Run(name, func(t *testing.T) { readAdmission(t, []byte(data)) })
	}
}

func FuzzAdmission(f *testing.F) {
	request, err := json.Marshal(JoinRequest{Node: "w1", MachineID: "m", Address: "192.0.2.21", AgentRequest: []byte("x")})
	testkit.Must(f, err)
	for _, seed := range []string{string(request), "", "{}", `{"unknown":1}`, `{"nodes":[{},{"name":"a"}]}`, `[[[[`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) <= testkit.MaxInput {
			readAdmission(t, data)
		}
	})
}
