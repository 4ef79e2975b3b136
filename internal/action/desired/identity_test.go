package desired

import (
	"net/netip"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestRecordedIdentity_PrefersTheReceipt(t *testing.T) {
	args := journal.Args{Node: "n1", MachineID: "1", Address: "10.0.0.5"}
	worker := args
	worker.Role = "worker"
	receipt := journal.Receipt{Role: "controller", Node: "n2", MachineID: "2", Address: "10.0.0.6"}
	ofWorker := journal.Receipt{Role: "worker", Node: "n1", MachineID: "1", Address: "10.0.0.5"}
	at := func(text string) netip.Addr { return netip.MustParseAddr(text) }
	type run struct {
		verb  string
		args  journal.Args
		start bool // the run reached the start of k0s
	}
	for name, c := range map[string]struct {
		runs    []run
		receipt journal.Receipt
		want    facts.Identity
	}{
		"nothing was run":       {nil, journal.Receipt{}, facts.Identity{}},
		"an unfinished install": {[]run{{"install", args, false}}, journal.Receipt{}, facts.Identity{Node: "n1", MachineID: "1", Address: at("10.0.0.5")}},
		"one that started k0s":  {[]run{{"install", args, true}, {"install", args, false}}, journal.Receipt{}, facts.Identity{Node: "n1", MachineID: "1", Address: at("10.0.0.5"), Unit: k0s.ControllerUnit}},
		"an unfinished join":    {[]run{{"join", worker, true}}, journal.Receipt{}, facts.Identity{Node: "n1", MachineID: "1", Address: at("10.0.0.5"), Unit: k0s.WorkerUnit}},
		"a finished install":    {[]run{{"install", args, true}}, receipt, facts.Identity{Node: "n2", MachineID: "2", Address: at("10.0.0.6"), Unit: k0s.ControllerUnit, Controller: true}},
		"a finished join":       {[]run{{"join", worker, true}}, ofWorker, facts.Identity{Node: "n1", MachineID: "1", Address: at("10.0.0.5"), Unit: k0s.WorkerUnit}},
		"a killed repair":       {[]run{{"install", args, true}, {"repair", args, true}}, receipt, facts.Identity{Node: "n2", MachineID: "2", Address: at("10.0.0.6"), Unit: k0s.ControllerUnit, Controller: true, Repairing: true}},
		"after a reset":         {[]run{{"install", args, true}, {"reset", journal.Args{}, false}}, journal.Receipt{}, facts.Identity{}},
	} {
		t.Run(name, func(t *testing.T) {
			j, err := journal.Open(hosttest.New(t).Host(), "/var/lib/plinth", func() time.Time { return time.Unix(0, 0) })
			testkit.Must(t, err)
			for _, r := range c.runs {
				testkit.Must(t, j.BeginRun(r.verb, r.args))
				if r.start {
					testkit.Must(t, j.BeginStep("k0s-start", nil))
				}
			}
			if got := RecordedIdentity(j, c.receipt); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}
