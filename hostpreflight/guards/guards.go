// Package guards owns the checks of what guards a host and may keep programs
// from running or packets from passing: AppArmor, packet filters, fapolicyd,
// endpoint agents, sudo, proxies. It refuses to look; every check is a pure
// function of facts.
package guards

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// Checks are those of guards.
func Checks() []hp.Check {
	return []hp.Check{
		{ID: "apparmor", Group: "Guards", Title: "AppArmor", Severity: hp.Warn,
			Wants: "off, or with apparmor_parser",
			Why:   "containerd cannot load its profile without the parser: pods run without one, and those that name one are refused.",
			Run:   hp.Told(facts.FactSecurity, hp.Told(facts.FactCommands, apparmor))},
		{ID: "packet-filter", Group: "Guards", Title: "Packet filter", Severity: hp.Warn,
			Wants: "no chain for packets to this host or through it that refuses what no rule allows",
			Why:   "the rules of the cluster do not overrule another table's refusal: pods and nodes do not reach each other (k0s's networking page lists the ports).",
			Run:   hp.Told(facts.FactIptables, packetFilter)},
		{ID: "fapolicyd", Group: "Guards", Title: "fapolicyd", Severity: hp.Fail,
			Wants: "off, or with rules for k0s's folders (then ignore this check)",
			Why:   "it lets run only what came in a package: k0s's programs and those in containers are refused (RKE2's known issues).",
			Run:   hp.Told(facts.FactSystemd, fapolicyd)},
		{ID: "endpoint-security", Group: "Guards", Title: "Endpoint security", Severity: hp.Warn,
			Wants: "no agent, or one that leaves k0s's folders alone",
			Why:   "agents quarantine unpacked programs and slow every file down; etcd and image imports time out (Embedded Cluster looks for them in its support bundles).",
			Run:   hp.Told(facts.FactSystemd, endpoint)},
		{ID: "sudo-path", Group: "Guards", Title: "Path of sudo", Severity: hp.Warn,
			Wants: "/usr/local/bin in secure_path of /etc/sudoers",
			Why:   "sudo does not find k0s and other programs there, which people then call broken; plinth kubectl and plinth shell need no path.",
			Run:   hp.Told(facts.FactSecurity, sudoPath)},
		{ID: "proxy", Group: "Guards", Title: "Proxies", Severity: hp.Warn,
			Wants: "no_proxy beside each proxy, with the networks of pods and services and this host's address",
			Why:   "programs ask the proxy for addresses that only the cluster knows.",
			Run:   hp.Told(facts.FactProxies, hp.Told(facts.FactNetwork, proxies))},
	}
}

// Commands are the programs to look for.
func Commands() []string { return []string{"apparmor_parser"} }

// agent is a program that watches all others, and the units it runs as.
type agent struct {
	name  string
	units []string
}

