package checks

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// securityChecks returns the checks of security software that may block programs or
// packets: AppArmor, packet filters, fapolicyd, endpoint agents, sudo and proxies.
func securityChecks() []hp.Check {
	return []hp.Check{
		{ID: "apparmor", Group: "Security", Title: "AppArmor", Severity: hp.Warn,
			Expected:  "off, or with apparmor_parser",
			Rationale: "containerd cannot load its profile without the parser: pods run without a profile, and pods that require one do not start.",
			Run:       hp.RequireFact(facts.FactSecurity, hp.RequireFact(facts.FactCommands, checkAppArmor))},
		{ID: "packet-filter", Group: "Security", Title: "Packet filter", Severity: hp.Warn,
			Expected:  "no rule that drops packets to the ports of the cluster, from and to pods, on loopback, or replies",
			Rationale: "the cluster's rules do not override another table that drops packets: pods and nodes cannot reach each other (k0s's networking page lists the ports).",
			Run:       hp.RequireFact(facts.FactIptables, checkPacketFilter)},
		{ID: "iptables-tables", Group: "Security", Title: "Tables of iptables", Severity: hp.Fail,
			Expected:  "in the nftables tables that iptables uses (filter, nat, mangle, raw, security), only rules that it can read",
			Rationale: "with a map, a reject or a ct statement in one, iptables ends with \"incompatible, use 'nft' tool\" and kube-router restarts again and again.",
			Run:       hp.RequireFact(facts.FactIptables, checkIptablesTables)},
		{ID: "fapolicyd", Group: "Security", Title: "fapolicyd", Severity: hp.Fail,
			Expected:  "off, or with rules that allow k0s's directories before any rule that denies something",
			Rationale: "it allows only programs from packages: k0s's programs and those in containers are blocked (RKE2's known issues).",
			Run:       hp.RequireFact(facts.FactSystemd, hp.RequireFact(facts.FactSecurity, checkFapolicyd))},
		{ID: "endpoint-security", Group: "Security", Title: "Endpoint security", Severity: hp.Warn,
			Expected:  "no agent, or one that excludes k0s's directories",
			Rationale: "agents quarantine unpacked programs and slow down file access; etcd and image imports time out (Embedded Cluster looks for them in its support bundles).",
			Run:       hp.RequireFact(facts.FactSystemd, checkEndpointSecurity)},
		{ID: "sudo-path", Group: "Security", Title: "sudo path", Severity: hp.Warn,
			Expected:  "/usr/local/bin in secure_path of /etc/sudoers",
			Rationale: "otherwise sudo does not find k0s and other programs there; plinth kubectl and plinth shell do not need it.",
			Run:       hp.RequireFact(facts.FactSecurity, checkSudoPath)},
		{ID: "proxy", Group: "Security", Title: "Proxies", Severity: hp.Warn,
			Expected:  "for each proxy, a no_proxy setting with the pod and service networks and this host's address",
			Rationale: "otherwise programs send requests for cluster addresses to the proxy, which cannot reach them.",
			Run:       hp.RequireFact(facts.FactProxies, hp.RequireFact(facts.FactNetwork, checkProxies))},
	}
}

// securityCommands returns the programs to look for.
func securityCommands() []string { return []string{"apparmor_parser"} }

// endpointAgent is an endpoint security agent and its systemd units.
type endpointAgent struct {
	name  string
	units []string
}

// endpointAgents returns the common agents, with the units that their packages
// install.
func endpointAgents() []endpointAgent {
	return []endpointAgent{
		{"CrowdStrike Falcon", []string{"falcon-sensor"}},
		{"Microsoft Defender", []string{"mdatp"}},
		{"SentinelOne", []string{"sentinelone", "sentinelone-agent"}},
		{"Carbon Black", []string{"cbagentd", "cbdaemon"}},
		{"Trellix", []string{"mfetpd", "xagt"}},
		{"Trend Micro", []string{"ds_agent"}},
		{"Sophos", []string{"sophos-spl"}},
		{"Cortex XDR", []string{"traps_pmd"}},
		{"Elastic Defend", []string{"ElasticEndpoint"}},
		{"Cybereason", []string{"cybereason-sensor"}},
	}
}

// securityUnits returns the systemd units to query.
func securityUnits() []string {
	all := []string{"fapolicyd"}
	for _, a := range endpointAgents() {
		all = append(all, a.units...)
	}
	return all
}

func checkAppArmor(f facts.Facts, _ hp.Requirements) hp.Result {
	switch {
	case !f.Security.AppArmor:
		return hp.Passed("off")
	case f.Commands["apparmor_parser"] == "":
		return hp.Warned("sudo apt-get install apparmor (SLES: sudo zypper install apparmor-parser)", "on, without apparmor_parser")
	}
	return hp.Passed("on, with %s", f.Commands["apparmor_parser"])
}

// filterOwner returns the program that manages chain c and has a check of its own, or
// "" for none.
func filterOwner(f facts.Facts, c facts.FilterChain) string {
	unit, _ := f.Unit("firewalld")
	isIptables := strings.HasPrefix(c.Table, "iptables") || strings.HasPrefix(c.Table, "ip ")
	switch {
	case strings.HasSuffix(c.Table, " firewalld"), unit.Active == "active" && isIptables && hasChain(f, "INPUT_ZONES"):
		return "firewalld"
	case f.Security.UFW && isIptables:
		return "ufw"
	}
	return ""
}

// hasChain reports whether the packet filter has a chain with this name.
func hasChain(f facts.Facts, name string) bool {
	return slices.ContainsFunc(f.Filters, func(c facts.FilterChain) bool { return c.Name == name })
}

