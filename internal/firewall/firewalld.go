package firewall

import (
	"fmt"
	"slices"
	"strings"
)

// The zone and the policies of firewalld that belong to Plinth alone. What filters the packets for the
// host is a policy, because a zone with the networks of the nodes as sources would take all of
// their packets away from the zone of the administrator, SSH included.
const (
	PodsZone   = "plinth"      // its sources are the pods
	PodsPolicy = "plinth-pods" // from everywhere to the pods
	HostPolicy = "plinth-host" // from everywhere to this host
)

// FirewalldFiles returns the files in which firewalld stores the zone and the policies, and the copies that it makes of
// them before each change.
func FirewalldFiles() []string {
	const policies, zones = "/etc/firewalld/policies/", "/etc/firewalld/zones/"
	var all []string
	for _, file := range []string{policies + HostPolicy, policies + PodsPolicy, zones + PodsZone} {
		all = append(all, file+".xml", file+".xml.old")
	}
	return all
}

// FirewalldReload makes firewalld use what the permanent commands have changed.
func FirewalldReload() Command { return Command{"firewall-cmd", "--reload"} }

// firewalldCommands returns the commands that create the zone and the policies, and load them.
func (r Rules) firewalldCommands() []Command {
	var all []Command
	permanent := func(args ...string) {
		all = append(all, append(Command{"firewall-cmd", "--permanent"}, args...))
	}
	const zone, pods, host = "--zone=" + PodsZone, "--policy=" + PodsPolicy, "--policy=" + HostPolicy
	permanent("--new-zone=" + PodsZone)
	permanent(zone, "--set-target=ACCEPT")
	permanent(zone, "--add-source="+r.Access.Pods.Masked().String())
	permanent("--new-policy=" + PodsPolicy) // without it, packets of other zones do not get to the pods
	permanent(pods, "--set-target=ACCEPT")
	permanent(pods, "--add-ingress-zone=ANY")
	permanent(pods, "--add-egress-zone="+PodsZone)
	permanent("--new-policy=" + HostPolicy)
	permanent(host, "--add-ingress-zone=ANY")
	permanent(host, "--add-egress-zone=HOST")
	if ports := r.Access.firewalldPorts(); len(ports) > 0 {
		permanent(append([]string{host}, ports...)...)
	}
	for _, rule := range r.Access.firewalldRichRules() {
		permanent(host, rule)
	}
	return append(all, FirewalldReload())
}

// firewalldPorts returns the arguments that open the ports for everyone.
func (a Access) firewalldPorts() (all []string) {
	tcp, udp := slices.Clone(a.Public), []int(nil)
	if len(a.Networks) == 0 {
		tcp, udp = append(tcp, a.Nodes...), a.NodesUDP
	}
	for _, n := range slices.Sorted(slices.Values(tcp)) {
		all = append(all, fmt.Sprintf("--add-port=%d/tcp", n))
	}
	for _, n := range udp {
		all = append(all, fmt.Sprintf("--add-port=%d/udp", n))
	}
	return all
}

// firewalldRichRules returns the arguments that open the ports for the networks of the nodes.
func (a Access) firewalldRichRules() (all []string) {
	for _, p := range a.Networks {
		add := func(number int, protocol string) {
			all = append(all, fmt.Sprintf(`--add-rich-rule=rule family="ipv4" source address="%s" port port="%d" protocol="%s" accept`, network(p), number, protocol))
		}
		for _, n := range a.Nodes {
			add(n, "tcp")
		}
		for _, n := range a.NodesUDP {
			add(n, "udp")
		}
	}
	return all
}

// Settings are the settings of the zones and policies of firewalld, by name: "target ACCEPT",
// "sources 10.244.0.0/16".
type Settings map[string][]string

// keys are the settings that Plinth sets, as firewalld lists them, by the option that sets them.
var keys = map[string]string{"--set-target": "target", "--add-source": "sources", "--add-ingress-zone": "ingress-zones",
	"--add-egress-zone": "egress-zones", "--add-port": "ports", "--add-rich-rule": "rich rules"}

// FirewalldSettings returns the settings that the commands of r make.
func (r Rules) FirewalldSettings() Settings {
	all := Settings{}
	for _, c := range r.firewalldCommands() {
		name := ""
		for _, arg := range c[1:] {
			option, value, _ := strings.Cut(arg, "=")
			switch key := keys[option]; {
			case option == "--zone", option == "--policy":
				name = value
			case key != "":
				all[name] = append(all[name], key+" "+value)
			}
		}
	}
	return all
}

// ParseFirewalld returns the settings in listing, the output of firewall-cmd --list-all-zones or
// --list-all-policies.
func ParseFirewalld(listing string) Settings {
	all := Settings{}
	name, key := "", ""
	for line := range strings.Lines(listing) {
		text := strings.TrimSpace(line)
		switch {
		case text == "":
		case strings.HasPrefix(line, "\t"): // a further value
			all[name] = append(all[name], key+" "+text)
		case !strings.HasPrefix(line, " "):
			name, _, _ = strings.Cut(text, " (") // (default, active)
			all[name] = []string{}
		default:
			var values string
			key, values, _ = strings.Cut(text, ":")
			for _, v := range strings.Fields(values) {
				all[name] = append(all[name], key+" "+v)
			}
		}
	}
	return all
}

// Missing returns the first difference between want and s in what Plinth sets, or "".
func (s Settings) Missing(want Settings) string {
	names := []string{PodsZone, PodsPolicy, HostPolicy}
	for _, name := range names {
		have, ok := s[name]
		if !ok {
			return name + " does not exist"
		}
		for _, setting := range want[name] {
			if !slices.Contains(have, setting) {
				return name + " lacks " + setting
			}
		}
		for _, setting := range have {
			if key := settingKey(setting); key != "" && key != "target" && !slices.Contains(want[name], setting) {
				return name + " has " + setting
			}
		}
	}
	return ""
}

// settingKey returns the key of a setting that Plinth sets, or "".
func settingKey(setting string) string {
	for _, key := range keys {
		if strings.HasPrefix(setting, key+" ") {
			return key
		}
	}
	return ""
}