// agents are the widespread ones, by the units that their packages install.
func agents() []agent {
	return []agent{
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

// Units are the systemd units to ask after.
func Units() []string {
	all := []string{"fapolicyd"}
	for _, a := range agents() {
		all = append(all, a.units...)
	}
	return all
}

func apparmor(f facts.Facts, _ hp.Want) hp.Result {
	switch {
	case !f.Security.AppArmor:
		return hp.Passed("off")
	case f.Commands["apparmor_parser"] == "":
		return hp.Warned("sudo apt-get install apparmor (SLES: sudo zypper install apparmor-parser)", "on, without apparmor_parser")
	}
	return hp.Passed("on, with %s", f.Commands["apparmor_parser"])
}

func packetFilter(f facts.Facts, w hp.Want) hp.Result {
	firewalld, _ := f.Unit("firewalld")
	switch {
	case w.Ours.Installed:
		return hp.Passed("set up by this installation, too")
	case f.Security.UFW, firewalld.Active == "active":
		return hp.Skip("firewalld or ufw", "the rules are those of a firewall that is asked after by name")
	}
	var all, fixes []string
	for _, c := range f.Filters {
		all = append(all, fmt.Sprintf("%s %s (%s)", c.Table, c.Chain, c.Policy))
		if c.Table == "iptables" {
			fixes = append(fixes, "sudo iptables -P "+c.Chain+" ACCEPT")
		} else {
			fixes = append(fixes, fmt.Sprintf("sudo nft 'chain %s %s { policy accept; }'", c.Table, c.Chain))
		}
	}
	if all != nil {
		return hp.Warned("let through what docs/preflights.md lists under Ports and the networks of pods and services, or:\n"+strings.Join(fixes, "\n"), "%s", strings.Join(all, ", "))
	}
	return hp.Passed("refuses nothing by default")
}

func fapolicyd(f facts.Facts, _ hp.Want) hp.Result {
	if u, _ := f.Unit("fapolicyd"); u.Active != "active" {
		return hp.Passed("off")
	}
	return hp.Failed("printf 'allow perm=any all : dir=/var/lib/k0s/\\nallow perm=any all : dir=/opt/cni/\\nallow perm=any all : dir=/run/k0s/\\n' | sudo tee /etc/fapolicyd/rules.d/20-k0s.rules\n"+
		"sudo fagenrules --load && sudo systemctl restart fapolicyd, then ignore this check\nor: sudo systemctl disable --now fapolicyd", "on")
}

func endpoint(f facts.Facts, _ hp.Want) hp.Result {
	var found []string
	for _, a := range agents() {
		if slices.ContainsFunc(a.units, func(name string) bool { u, _ := f.Unit(name); return u.Active == "active" }) {
			found = append(found, a.name)
		}
	}
	if found != nil {
		return hp.Warned("have /var/lib/k0s, /run/k0s and /usr/local/bin/k0s excluded from its scans", "%s", strings.Join(found, ", "))
	}
	return hp.Passed("none that is known")
}

func sudoPath(f facts.Facts, _ hp.Want) hp.Result {
	p := f.Security.SudoPath
	if p == "" || slices.Contains(strings.Split(p, ":"), "/usr/local/bin") {
		return hp.Passed("%s", or(p, "not limited"))
	}
	return hp.Warned("call programs by their path (sudo /usr/local/bin/k0s), or add /usr/local/bin with: sudo visudo", "%s", p)
}

// proxies holds every proxy setting against the addresses that must be reached
// without one.
func proxies(f facts.Facts, w hp.Want) hp.Result {
	var bad, fine []string
	fix := ""
	for _, p := range f.Proxies {
		var lacks []string
		for what, a := range direct(f, w) {
			if !covered(p.NoProxy, a) {
				lacks = append(lacks, what)
			}
		}
		slices.Sort(lacks)
		if lacks == nil {
			fine = append(fine, p.From)
			continue
		}
		bad = append(bad, fmt.Sprintf("%s sends %s to %s", p.From, strings.Join(lacks, ", "), or(p.HTTPS, p.HTTP)))
		fix = "add to no_proxy there: " + strings.Join(lacks, ",") + ",localhost,.svc,.cluster.local"
	}
	switch {
	case bad != nil:
		return hp.Warned(fix, "%s", strings.Join(bad, "; "))
	case fine != nil:
		return hp.Passed("complete: %s", strings.Join(fine, ", "))
	}
	return hp.Passed("none")
}

// direct are the addresses to reach without a proxy, by what to write for them.
func direct(f facts.Facts, w hp.Want) map[string]netip.Addr {
	all := map[string]netip.Addr{}
	for _, p := range []netip.Prefix{w.PodCIDR, w.ServiceCIDR} {
		if p.IsValid() {
			all[p.String()] = p.Addr().Next()
		}
	}
	for _, i := range f.Network.Interfaces {
		for _, p := range i.Addresses {
			if a := p.Addr(); i.Up && !i.Loopback && a.Is4() && (!w.NodeIP.IsValid() || a == w.NodeIP) {
				all[a.String()] = a
			}
		}
	}
	return all
}

// covered reports whether no_proxy names a: by itself, by a network, or by *.
func covered(noProxy []string, a netip.Addr) bool {
	return slices.ContainsFunc(noProxy, func(s string) bool {
		if s == "*" || s == a.String() {
			return true
		}
		p, err := netip.ParsePrefix(s)
		return err == nil && p.Contains(a)
	})
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
