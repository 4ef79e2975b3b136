package spec

import (
	"slices"
	"strings"
)

// Treatment is what Plinth does with a field of k0s's ClusterConfig that spec.k0s.config sets.
type Treatment string

// The treatments.
const (
	Owned  Treatment = "owned"  // an error: only Plinth sets the field and everything below it
	Merged Treatment = "merged" // Plinth has a value; the overlay adds to it or replaces it
	Passed Treatment = "passed" // given to k0s
	Warned Treatment = "warned" // given to k0s, with a warning
)

// K0sField is a row of the table of k0s's ClusterConfig.
type K0sField struct {
	Path      string // "[]" stands for any entry of a list, "*" at the end of a flag for any rest
	Value     string // the row is about values that contain this text; "" for any
	Treatment Treatment
	Reason    string // why, or what to set instead; "" if Passed
}

// K0sFields returns how each field of a ClusterConfig is treated. The types are those of k0s 1.33
// (pkg/apis/k0s/v1beta1) and, below the values of a worker profile, of kubelet 1.33.
func K0sFields() []K0sField { return slices.Clone(k0sFields) }

var k0sFields = slices.Concat(apiFields(), controlPlaneFields(), networkFields(), nodeFields(), otherFields())

// Reasons that several fields share.
const (
	reasonFixed   = "Plinth sets it"
	reasonHost    = "it differs between hosts; Plinth uses the address of the node"
	reasonPorts   = "preflights and hosts that join rely on the default port of k0s"
	reasonTrust   = "it decides whom the cluster trusts"
	reasonEtcd    = "the state of the cluster is stored in the etcd of k0s"
	reasonAPI     = "every node reaches the API at its loopback address; name a load balancer with `plinth install --api-address`"
	reasonLog     = "Plinth checks etcd's write-ahead log in its default directory to see whether a host has joined"
	reasonRouter  = "the bundle contains kube-router, for IPv4"
	reasonPodCIDR = "set spec.network.podCIDR of the Installer"
	reasonService = "set spec.network.serviceCIDR of the Installer"
	reasonCharts  = "the bundle contains neither the chart nor its images: every cluster fetches them when it starts; spec.charts of the Installer bundles both"
)

// fieldRows returns a row for each of the fields, separated by spaces, below parent.
func fieldRows(treatment Treatment, reason, parent, fields string) []K0sField {
	var all []K0sField
	for name := range strings.FieldsSeq(fields) {
		all = append(all, K0sField{Path: parent + "." + name, Treatment: treatment, Reason: reason})
	}
	return all
}

func apiFields() []K0sField {
	const api, flags = "spec.api", "spec.api.extraArgs"
	return slices.Concat(
		[]K0sField{{"apiVersion", "", Owned, reasonFixed}, {"kind", "", Owned, reasonFixed}, {"metadata", "", Owned, reasonFixed}, {"status", "", Owned, reasonFixed}},
		fieldRows(Owned, reasonHost, api, "address"),
		fieldRows(Owned, reasonAPI, api, "externalAddress onlyBindToAddress"),
		fieldRows(Owned, reasonPorts, api, "port k0sApiPort"),
		fieldRows(Merged, "added to the names and addresses of the host", api, "sans"),
		fieldRows(Owned, "Plinth creates the cluster's authority, for ten years", api, "ca.expiresAfter"),
		fieldRows(Passed, "", api, "ca.certificatesExpireAfter"),
		fieldRows(Merged, "added to Plinth's flags; those of the audit log can be replaced", api, "extraArgs"),
		fieldRows(Owned, reasonHost, flags, "advertise-address"),
		fieldRows(Owned, reasonAPI, flags, "bind-address"),
		fieldRows(Owned, reasonPorts, flags, "secure-port"),
		fieldRows(Owned, "set spec.network.nodePortRange of the Installer", flags, "service-node-port-range"),
		fieldRows(Owned, reasonService, flags, "service-cluster-ip-range"),
		fieldRows(Owned, reasonEtcd, flags, "etcd-*"),
		fieldRows(Owned, "Plinth encrypts Secrets in etcd, with a key that all controllers share", flags, "encryption-provider-*"),
		fieldRows(Owned, "a bootstrap token could get the certificate of any node", flags, "enable-bootstrap-token-auth"),
		fieldRows(Owned, "it limits how long a node that was removed keeps reading", flags, "min-request-timeout"),
		fieldRows(Owned, "it would turn off NodeRestriction, which keeps nodes apart", flags, "enable-admission-plugins"),
		fieldRows(Owned, "set spec.featureGates of the ClusterConfig", flags, "feature-gates"),
		fieldRows(Owned, reasonTrust, flags, `anonymous-auth authentication-* authorization-* token-auth-file client-ca-file
			requestheader-* kubelet-certificate-authority kubelet-client-* proxy-client-* tls-cert-file tls-private-key-file
			service-account-key-file service-account-signing-key-file disable-admission-plugins admission-control-config-file`),
	)
}

