package action

import (
	"context"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/node/cleanup"
)

// Audit writes an event of this command to the journal of the host, under the name of the agent,
// which writes its own events there. If that fails, it notes the error: what is done stays done.
func (env *Env) Audit(ctx context.Context, e agent.AuditEvent) {
	name := strings.TrimSuffix(cleanup.AgentUnit, ".service")
	cmd := host.Cmd{Argv: []string{"systemd-cat", "--identifier=" + name, "--priority=notice"}, Stdin: strings.NewReader(e.String() + "\n"), Timeout: 5 * time.Second}
	if _, err := env.Host.Run(ctx, cmd); err != nil {
		env.Note("cannot write the audit log: " + err.Error())
	}
}