func checkIptablesTables(f facts.Facts, _ hp.Requirements) hp.Result {
	if len(f.ForeignTables) == 0 {
		return hp.Passed("all legible to iptables")
	}
	var fixes []string
	state := hp.Warned
	for _, table := range f.ForeignTables {
		family, name, _ := strings.Cut(table, " ")
		if family == "ip" { // the cluster's rules for IPv6 are not needed
			state = hp.Failed
		}
		fixes = append(fixes, fmt.Sprintf("sudo sed -i -E 's/table %s %s( |$)/table %s host_%s\\1/' /etc/nftables.conf && sudo nft delete table %s", family, name, family, name, table))
	}
	return state(strings.Join(fixes, "\n")+"\nsudo nft -f /etc/nftables.conf", "%s", strings.Join(f.ForeignTables, ", "))
}

// programDirs returns the directories with programs of the cluster and of its containers.
func programDirs() []string {
	return []string{"/usr/local/bin/", "/var/lib/k0s/", "/run/k0s/", "/opt/cni/"}
}

func checkFapolicyd(f facts.Facts, _ hp.Requirements) hp.Result {
	if u, _ := f.Unit("fapolicyd"); u.Active != "active" {
		return hp.Passed("off")
	}
	if f.Security.FapolicydLogs {
		return hp.Passed("on, but it only logs")
	}
	blocked := slices.DeleteFunc(programDirs(), func(dir string) bool {
		return slices.ContainsFunc(f.Security.FapolicydAllows, func(allowed string) bool {
			return strings.HasPrefix(dir, strings.TrimSuffix(allowed, "/")+"/")
		})
	})
	if len(blocked) == 0 {
		return hp.Passed("on, with rules that allow %s", strings.Join(programDirs(), ", "))
	}
	rules := ""
	for _, dir := range programDirs() {
		rules += "allow perm=any all : dir=" + dir + "\\n"
	}
	return hp.Failed("printf '"+rules+"' | sudo tee /etc/fapolicyd/rules.d/20-k0s.rules\n"+
		"sudo fagenrules --load && sudo systemctl restart fapolicyd\nor: sudo systemctl disable --now fapolicyd",
		"on, without rules that allow %s", strings.Join(blocked, ", "))
}

func checkEndpointSecurity(f facts.Facts, _ hp.Requirements) hp.Result {
	var found []string
	for _, a := range endpointAgents() {
		if slices.ContainsFunc(a.units, func(name string) bool { u, _ := f.Unit(name); return u.Active == "active" }) {
			found = append(found, a.name)
		}
	}
	if found != nil {
		return hp.Warned("exclude /var/lib/k0s, /run/k0s and /usr/local/bin/k0s from its scans", "%s", strings.Join(found, ", "))
	}
	return hp.Passed("no known agent")
}

func checkSudoPath(f facts.Facts, _ hp.Requirements) hp.Result {
	p := f.Security.SudoPath
	if p == "" || slices.Contains(strings.Split(p, ":"), "/usr/local/bin") {
		return hp.Passed("%s", cmp.Or(p, "not limited"))
	}
	return hp.Warned("run programs with their full path (sudo /usr/local/bin/k0s), or add /usr/local/bin with: sudo visudo", "%s", p)
}

// checkProxies reports the proxy settings that do not exclude the addresses that must
// be reached without a proxy.
func checkProxies(f facts.Facts, req hp.Requirements) hp.Result {
	var bad, complete []string
	fix := ""
	for _, p := range f.Proxies {
		var missing []string
		for what, direct := range directNetworks(f, req) {
			if !isExcludedFromProxy(p.NoProxy, direct) {
				missing = append(missing, what)
			}
		}
		slices.Sort(missing)
		if missing == nil {
			complete = append(complete, p.From)
			continue
		}
		bad = append(bad, fmt.Sprintf("%s sends %s to %s", p.From, strings.Join(missing, ", "), cmp.Or(p.HTTPS, p.HTTP)))
		fix = "add to no_proxy there: " + strings.Join(missing, ",") + ",localhost,.svc,.cluster.local"
	}
	switch {
	case bad != nil:
		return hp.Warned(fix, "%s", strings.Join(bad, "; "))
	case complete != nil:
		return hp.Passed("complete: %s", strings.Join(complete, ", "))
	}
	return hp.Passed("none")
}

// directNetworks returns what to reach without a proxy, by its entry in no_proxy: the
// cluster networks, and the addresses of this host.
func directNetworks(f facts.Facts, req hp.Requirements) map[string]netip.Prefix {
	all := map[string]netip.Prefix{}
	for _, p := range []netip.Prefix{req.PodCIDR, req.ServiceCIDR} {
		if p.IsValid() {
			all[p.String()] = p.Masked()
		}
	}
	for _, i := range f.Network.Interfaces {
		for _, p := range i.Addresses {
			if a := p.Addr(); i.Up && a.Is4() && (a == f.Network.NodeAddress || !f.Network.NodeAddress.IsValid() && !i.Loopback) {
				all[a.String()] = netip.PrefixFrom(a, a.BitLen())
			}
		}
	}
	return all
}

// isExcludedFromProxy reports whether noProxy contains the whole network direct, a
// larger one, or *.
func isExcludedFromProxy(noProxy []string, direct netip.Prefix) bool {
	return slices.ContainsFunc(noProxy, func(s string) bool {
		if s == "*" || direct.IsSingleIP() && s == direct.Addr().String() {
			return true
		}
		p, err := netip.ParsePrefix(s)
		return err == nil && p.Bits() <= direct.Bits() && p.Contains(direct.Addr())
	})
}