func controlPlaneFields() []K0sField {
	const manager, scheduler, etcd = "spec.controllerManager.extraArgs", "spec.scheduler.extraArgs", "spec.storage.etcd"
	const trust = "kubeconfig authentication-* authorization-* client-ca-file requestheader-*"
	return slices.Concat(
		fieldRows(Passed, "", "spec.controllerManager", "extraArgs"),
		fieldRows(Owned, reasonPodCIDR, manager, "cluster-cidr"),
		fieldRows(Owned, reasonService, manager, "service-cluster-ip-range"),
		fieldRows(Owned, "kube-router needs a pod network for each node", manager, "allocate-node-cidrs"),
		fieldRows(Owned, "every node uses a /24 of spec.network.podCIDR, as the preflights check", manager, "node-cidr-mask-size*"),
		fieldRows(Owned, reasonPorts, manager, "secure-port"),
		fieldRows(Owned, reasonTrust, manager, "cluster-signing-* root-ca-file service-account-private-key-file "+trust),
		fieldRows(Passed, "", "spec.scheduler", "extraArgs"),
		fieldRows(Owned, reasonPorts, scheduler, "secure-port"),
		fieldRows(Owned, reasonTrust, scheduler, trust),
		fieldRows(Owned, reasonEtcd, "spec.storage", "type kine etcd.externalCluster"),
		fieldRows(Owned, reasonHost, etcd, "peerAddress"),
		fieldRows(Passed, "", etcd, "extraArgs ca.expiresAfter ca.certificatesExpireAfter"),
		fieldRows(Owned, reasonLog, etcd, "extraArgs.data-dir extraArgs.wal-dir"),
		fieldRows(Owned, reasonHost, etcd+".extraArgs", "name listen-client-urls listen-peer-urls advertise-client-urls initial-*"),
		fieldRows(Owned, reasonTrust, etcd+".extraArgs", "client-cert-auth trusted-ca-file cert-file key-file peer-*"),
	)
}

func networkFields() []K0sField {
	const network, proxy, router = "spec.network", "spec.network.kubeProxy", "spec.network.kuberouter"
	return slices.Concat(
		fieldRows(Owned, reasonPodCIDR, network, "podCIDR"),
		fieldRows(Owned, reasonService, network, "serviceCIDR"),
		fieldRows(Merged, "cluster.local without it; Plinth's add-ons follow it", network, "clusterDomain"),
		fieldRows(Owned, reasonRouter, network, "provider calico dualStack"),
		fieldRows(Owned, "it needs an image that is not in the bundle; Plinth balances the load on each worker itself", network, "nodeLocalLoadBalancing"),
		fieldRows(Owned, "Plinth does not set up virtual addresses; name the one of a load balancer with `plinth install --api-address`", network, "controlPlaneLoadBalancing"),
		[]K0sField{
			{proxy + ".disabled", "", Passed, ""},
			{proxy + ".disabled", "true", Warned, "services have no addresses unless kuberouter.extraArgs sets run-service-proxy to \"true\" or a chart replaces kube-proxy"},
			{proxy + ".mode", "", Passed, ""},
			{proxy + ".mode", "userspace", Owned, "kube-proxy has no such mode since Kubernetes 1.26; use iptables, ipvs or nftables"},
			{proxy + ".nodePortAddresses", "", Warned, "users reach the console only at these addresses"},
		},
		fieldRows(Merged, "metrics are served on loopback without it", proxy, "metricsBindAddress"),
		fieldRows(Passed, "", proxy, "extraArgs"),
		fieldRows(Passed, "", proxy+".iptables", "masqueradeBit masqueradeAll localhostNodePorts syncPeriod minSyncPeriod"),
		fieldRows(Passed, "", proxy+".ipvs", "syncPeriod minSyncPeriod scheduler excludeCIDRs strictARP tcpTimeout tcpFinTimeout udpTimeout"),
		fieldRows(Passed, "", proxy+".nftables", "syncPeriod minSyncPeriod masqueradeBit masqueradeAll"),
		fieldRows(Passed, "", router, "autoMTU mtu hairpin ipMasq peerRouterASNs peerRouterIPs"),
		fieldRows(Warned, "k0s ignores it; set hairpin", router, "hairpinMode"),
		fieldRows(Merged, "metrics are off without it", router, "metricsPort"),
		fieldRows(Merged, "added to the flag that turns metrics off, which metrics-port replaces", router, "extraArgs"),
		fieldRows(Owned, "kube-router may only read, because root on each worker has its credential", router, "extraArgs.run-loadbalancer"),
		fieldRows(Owned, reasonPorts, router, "extraArgs.health-port extraArgs.bgp-port"),
	)
}

