package spec

import (
	"errors"
	"strings"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec/strict"
)

// Finding is one thing that is wrong in a file, with its place. Its String is
// "file:line:col: error [rule] field: message (hint)".
type Finding = strict.Finding

// Rule is one kind of finding.
type Rule = strict.Rule

// The severities of findings.
const (
	Error   = strict.Error   // nothing goes on, exit 3
	Warning = strict.Warning // shown, no more
)

// HasErrors tells whether any finding is an error.
func HasErrors(findings []Finding) bool { return strict.HasErrors(findings) }

// Problem is nil without errors among findings, else the user's error with exit 3
// and a line for each of them.
func Problem(doing string, findings []Finding) error {
	if !HasErrors(findings) {
		return nil
	}
	lines := []string{"a manifest is not valid"}
	for _, f := range findings {
		if f.Severity == Error {
			lines = append(lines, "  "+f.String())
		}
	}
	return problem.New(problem.ExitConfig, doing, errors.New(strings.Join(lines, "\n")),
		"correct these and check again with: plinth lint FILE…")
}

// Rules lists every rule. It is the only place where a rule gets its severity, and
// docs/reference/lint-rules.md is made from it.
func Rules() []Rule {
	fail := func(id, summary string) Rule { return Rule{ID: id, Severity: Error, Summary: summary} }
	warn := func(id, summary string) Rule { return Rule{ID: id, Severity: Warning, Summary: summary} }
	return append(strict.Rules(),
		fail("one-document", "An Installer is alone in its file, and `lint` takes one Installer and one Application at a time."),
		fail("api-version", "The apiVersion is "+APIVersion+"."),
		fail("kind", "The kind is "+Kind+"."),
		fail("version-exact", "Versions are exact: `vX.Y.Z+k0s.N` for k0s, `X.Y.Z` without a v for add-ons; no `latest`, `1.2.x`, range or short form."),
		fail("dns-label", "metadata.name, kotsadm's namespace and slug are DNS labels: up to 63 of a-z, 0-9 and -, with a letter or digit at both ends."),
		fail("cidr-form", "A network is an IPv4 CIDR whose host bits are zero."),
		fail("cidr-size", "podCIDR is between /8 and /24, since every node takes a /24; serviceCIDR between /12, the API server's limit, and /24."),
		fail("cidr-special", "A cluster network holds no loopback, link-local, multicast or reserved address."),
		warn("cidr-public", "A cluster network should be private (RFC 1918) or shared (100.64.0.0/10): hosts cannot reach the public addresses that it hides."),
		fail("cidr-overlap", "podCIDR and serviceCIDR have no address in common."),
		fail("host-preflights", "hostPreflights holds collectors and analyzers that Plinth knows, with conditions that it can read."),
		fail("node-port-range", "nodePortRange is first-last, both between 1 and 65535."),
		warn("node-port-ephemeral", "nodePortRange should end below 32768, where the kernel begins to take ports for outgoing connections."),
		fail("ui-port", "kotsadm's uiBindPort is inside nodePortRange and not a port of the host or of Kubernetes."),
		fail("hostname", "kotsadm's hostname is a DNS name: no scheme, port, path, wildcard or address."),
		fail("proxy-url", "A proxy is http:// or https:// with a host and nothing behind its port."),
		fail("no-proxy", "An entry of noProxy is one name, .suffix, address or CIDR."),
		fail("k0s-config", "spec.k0s.config is a ClusterConfig from its top that k0s accepts, and sets no field that Plinth owns."),
		fail("add-on-known", "An add-on is one that this build of Plinth brings, in one of the versions that it knows."),
		warn("kotsadm-storage", "The console keeps its data on a volume: without localPathStorage something else must bring a default storage class."),
		fail("app-missing", "A file given as Application holds a kots.io/v1beta1 Application."),
		fail("app-version", "minKotsVersion and targetKotsVersion are versions such as 1.131.2; like KOTS, Plinth takes 1.131 for 1.131.0. What is no version KOTS ignores at run time, and Plinth refuses."),
		fail("app-bounds", "minKotsVersion is not above targetKotsVersion: no version of KOTS could install the application."),
		warn("app-unused", "An Application next to an Installer without kotsadm is not checked and not installed."),
	)
}
