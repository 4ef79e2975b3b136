package probe

import (
	"net"
	"os"
	"slices"
	"testing"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestListeners_NamesTheOwner(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	testkit.Must(t, err)
	defer func() { _ = l.Close() }()
	number := l.Addr().(*net.TCPAddr).Port
	all := Listeners(host.Local("/"))
	i := slices.IndexFunc(all, func(p facts.Port) bool { return p.PortKey == facts.PortKey{Number: number, Protocol: "tcp"} })
	if i < 0 || all[i].Owner == nil || all[i].Owner.PID != os.Getpid() {
		t.Errorf("%d in %+v", number, all)
	}
}
