package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/firewall"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/node/cleanup"
)

// firewallUnitText is the unit file of the service that adds the rules to the chains of the packet
// filter at boot. It follows the services that load the other rules, also when they are restarted or
// reloaded, and comes before k0s. Units that do not exist are ignored.
const firewallUnitText = `[Unit]
Description=Plinth: let the cluster's packets through the packet filter
After=nftables.service iptables.service netfilter-persistent.service
PartOf=nftables.service iptables.service netfilter-persistent.service
ReloadPropagatedFrom=nftables.service iptables.service netfilter-persistent.service
Before=k0scontroller.service k0sworker.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh ` + firewall.ScriptPath + ` start
ExecReload=/bin/sh ` + firewall.ScriptPath + ` start
ExecStop=/bin/sh ` + firewall.ScriptPath + ` stop
TimeoutStartSec=1min
NoNewPrivileges=yes
ProtectSystem=full
ProtectHome=yes
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
`

// firewallTimeout limits one command of a firewall. firewalld starts Python for each.
const firewallTimeout = time.Minute

// FirewallUnitPath returns the path of the unit file.
func FirewallUnitPath() string { return "/etc/systemd/system/" + cleanup.FirewallUnit }

// Firewall are the rules that let the cluster's packets through one firewall of the host.
type Firewall struct{ firewall.Rules }

// Check returns the reason why Apply is needed, or "". It changes nothing.
func (w Firewall) Check(ctx context.Context, h host.Host) (string, error) {
	switch w.Kind {
	case firewall.Firewalld:
		return w.checkFirewalld(ctx, h)
	case firewall.UFW:
		out, err := query(ctx, h, "ufw", "show", "added")
		missing, stale := w.MissingUFW(string(out)), w.StaleUFW(string(out))
		switch {
		case err != nil:
			return "", err
		case len(missing) > 0:
			return "ufw has no rule " + missing[0], nil
		case len(stale) > 0:
			return "ufw has the rule " + stale[0], nil
		}
		return "", nil
	}
	return w.checkFilter(ctx, h)
}

// Apply adds the rules. It may be repeated after a crash at any point.
func (w Firewall) Apply(ctx context.Context, h host.Host) error {
	switch w.Kind {
	case firewall.Firewalld:
		if err := removeFirewalldFiles(h); err != nil { // of a run that was killed, or of an earlier version
			return err
		}
		return runAll(ctx, h, w.Commands())
	case firewall.UFW:
		out, err := query(ctx, h, "ufw", "show", "added")
		if err != nil {
			return err
		}
		var all []firewall.Command
		for _, rule := range w.MissingUFW(string(out)) {
			all = append(all, firewall.UFWCommand(rule))
		}
		for _, rule := range w.StaleUFW(string(out)) {
			all = append(all, firewall.UFWDelete(rule))
		}
		return runAll(ctx, h, all)
	}
	// The script first: a unit without it fails. It runs before the unit is started, which nothing waits for.
	if err := h.Write(firewall.ScriptPath, strings.NewReader(w.Script()), 0o644); err != nil {
		return err
	}
	if err := runAll(ctx, h, []firewall.Command{{"/bin/sh", firewall.ScriptPath, "start"}}); err != nil {
		return err
	}
	if err := h.Write(FirewallUnitPath(), strings.NewReader(firewallUnitText), 0o644); err != nil {
		return err
	}
	if err := h.StartUnit(ctx, cleanup.FirewallUnit); err != nil {
		return err
	}
	return h.RestartUnit(ctx, cleanup.FirewallUnit)
}

// checkFirewalld compares what firewalld has stored, and what it uses, with the rules.
func (w Firewall) checkFirewalld(ctx context.Context, h host.Host) (string, error) {
	want := w.FirewalldSettings()
	for _, storage := range [][]string{{"--permanent"}, nil} {
		have := firewall.Settings{}
		for _, list := range []string{"--list-all-zones", "--list-all-policies"} {
			out, err := query(ctx, h, append(append([]string{"firewall-cmd"}, storage...), list)...)
			if err != nil {
				return "", fmt.Errorf("firewalld does not list its rules; policies need firewalld 0.9 or newer: %w", err)
			}
			for name, settings := range firewall.ParseFirewalld(string(out)) {
				have[name] = settings
			}
		}
		if why := have.Missing(want); why != "" {
			return "firewalld: " + why, nil
		}
	}
	return "", nil
}

