package kots

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/testkit"
)

func TestParameter_IsStoredInTheDatabase(t *testing.T) {
	params := map[string]string{"other": "1"}
	broken := false
	k := withDatabase(t, func(w http.ResponseWriter, r *http.Request) {
		var statements [][]string
		if err := json.NewDecoder(r.Body).Decode(&statements); err != nil || len(statements) != 1 || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%v, %v, %s", statements, err, r.Header.Get("Content-Type"))
			return
		}
		s := statements[0]
		switch verb, _, _ := strings.Cut(s[0], " "); {
		case broken:
			fmt.Fprint(w, `{"results": [{"error": "no such table: kotsadm_params"}]}`)
			return
		case verb == "SELECT" && r.URL.Path == "/db/query":
			if value, ok := params[s[1]]; ok {
				fmt.Fprintf(w, `{"results": [{"columns": ["value"], "types": ["text"], "values": [[%q]]}]}`, value)
				return
			}
		case verb == "INSERT" && r.URL.Path == "/db/execute":
			params[s[1]] = s[2]
		case verb == "DELETE" && r.URL.Path == "/db/execute":
			delete(params, s[1])
		default:
			t.Errorf("unexpected %s %q", r.URL.Path, s)
		}
		fmt.Fprint(w, `{"results": [{}]}`)
	})
	const address = "http://prometheus.prometheus.svc.cluster.local:9090"
	for _, want := range []string{"", address, ""} {
		testkit.Must(t, k.SetParameter(t.Context(), PrometheusAddress, want))
		if got, err := k.Parameter(t.Context(), PrometheusAddress); err != nil || got != want {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	if params["other"] != "1" {
		t.Error("another parameter was changed")
	}
	broken = true
	if _, err := k.Parameter(t.Context(), PrometheusAddress); err == nil || !strings.Contains(err.Error(), "no such table") {
		t.Error(err)
	}
}
