package probe

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/probe/parse"
	"github.com/plinthdev/plinth/internal/probe/traces"
)

func (l look) traces(context.Context) answer {
	links, err := l.k.Links()
	if err != nil {
		links = nil // network says so
	}
	found, unknown := traces.Find(l.files, l.req.DataDirs, links)
	return answer{unknown: unknown, note: func(f *facts.Facts) { f.Traces = append(f.Traces, found...) }}
}

// iptables counts the rules of Kubernetes with what the host has for that, and
// finds the chains that refuse all else. Legacy tables are only asked when they
// exist: asking would create them.
func (l look) iptables(ctx context.Context) answer {
	total, asked := 0, 0
	var filters []facts.Filter
	for _, argv := range [][]string{{"iptables-nft-save"}, {"iptables-legacy-save"}, {"iptables-save"}, {"nft", "list", "chains"}} {
		legacy, nft := strings.Contains(argv[0], "legacy"), argv[0] == "nft"
		again := asked > 0 && !legacy // it would tell the same rules once more
		if again && !nft || !l.files.Exists("/usr/sbin/"+argv[0]) || legacy && l.files.Text("/proc/net/ip_tables_names") == "" {
			continue
		}
		out, err := l.m.Run(ctx, host.Cmd{Argv: argv, Timeout: commandLimit, Look: true})
		if err != nil {
			return found(facts.FactIptables, err, nil)
		}
		asked++
		if !again {
			total += parse.KubeRules(out)
		}
		filters = append(append(filters, parse.IptablesFilters(out)...), parse.NftFilters(out)...)
	}
	if asked == 0 {
		return found(facts.FactIptables, errors.New("this host has neither iptables-save nor nft to ask"), nil)
	}
	return answer{note: func(f *facts.Facts) {
		f.Filters = filters
		if total > 0 {
			f.Traces = append(f.Traces, facts.Trace{Of: facts.KubeProxy, Kind: "iptables", Detail: "lines with KUBE-: " + strconv.Itoa(total)})
		}
	}}
}

// systemd asks for the manager and all units in two calls: each costs some
// 10 ms, and one call per unit would be most of the probe's time.
func (l look) systemd(ctx context.Context) answer {
	// sd_booted(3): this folder is there only when systemd is the service manager.
	if !l.files.Exists("/run/systemd/system") {
		return found(facts.FactSystemd, nil, func(*facts.Facts) {})
	}
	s := facts.Systemd{Booted: true}
	units, err := l.units(ctx)
	manager, errManager := l.show(ctx, "Version,SystemState")
	for _, properties := range manager {
		s.Version, s.State = properties["Version"], properties["SystemState"]
	}
	a := found(facts.FactSystemd, errors.Join(err, errManager), nil)
	a.note = func(f *facts.Facts) { f.Systemd, f.Units = s, units }
	return a
}

func (l look) units(ctx context.Context) ([]facts.Unit, error) {
	if len(l.req.Units) == 0 {
		return nil, nil
	}
	shown, err := l.show(ctx, "Id,LoadState,ActiveState,FragmentPath,MainPID", l.req.Units...)
	if err != nil {
		return nil, err
	}
	var units []facts.Unit
	for _, p := range shown {
		if p["LoadState"] == "not-found" {
			continue
		}
		pid, _ := strconv.Atoi(p["MainPID"]) // 0 when it does not run
		units = append(units, facts.Unit{Name: strings.TrimSuffix(p["Id"], ".service"), Active: p["ActiveState"], Path: p["FragmentPath"], MainPID: pid})
	}
	return units, nil
}

func (l look) show(ctx context.Context, properties string, units ...string) ([]map[string]string, error) {
	argv := append([]string{"systemctl", "show", "--no-pager", "--property=" + properties}, units...)
	out, err := l.m.Run(ctx, host.Cmd{Argv: argv, Timeout: commandLimit, Look: true})
	if err != nil {
		return nil, err
	}
	return parse.Show(out), nil
}
