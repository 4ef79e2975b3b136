package probe

import (
	"context"
	"errors"
	"slices"
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

// gatherFirewall reads the rules of the packet filter with the tools that the host
// has, and counts those of Kubernetes. It reads legacy tables only if they exist:
// reading would create them.
func (pr prober) gatherFirewall(ctx context.Context) partResult {
	var rules packetRules
	for _, argv := range [][]string{{"iptables-nft-save"}, {"ip6tables-nft-save"}, {"iptables-legacy-save"}, {"iptables-save"}, {"ip6tables-save"}, {"nft", "-j", "list", "ruleset"}} {
		program := argv[0]
		legacy := strings.Contains(program, "legacy")
		family := strings.TrimSuffix(strings.TrimSuffix(program, "-save"), "-nft")
		again := program == family+"-save" && rules.read[family] // it would list the same rules again
		if again || !pr.files.Exists("/usr/sbin/"+program) || legacy && pr.files.ReadText("/proc/net/ip_tables_names") == "" {
			continue
		}
		out, err := pr.listRules(ctx, argv)
		if err == nil {
			err = rules.add(program, out)
		}
		if err != nil {
			return newPartResult(facts.FactIptables, err, nil)
		}
	}
	if len(rules.read) == 0 {
		return newPartResult(facts.FactIptables, errors.New("this host has neither iptables-save nor nft"), nil)
	}
	return partResult{record: func(f *facts.Facts) {
		f.Filters, f.ForeignTables = rules.chains, rules.foreign
		if rules.kube > 0 {
			f.Traces = append(f.Traces, facts.Trace{Software: facts.KubeProxy, Kind: "iptables", Detail: "lines with KUBE-: " + strconv.Itoa(rules.kube)})
		}
	}}
}

// clusterIptables is the iptables that k0s unpacks and that writes the cluster's rules.
const clusterIptables = "/var/lib/k0s/bin/xtables-nft-multi"

// listRules runs a command that lists the rules of the packet filter. An iptables that is
// older than the cluster's cannot read the cluster's own rules (1.8.7 of Debian 11), and
// takes them for those of another program; then the cluster's is asked.
func (pr prober) listRules(ctx context.Context, argv []string) ([]byte, error) {
	run := func(argv ...string) ([]byte, error) {
		return pr.machine.Run(ctx, host.Cmd{Argv: argv, Timeout: commandTimeout, ReadOnly: true})
	}
	out, err := run(argv...)
	if err != nil || !unreadableTable.Match(out) || !pr.files.Exists(clusterIptables) {
		return out, err
	}
	return run(clusterIptables, strings.Replace(argv[0], "-nft-", "-", 1))
}

// packetRules collects what several tools report about the packet filter.
type packetRules struct {
	chains  []facts.FilterChain
	foreign []string
	kube    int             // rules of Kubernetes
	read    map[string]bool // "iptables", "ip6tables", "iptables-legacy", "nft"
}

// add adds the output of program. Chains of tables that iptables reads are left to it:
// nft only names the extensions of iptables that its rules use.
func (r *packetRules) add(program string, out []byte) error {
	tool := strings.TrimSuffix(program, "-save")
	family := strings.TrimSuffix(tool, "-nft")
	if r.read == nil {
		r.read = map[string]bool{}
	}
	switch tool {
	case "nft":
		rules, err := parseNft(out)
		if err != nil {
			return err
		}
		if !r.read["iptables"] {
			r.foreign = rules.foreign
			r.kube = rules.countKube()
		}
		for _, c := range rules.chains {
			name, ipv4 := strings.CutPrefix(c.Table, "ip ")
			if !ipv4 || !r.has("iptables "+name, c.Name) {
				r.chains = append(r.chains, c)
			}
		}
	case "ip6tables", "ip6tables-nft":
		r.foreign = append(r.foreign, parseForeignTables(out, "ip6")...)
	default:
		r.kube += countKubeRules(out)
		r.chains = append(r.chains, parseIptables(out, family)...)
		r.foreign = append(r.foreign, parseForeignTables(out, "ip")...)
	}
	r.read[family] = true
	return nil
}

// has reports whether a chain with this name was already read.
func (r *packetRules) has(table, name string) bool {
	return slices.ContainsFunc(r.chains, func(c facts.FilterChain) bool { return c.Table == table && c.Name == name })
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