func nodeFields() []K0sField {
	const profiles, kubelet = "spec.workerProfiles[]", "spec.workerProfiles[].values"
	return slices.Concat(
		fieldRows(Passed, "", profiles, "name values"),
		fieldRows(Owned, "k0s sets it", kubelet, "apiVersion kind clusterDNS clusterDomain staticPodURL containerRuntimeEndpoint"),
		fieldRows(Owned, "Plinth imports the images of the bundle into the containerd of k0s", kubelet, "imageServiceEndpoint"),
		fieldRows(Owned, reasonTrust, kubelet, "authentication authorization rotateCertificates serverTLSBootstrap tlsCertFile tlsPrivateKeyFile"),
		fieldRows(Owned, reasonPorts, kubelet, "address port readOnlyPort healthzPort healthzBindAddress enableServer"),
		fieldRows(Owned, "Plinth gives pods the name servers of the host", kubelet, "resolvConf"),
		fieldRows(Owned, "every host that joins is a node that runs workloads", kubelet, "registerNode registerWithTaints"),
		fieldRows(Owned, "the bundle pins every image by digest", "spec", "images"),
		fieldRows(Owned, "Plinth gives files to the users that k0s creates by default", "spec", "installConfig"),
		fieldRows(Owned, "konnectivity does not run: API servers reach nodes directly", "spec", "konnectivity"),
	)
}

func otherFields() []K0sField {
	const helm, gates, gate = "spec.extensions.helm", "spec.featureGates[]", "spec.featureGates[].name"
	return slices.Concat(
		fieldRows(Merged, "off without it", "spec", "telemetry.enabled"),
		fieldRows(Warned, "k0s ignores it since 1.31; add spec.localPathStorage to the Installer", "spec.extensions", "storage.type storage.create_default_storage_class"),
		fieldRows(Passed, "", helm, "concurrencyLevel"),
		fieldRows(Passed, "", helm+".repositories[]", "name url insecure caFile certFile keyfile username password"),
		fieldRows(Passed, "", helm+".charts[]", "name version values namespace timeout forceUpgrade order"),
		fieldRows(Warned, reasonCharts, helm+".charts[]", "chartname"),
		fieldRows(Passed, "", gates, "name enabled components"),
		[]K0sField{
			{gate, "AllowParsingUserUIDFromCertAuth", Owned, "the trust between hosts needs its default: the ID of the admission in the certificates of nodes"},
			{gate, "ValidatingAdmissionPolicy", Owned, "the trust between hosts needs its default: the policies that refuse what a node must not write"},
		},
	)
}

// rawArgsParents are the fields below which later minors of k0s have a list rawArgs of flags beside extraArgs:
// each flag in it could be one that is reserved for Plinth. The types of k0s 1.33 do not have it.
var rawArgsParents = []string{"spec.api", "spec.controllerManager", "spec.scheduler", "spec.storage.etcd", "spec.network.kubeProxy", "spec.network.kuberouter"}

// extraArgsKey is in lower case what precedes the name of a flag in the path of a field.
const extraArgsKey = ".extraargs."

// findK0sField returns the row for the field at path with a scalar value, "" if the value is a mapping
// or a list, and the zero value if there is none. A row about the value comes before one about any.
// It ignores the case of the path, as k0s does: it decodes with encoding/json.
func findK0sField(path, value string) (row K0sField) {
	for _, parent := range rawArgsParents {
		if strings.EqualFold(path, parent+".rawArgs") {
			return K0sField{Path: path, Treatment: Owned, Reason: "k0s checks nothing in it; write each flag into extraArgs, where Plinth checks it"}
		}
	}
	if i := strings.Index(strings.ToLower(path), extraArgsKey); i >= 0 {
		key := i + len(extraArgsKey)
		path = path[:key] + FlagName(path[key:])
	}
	for _, f := range k0sFields {
		prefix, isPrefix := strings.CutSuffix(f.Path, "*")
		if matches := strings.EqualFold(path, f.Path) || isPrefix && hasPrefixFold(path, prefix); matches && strings.Contains(value, f.Value) && (row.Path == "" || f.Value != "") {
			row = f
		}
	}
	return row
}

// hasPrefixFold is strings.HasPrefix without regard to case.
func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// FlagName returns the name of the flag of a Kubernetes component that the key of extraArgs sets.
// k0s passes "--KEY=VALUE", and the components replace underscores by hyphens (component-base,
// cli/flag/flags.go: WordSepNormalizeFunc).
func FlagName(key string) string {
	name, _, _ := strings.Cut(key, "=")
	return strings.ReplaceAll(name, "_", "-")
}
