package printer

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action/join"
	"github.com/plinthdev/plinth/internal/action/tokens"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
	"github.com/plinthdev/plinth/internal/ui"
)

// someTokens returns a used and a revoked token.
func someTokens() []tokens.Record {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	later := at.Add(time.Minute)
	return []tokens.Record{
		{ID: "k3jw7qzp", Role: "worker", State: token.UsedUp, Created: at, Expires: at.Add(time.Hour), Uses: 1,
			UsedBy: []token.Use{{Node: "n2", MachineID: "0f1e", At: later, Key: "sha256:ab"}}, Hash: "a hash"},
		{ID: "a1b2c3d4", Role: "controller", State: token.Revoked, Created: at, Expires: at.Add(time.Hour), Uses: 2, UsesLeft: 2, Revoked: &later},
	}
}

func TestWriteJSON_OfTokensMatchesGolden(t *testing.T) {
	var out bytes.Buffer
	if err := WriteJSON(&out, map[string]any{"tokens": someTokens()}, nil, &ui.Secrets{}); err != nil {
		t.Fatal(err)
	}
	testkit.Golden(t, "testdata/token-list.json", out.Bytes())
}

func TestWriters_OfTokensAndJoinsMatchGoldens(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	made := tokens.CreatedToken{ID: "k3jw7qzp", Role: "worker", Expires: at, Uses: 1, Token: "plinth1-3-abc-xyz", FetchCommand: "echo … | curl …", JoinCommand: "echo … | curl … && echo plinth1-3-abc-xyz | sudo ./plinth join -"}
	plain := made
	plain.FetchCommand, plain.JoinCommand = "", "echo plinth1-3-abc-xyz | sudo plinth join -"
	for name, write := range map[string]func(io.Writer){
		"token-created":       func(w io.Writer) { WriteNewToken(w, made) },
		"token-created-plain": func(w io.Writer) { WriteNewToken(w, plain) },
		"token-list":          func(w io.Writer) { WriteTokenList(w, someTokens()) },
		"token-list-active": func(w io.Writer) {
			WriteTokenList(w, []tokens.Record{{ID: "b2c3d4e5", Role: "worker", State: token.Active, Created: at, Expires: at.Add(time.Hour), Uses: 1, UsesLeft: 1}})
		},
		"token-list-empty": func(w io.Writer) { WriteTokenList(w, nil) },
		"token-revoked":    func(w io.Writer) { WriteRevokedToken(w, someTokens()[1]) },
		"join-done": func(w io.Writer) {
			WriteJoinResult(w, join.Result{Changed: true, Cluster: "my-app", Role: "worker", Node: "n2", Log: "/var/log/plinth/join-1.log", Preflights: newReport()}, false)
		},
		"join-nothing": func(w io.Writer) {
			WriteJoinResult(w, join.Result{Cluster: "my-app", Node: "n2", Preflights: newReport()}, false)
		},
		"join-plan": func(w io.Writer) {
			WriteJoinResult(w, join.Result{Plan: plannedSteps(), Preflights: newReport()}, false)
		},
		"join-differs": func(w io.Writer) {
			WriteJoinResult(w, join.Result{Mismatches: [][3]string{{"spec.k0s.version", "v1.33.9+k0s.0", "v1.33.8+k0s.1"}, {"spec.kotsadm.namespace", "", "kotsadm"}}}, true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			write(&out)
			testkit.Golden(t, "testdata/"+name+".txt", out.Bytes())
		})
	}
}
