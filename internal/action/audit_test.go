package action_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
)

func TestAudit_WritesToTheJournalUnderTheAgentsName(t *testing.T) {
	fake := hosttest.New(t)
	var got []byte
	fake.Expect("systemd-cat --identifier=plinth-agent").Do(func(c host.Cmd) { got, _ = io.ReadAll(c.Stdin) })
	r := &action.Env{Host: fake.Host(), GlobalOptions: action.GlobalOptions{Note: func(n string) { t.Error(n) }}}
	r.Audit(t.Context(), agent.AuditEvent{Event: agent.AuditRevocation, Token: "abcd1234", Result: "token revoked"})
	if want := "audit event=revocation node=- peer=- token=\"abcd1234\" result=\"token revoked\"\n"; string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestAudit_NotesAnError(t *testing.T) {
	fake := hosttest.New(t)
	fake.Expect("systemd-cat").Return("", errors.New("not found"))
	var notes []string
	r := &action.Env{Host: fake.Host(), GlobalOptions: action.GlobalOptions{Note: func(n string) { notes = append(notes, n) }}}
	r.Audit(t.Context(), agent.AuditEvent{Event: agent.AuditRevocation})
	if len(notes) != 1 || !strings.Contains(notes[0], "cannot write the audit log") {
		t.Error(notes)
	}
}
