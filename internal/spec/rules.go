package spec

import (
	"errors"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/strictyaml"
)

// Finding is an error or a warning about one place of a file. Its String is
// "file:line:col: error [rule] field: message (hint)".
type Finding = strictyaml.Finding

// Rule is a kind of finding.
type Rule = strictyaml.Rule

// The severities of findings.
const (
	Error   = strictyaml.Error   // stops the command with exit code 3
	Warning = strictyaml.Warning // only shown
)

// HasErrors reports whether any finding is an error.
func HasErrors(findings []Finding) bool { return strictyaml.HasErrors(findings) }

// FindingsError returns nil if no finding is an error, else an error with exit
// code 3 and one line per error.
func FindingsError(doing string, findings []Finding) error {
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
		"correct the errors and check again with: plinth lint FILE…")
}

// Rules returns every rule with its severity. docs/reference/lint-rules.md is
// generated from it.
func Rules() []Rule {
	fail := func(id, summary string) Rule { return Rule{ID: id, Severity: Error, Summary: summary} }
	warn := func(id, summary string) Rule { return Rule{ID: id, Severity: Warning, Summary: summary} }
	return append(slices.Concat(strictyaml.Rules(), chartRules()),
		fail("one-document", "An Installer is the only document in its file, and `lint` accepts one Installer at a time. All Applications of a release are checked."),
		fail("kurl-installer", "An Installer is one of Plinth; `plinth convert kurl` converts one of kURL."),
		fail("api-version", "The apiVersion is "+APIVersion+"."),
		fail("kind", "The kind is "+Kind+"."),
		fail("version-exact", "Versions are exact: `vX.Y.Z+k0s.N` for k0s, `X.Y.Z` without a v for add-ons; no `latest`, `1.2.x`, range or shortened version."),
		fail("dns-label", "metadata.name, kotsadm's namespace and slug are DNS labels: up to 63 of a-z, 0-9 and -, with a letter or digit at both ends."),
		fail("cidr-form", "A network is an IPv4 CIDR whose host bits are zero."),
		fail("cidr-size", "podCIDR is between /8 and /24, because every node uses a /24; serviceCIDR between /12, the API server's limit, and /24."),
		fail("cidr-special", "A cluster network does not contain loopback, link-local, multicast or reserved addresses."),
		warn("cidr-public", "A cluster network should be private (RFC 1918) or shared (100.64.0.0/10): hosts cannot reach public addresses that the network covers."),
		fail("cidr-overlap", "podCIDR and serviceCIDR do not overlap."),
		fail("host-preflights", "hostPreflights contains only collectors and analyzers that Plinth supports, with valid conditions."),
		fail("node-port-range", "nodePortRange is first-last, both between 1 and 65535."),
		warn("node-port-ephemeral", "nodePortRange should end below 32768, where the range of the kernel for outgoing connections starts."),
		fail("ui-port", "kotsadm's uiBindPort is inside nodePortRange and is not used by the host or by Kubernetes."),
		fail("hostname", "kotsadm's hostname is a DNS name: no scheme, port, path, wildcard or address."),
		fail("proxy-url", "A proxy is an http:// or https:// URL with a host and an optional port, and nothing else."),
		fail("no-proxy", "An entry of noProxy is a single name, .suffix, address or CIDR."),
		fail("trusted-ca", "An entry of additionalTrustedCAs is one or more certificates of authorities in PEM, and nothing else. All together are at most 100 with 512 KiB."),
		fail("k0s-config", "spec.k0s.config is a ClusterConfig that k0s accepts, and does not set fields that are reserved for Plinth."),
		fail("k0s-version", "k0s is a release of a Kubernetes minor that this build of Plinth installs (see versions.md); no pre-release."),
		warn("k0s-end-of-life", "The Kubernetes minor of k0s still gets fixes, on the day of this build's table of versions."),
		warn("version-untried", "The end-to-end tests of this build of Plinth install this k0s with this KOTS."),
		warn("kots-kubernetes", "KOTS supports the Kubernetes minor of k0s."),
		warn("k0s-config-effect", "A field of spec.k0s.config should do what its name says, with nothing but the bundle."),
		warn("k0s-config-later", "A key in spec.k0s.config that the k0s of this build does not have is one of the pinned k0s, which judges it when the bundle is built."),
		fail("worker-profile", "spec.k0s.workerProfile is the name of a worker profile in spec.k0s.config, or default."),
		warn("worker-profile-unused", "Every worker profile in spec.k0s.config should be the one that the nodes use."),
		fail("add-on-known", "This build of Plinth supports the add-on and its version."),
		fail("load-balancer-addresses", "Addresses of loadBalancer are IPv4 CIDRs or ranges first-last, without overlaps with each other and with podCIDR and serviceCIDR, and not loopback, link-local, multicast or reserved."),
		warn("load-balancer-flag", "A loadBalancer should have addresses: without them, every install needs --load-balancer-addresses."),
		fail("load-balancer-ipvs", "With loadBalancer, kube-proxy in its mode ipvs has strictARP: otherwise every node answers ARP requests for each address."),
		fail("ingress-expose", "The ingress controller is exposed by loadBalancer or by hostPorts."),
		fail("ingress-address", "The address of ingress is one of loadBalancer's."),
		fail("ingress-port", "The ports of ingress differ, and with hostPorts neither the host, Kubernetes nor the console uses them."),
		warn("ingress-load-balancer", "Without loadBalancer, something else must give ingress its address, unless it is exposed by hostPorts."),
		fail("prometheus-retention", "The retention of prometheus is a number of hours, days, weeks or years, such as 15d, and at most 99y."),
		fail("prometheus-size", "The retentionSize of prometheus is a number of MB, GB or TB, such as 10GB, and without localPathStorage at most 10GB."),
		warn("prometheus-storage", "Prometheus stores metrics on a volume: without localPathStorage, something else must provide a default storage class."),
		warn("kotsadm-storage", "The console stores its data on a volume: without localPathStorage, something else must provide a default storage class."),
		fail("object-store-mode", "The mode of velero's objectStore is builtin or none."),
		fail("host-folder", "The folder of velero's objectStore is an absolute path, a folder of its own, and not in a folder of the system, of k0s or of Plinth."),
		fail("object-store-folder", "The folder of velero's objectStore is used: its mode is builtin."),
		warn("velero-storage", "The object store of velero needs a volume: without localPathStorage and without a folder, something else must provide a default storage class."),
		fail("kots-velero", "KOTS supports the version of Velero."),
		warn("velero-backup", "A release for an Installer with velero should contain a velero.io/v1 Backup: KOTS offers no snapshots without one. Checked if the folder of the release is given."),
		fail("backup-schedule", "The schedule of backups is hourly, daily, weekly, HH:MM, or a day and a time such as `Sun 03:30`."),
		fail("backup-target", "The target of backups is s3://BUCKET/PREFIX, or an absolute path: a folder of its own, and not in a folder of the system, of k0s or of Plinth."),
		fail("backup-keep", "The number of backups that are kept is between 1 and 10000."),
		fail("backup-recipient", "Backups are encrypted to 1 to 20 public keys of age. A private key does not belong in an Installer."),
		fail("app-missing", "A file given as Application contains a kots.io/v1beta1 Application."),
		fail("app-template", "A template in an Application is in quotes: KOTS decodes the Application before it renders templates."),
		fail("app-version", "minKotsVersion and targetKotsVersion are versions such as 1.131.2; like KOTS, Plinth reads 1.131 as 1.131.0. KOTS ignores anything else at run time; Plinth rejects it."),
		fail("app-bounds", "minKotsVersion is not higher than targetKotsVersion; otherwise no version of KOTS can install the application."),
		warn("app-unused", "An Application next to an Installer without kotsadm is not checked and not installed."),
	)
}