// checkFilter compares the script, the unit and the chains with the rules.
func (w Firewall) checkFilter(ctx context.Context, h host.Host) (string, error) {
	for _, f := range []struct{ path, text string }{{firewall.ScriptPath, w.Script()}, {FirewallUnitPath(), firewallUnitText}} {
		have, err := h.ReadFile(f.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return f.path + " does not exist", nil
		case err != nil:
			return "", err
		case string(have) != f.text:
			return f.path + " differs from what is required", nil
		}
	}
	st, err := h.UnitState(ctx, cleanup.FirewallUnit)
	switch {
	case err != nil:
		return "", err
	case !st.Running():
		return fmt.Sprintf("%s is %s (%s)", cleanup.FirewallUnit, st.Active, st.Sub), nil
	case st.Enable != "enabled":
		return cleanup.FirewallUnit + " does not start at boot", nil
	}
	for _, c := range w.Chains {
		out, err := query(ctx, h, c.Query()...)
		if err == nil && !c.HasJump(string(out)) {
			return c.Table + " " + c.Name + " has no jump to " + c.Own(), nil
		}
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		} // else the host has no such chain any more, which drops nothing
	}
	return "", nil
}

// query returns the output of a command that changes nothing.
func query(ctx context.Context, h host.Host, argv ...string) ([]byte, error) {
	return h.Run(ctx, host.Cmd{Argv: argv, ReadOnly: true, Timeout: firewallTimeout})
}

// runAll runs commands in order, up to the first one that fails.
func runAll(ctx context.Context, h host.Host, commands []firewall.Command) error {
	for _, c := range commands {
		if _, err := h.Run(ctx, host.Cmd{Argv: c, Timeout: firewallTimeout}); err != nil {
			return err
		}
	}
	return nil
}

// removeFirewalldFiles removes the zone and the policies from what firewalld has stored. Its own
// command would leave a copy of each file, and does not work while firewalld is stopped.
func removeFirewalldFiles(h host.Files) error {
	var errs []error
	for _, path := range firewall.FirewalldFiles() {
		errs = append(errs, h.RemoveAll(path))
	}
	return errors.Join(errs...)
}

// FirewallKind returns the rules that steps with all have added to the firewalls of h.
func FirewallKind(h host.Host, all []firewall.Rules) cleanup.Kind {
	return cleanup.Kind{ID: "host-firewall", Title: "Remove Plinth's rules from the host's firewall",
		Find: func(ctx context.Context) ([]string, error) { return findFirewallRules(ctx, h, all) },
		Delete: func(ctx context.Context) error {
			var errs []error
			for _, r := range all {
				errs = append(errs, deleteFirewallRules(ctx, h, r))
			}
			return errors.Join(errs...)
		}}
}

// findFirewallRules returns what is left of the rules.
func findFirewallRules(ctx context.Context, h host.Host, all []firewall.Rules) (found []string, err error) {
	add := func(s string) {
		if !slices.Contains(found, s) {
			found = append(found, s)
		}
	}
	var errs []error
	for _, r := range all {
		switch r.Kind {
		case firewall.Firewalld:
			for _, path := range firewall.FirewalldFiles() {
				if _, err := h.Lstat(path); err == nil {
					add(path)
				}
			}
		case firewall.UFW:
			rules, err := ownUFWRules(ctx, h)
			errs = append(errs, err)
			for _, rule := range rules {
				add("ufw " + rule)
			}
		default:
			for _, c := range r.Chains {
				if _, err := query(ctx, h, c.QueryOwn()...); err == nil {
					add(c.Table + " " + c.Own())
				}
			}
		}
	}
	return found, errors.Join(errs...)
}

// ownUFWRules returns Plinth's rules of ufw; none if ufw was removed.
func ownUFWRules(ctx context.Context, h host.Host) ([]string, error) {
	if (cleanup.Finder{Host: h}).FindTool("ufw") == "" {
		return nil, nil
	}
	out, err := query(ctx, h, "ufw", "show", "added")
	return firewall.OwnUFW(string(out)), err
}

// deleteFirewallRules removes the rules r.
func deleteFirewallRules(ctx context.Context, h host.Host, r firewall.Rules) error {
	switch r.Kind {
	case firewall.Firewalld:
		if err := removeFirewalldFiles(h); err != nil {
			return err
		}
		if st, err := h.UnitState(ctx, "firewalld.service"); err != nil || !st.Running() {
			return err
		}
		return runAll(ctx, h, []firewall.Command{firewall.FirewalldReload()})
	case firewall.UFW:
		rules, err := ownUFWRules(ctx, h)
		var all []firewall.Command
		for _, rule := range rules {
			all = append(all, firewall.UFWDelete(rule))
		}
		return errors.Join(err, runAll(ctx, h, all))
	}
	// The script may be of other chains, or gone.
	_, err := h.Run(ctx, host.Cmd{Argv: []string{"/bin/sh", "-s", "stop"}, Stdin: strings.NewReader(r.Script()), Timeout: firewallTimeout})
	return err
}
