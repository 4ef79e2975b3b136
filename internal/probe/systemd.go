package probe

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
)

// gatherTraces lists what other software, or an earlier cluster, left on this
// host.
func (pr prober) gatherTraces(context.Context) partResult {
	links, err := pr.system.ListInterfaces()
	if err != nil {
		links = nil // gatherNetwork reports this error
	}
	found, unknown := findTraces(pr.files, pr.req.DataDirs, links)
	return partResult{unknown: unknown, record: func(f *facts.Facts) { f.Traces = append(f.Traces, found...) }}
}

// gatherFirewall counts the firewall rules of Kubernetes with the tools that
// the host has, and lists the chains that reject everything not allowed. It
// reads legacy tables only if they exist: reading would create them.
func (pr prober) gatherFirewall(ctx context.Context) partResult {
	total, tools := 0, 0
	var filters []facts.FilterChain
	for _, argv := range [][]string{{"iptables-nft-save"}, {"iptables-legacy-save"}, {"iptables-save"}, {"nft", "list", "chains"}} {
		legacy, nft := strings.Contains(argv[0], "legacy"), argv[0] == "nft"
		again := tools > 0 && !legacy // this tool would list the same rules again
		if again && !nft || !pr.files.Exists("/usr/sbin/"+argv[0]) || legacy && pr.files.ReadText("/proc/net/ip_tables_names") == "" {
			continue
		}
		out, err := pr.machine.Run(ctx, host.Cmd{Argv: argv, Timeout: commandTimeout, ReadOnly: true})
		if err != nil {
			return newPartResult(facts.FactIptables, err, nil)
		}
		tools++
		if !again {
			total += countKubeRules(out)
		}
		filters = append(append(filters, parseIptablesFilters(out)...), parseNftFilters(out)...)
	}
	if tools == 0 {
		return newPartResult(facts.FactIptables, errors.New("this host has neither iptables-save nor nft"), nil)
	}
	return partResult{record: func(f *facts.Facts) {
		f.Filters = filters
		if total > 0 {
			f.Traces = append(f.Traces, facts.Trace{Software: facts.KubeProxy, Kind: "iptables", Detail: "lines with KUBE-: " + strconv.Itoa(total)})
		}
	}}
}

// gatherSystemd queries the manager and all units with two commands: each costs
// about 10 ms, and one command per unit would take most of the probe's time.
func (pr prober) gatherSystemd(ctx context.Context) partResult {
	// sd_booted(3): this directory exists only if systemd is the service manager.
	if !pr.files.Exists("/run/systemd/system") {
		return newPartResult(facts.FactSystemd, nil, func(*facts.Facts) {})
	}
	s := facts.Systemd{Booted: true}
	units, err := pr.listUnits(ctx)
	manager, errManager := pr.showUnits(ctx, "Version,SystemState")
	for _, properties := range manager {
		s.Version, s.State = properties["Version"], properties["SystemState"]
	}
	a := newPartResult(facts.FactSystemd, errors.Join(err, errManager), nil)
	a.record = func(f *facts.Facts) { f.Systemd, f.Units = s, units }
	return a
}

// listUnits returns the requested units that systemd has loaded.
func (pr prober) listUnits(ctx context.Context) ([]facts.Unit, error) {
	if len(pr.req.Units) == 0 {
		return nil, nil
	}
	shown, err := pr.showUnits(ctx, "Id,LoadState,ActiveState,FragmentPath,MainPID", pr.req.Units...)
	if err != nil {
		return nil, err
	}
	var units []facts.Unit
	for _, p := range shown {
		if p["LoadState"] == "not-found" {
			continue
		}
		pid, _ := strconv.Atoi(p["MainPID"]) // 0 if the unit does not run
		units = append(units, facts.Unit{Name: strings.TrimSuffix(p["Id"], ".service"), Active: p["ActiveState"], Path: p["FragmentPath"], MainPID: pid})
	}
	return units, nil
}

// showUnits returns the properties that "systemctl show" prints: one map per
// unit, or one for the manager if no unit is given.
func (pr prober) showUnits(ctx context.Context, properties string, units ...string) ([]map[string]string, error) {
	argv := append([]string{"systemctl", "show", "--no-pager", "--property=" + properties}, units...)
	out, err := pr.machine.Run(ctx, host.Cmd{Argv: argv, Timeout: commandTimeout, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	return parseSystemctlShow(out), nil
}
