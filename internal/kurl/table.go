package kurl

import "strings"

// row says what becomes of keys of a kURL Installer.
type row struct {
	group   string      // path above the keys, such as "spec.kubernetes"
	keys    string      // the keys, separated by spaces; each has the same verdict
	verdict Verdict     // of a value that convert does not handle
	note    string      // the reason, or what to do
	to      string      // path in the Plinth Installer, for convert
	convert convertFunc // writes the value; nil if the Plinth Installer has none
	off     bool        // false and 0 are kURL's default and change nothing
}

// Notes that several rows share.
const (
	chart      = "add its Helm chart to spec.charts, or ship it with your application"
	ofChart    = "goes into the values of that chart"
	localPath  = "Plinth's storage class is called local-path and is the default: charts that name another need a change"
	balancers  = "each worker has a load balancer of its own to all controllers"
	ended      = "kURL no longer supports it; k0s takes its place"
	noCNI      = "k0s's kube-router is the only network of pods"
	freeRange  = "Plinth does not search for a free network: it uses its default unless spec.network names one"
	oneNode    = "volumes are folders of a node and are not replicated: check that your application needs no more"
	ofStorage  = "is a setting of a storage that Plinth does not have"
	hostByHand = "Plinth changes no firewall and no SELinux mode: run the commands on each host before `plinth install`; docs/guide/requirements.md lists the ports"
	hostKept   = "Plinth leaves it as it is on every host"
	hostChecks = "the host preflights report what blocks the cluster; `plinth install --ignore-host-preflight` ignores one"
)

// table says what becomes of every key of kURL's Installer. The keys are those of
// kurlkinds (pkg/apis/cluster/v1beta1/installer_types.go) and of kURL's documentation.
var table = []row{
	{group: "", keys: "apiVersion kind", verdict: TakenOver, note: "is now plinth.dev/v1beta1 Installer"},
	{group: "", keys: "status", verdict: Dropped, note: "is written by a cluster"},
	{group: "metadata", keys: "name", to: "metadata.name", convert: convertName},
	{group: "metadata", keys: "namespace labels annotations creationTimestamp resourceVersion uid generation managedFields", verdict: Dropped, note: "a Plinth Installer has only a name"},

	{group: "spec.kubernetes", keys: "version", to: "spec.k0s.version", convert: convertKubernetes},
	{group: "spec.kubernetes", keys: "serviceCIDR", to: "spec.network.serviceCIDR", convert: convertText},
	{group: "spec.kubernetes", keys: "serviceCidrRange", verdict: Dropped, note: freeRange},
	{group: "spec.kubernetes", keys: "useStandardNodePortRange", to: "spec.network.nodePortRange", convert: convertPortRange, off: true},
	{group: "spec.kubernetes", keys: "HACluster", verdict: BuiltIn, off: true, note: "every cluster can have several controllers: `plinth token create --role controller`"},
	{group: "spec.kubernetes", keys: "loadBalancerAddress", verdict: ByHand, note: "is not part of the Installer: `plinth install --api-address` names the load balancer"},
	{group: "spec.kubernetes", keys: "loadBalancerUseFirstPrimary", verdict: BuiltIn, off: true, note: balancers},
	{group: "spec.kubernetes", keys: "bootstrapToken bootstrapTokenTTL certKey controlPlane kubeadmToken kubeadmTokenCAHash masterAddress", verdict: Dropped, off: true, note: "is different on each host; a node joins with a token of `plinth token create`"},
	{group: "spec.kubernetes", keys: "containerLogMaxSize containerLogMaxFiles maxPodsPerNode kubeReserved evictionThresholdResources systemReservedResources", verdict: ByHand, off: true, note: "is a setting of kubelet: k0s has it in spec.workerProfiles of its ClusterConfig (spec.k0s.config)"},
	{group: "spec.kubernetes", keys: "cisCompliance", verdict: BuiltIn, off: true, note: "docs/guide/hardening.md has the CIS benchmark item by item"},
	{group: "spec.kubernetes", keys: "clusterName", verdict: Dropped, note: "metadata.name names the cluster"},
	{group: "spec.kubernetes", keys: "initIgnorePreflightErrors upgradeIgnorePreflightErrors", verdict: Dropped, note: "is about kubeadm, which k0s does not use; `plinth install --ignore-host-preflight` names a check of Plinth to ignore"},
	{group: "spec.k3s", keys: "version", verdict: Dropped, note: ended},
	{group: "spec.rke2", keys: "version", verdict: Dropped, note: ended},

	{group: "spec.containerd", keys: "version", verdict: BuiltIn, note: "k0s contains its own containerd"},
	{group: "spec.containerd", keys: "tomlConfig", verdict: ByHand, note: "write it to a file in /etc/k0s/containerd.d on each host, for the containerd of k0s"},
	{group: "spec.containerd", keys: "preserveConfig", verdict: Dropped, off: true, note: "k0s's containerd has files of its own; it does not touch those of another"},
	{group: "spec.docker", keys: "version", verdict: BuiltIn, note: "k0s contains its own containerd, which takes the place of Docker"},
	{group: "spec.docker", keys: "daemonConfig", verdict: ByHand, note: "containerd does not read Docker's daemon.json: check whether a setting of it is still needed, such as a registry mirror"},
	{group: "spec.docker", keys: "bypassStorageDriverWarning dockerRegistryIP hardFailOnLoopback noCEOnEE preserveConfig", verdict: Dropped, off: true, note: "there is no Docker"},

	{group: "spec.flannel", keys: "version", verdict: BuiltIn, note: noCNI},
	{group: "spec.flannel", keys: "podCIDR", to: "spec.network.podCIDR", convert: convertText},
	{group: "spec.flannel", keys: "podCIDRRange", verdict: Dropped, note: freeRange},
	{group: "spec.weave", keys: "version", verdict: BuiltIn, note: noCNI + "; it does not encrypt traffic, as Weave does by default"},
	{group: "spec.weave", keys: "podCIDR", to: "spec.network.podCIDR", convert: convertText},
	{group: "spec.weave", keys: "podCidrRange", verdict: Dropped, note: freeRange},
	{group: "spec.weave", keys: "noMasqLocal", verdict: Dropped, note: "k0s creates the cluster network"},
	{group: "spec.antrea", keys: "version", verdict: BuiltIn, note: noCNI + "; it does not encrypt traffic, as Antrea does by default"},
	{group: "spec.antrea", keys: "podCIDR", to: "spec.network.podCIDR", convert: convertText},
	{group: "spec.antrea", keys: "podCidrRange", verdict: Dropped, note: freeRange},
	{group: "spec.calico", keys: "version", verdict: BuiltIn, note: noCNI},
	{group: "spec.weave", keys: "isEncryptionDisabled", convert: convertEncryption},
	{group: "spec.antrea", keys: "isEncryptionDisabled", convert: convertEncryption},

	{group: "spec.openebs", keys: "version", to: "spec.localPathStorage.version", verdict: TakenOver, convert: convertStorage, note: "volumes are folders of a node, as with OpenEBS LocalPV"},
	{group: "spec.openebs", keys: "isLocalPVEnabled", verdict: BuiltIn, off: true, note: "localPathStorage is that kind of storage"},
	{group: "spec.openebs", keys: "localPVStorageClassName", verdict: ByHand, note: localPath},
	{group: "spec.openebs", keys: "isCstorEnabled cstorStorageClassName", verdict: Dropped, off: true, note: ofStorage},
	{group: "spec.openebs", keys: "namespace", verdict: Dropped, note: "localPathStorage has a namespace of its own"},
	{group: "spec.rook", keys: "version", to: "spec.localPathStorage.version", verdict: ByHand, convert: convertStorage, note: oneNode + "; there is no object store and no shared file system either"},
	{group: "spec.rook", keys: "storageClassName", verdict: ByHand, note: localPath},
	{group: "spec.rook", keys: "blockDeviceFilter nodes bypassUpgradeWarning cephReplicaCount isBlockStorageEnabled isSharedFilesystemDisabled hostpathRequiresPrivileged minimumNodeCount", verdict: Dropped, off: true, note: ofStorage},
	{group: "spec.longhorn", keys: "version", to: "spec.localPathStorage.version", verdict: ByHand, convert: convertStorage, note: oneNode},
	{group: "spec.longhorn", keys: "storageOverProvisioningPercentage uiBindPort uiReplicaCount", verdict: Dropped, off: true, note: ofStorage},
	{group: "spec.minio", keys: "version", verdict: Dropped, note: "the console and the registry store their data on volumes and need no object store; if your application uses it, " + chart},
	{group: "spec.minio", keys: "namespace hostPath claimSize", verdict: Dropped, note: ofChart},

	{group: "spec.kotsadm", keys: "version", to: "spec.kotsadm.version", convert: convertVersion, note: "check it with the Application: plinth lint installer.yaml application.yaml"},
	{group: "spec.kotsadm", keys: "applicationSlug", to: "spec.kotsadm.applicationSlug", convert: convertText},
	{group: "spec.kotsadm", keys: "hostname", to: "spec.kotsadm.hostname", convert: convertText},
	{group: "spec.kotsadm", keys: "uiBindPort", to: "spec.kotsadm.uiBindPort", convert: convertNumber, off: true},
	{group: "spec.kotsadm", keys: "applicationNamespace", to: "spec.kotsadm.namespace", convert: convertText, note: "with Plinth the console is in the namespace of the application"},
	{group: "spec.kotsadm", keys: "applicationVersionLabel", verdict: ByHand, note: "`plinth install --app-bundle` installs the version that is in the .airgap file"},
	{group: "spec.kotsadm", keys: "disableS3", verdict: BuiltIn, off: true, note: "the console never needs an object store"},
	{group: "spec.registry", keys: "version", to: "spec.registry.version", convert: convertVersion},
	{group: "spec.registry", keys: "publishPort", verdict: Dropped, off: true, note: "the registry is reachable only inside the cluster"},
	{group: "spec.velero", keys: "version", to: "spec.velero.version", convert: convertVersion, note: "snapshots of the console need it: install Velero beside the application, or copy the data of volumes yourself"},
	{group: "spec.velero", keys: "namespace disableCLI disableRestic localBucket resticRequiresPrivileged resticTimeout serverFlags", verdict: Dropped, off: true, note: "the Installer has no settings for backups"},

	{group: "spec.contour", keys: "version", verdict: ByHand, note: "spec.ingress of Plinth is Traefik: it serves Ingress objects, but not HTTPProxy; to keep Contour, " + chart},
	{group: "spec.contour", keys: "tlsMinimumProtocolVersion httpPort httpsPort", verdict: ByHand, off: true, note: ofChart},
	{group: "spec.prometheus", keys: "version", verdict: ByHand, note: "spec.prometheus of Plinth is monitoring without Grafana, the operator and its kinds: if your application needs them, " + chart},
	{group: "spec.prometheus", keys: "serviceType", verdict: ByHand, note: ofChart},
	{group: "spec.fluentd", keys: "version", verdict: ByHand, note: "Plinth collects no logs of pods: " + chart},
	{group: "spec.fluentd", keys: "fullEFKStack fluentdConfPath", verdict: ByHand, off: true, note: ofChart},
	{group: "spec.certManager", keys: "version", verdict: ByHand, note: "Plinth installs no cert-manager: if your application needs it, " + chart},
	{group: "spec.metricsServer", keys: "version", verdict: BuiltIn, note: "k0s contains it"},
	{group: "spec.goldpinger", keys: "version", verdict: BuiltIn, note: "`plinth preflight --peers` checks the network between hosts"},
	{group: "spec.collectd", keys: "version", verdict: Dropped, note: "Plinth collects no metrics of the host"},
	{group: "spec.sonobuoy", keys: "version", verdict: Dropped, note: "Plinth runs no conformance tests"},
	{group: "spec.aws", keys: "version", verdict: ByHand, note: "Plinth has no integration with a cloud: " + chart},
	{group: "spec.aws", keys: "excludeStorageClass", verdict: ByHand, off: true, note: ofChart},
	{group: "spec.helm", keys: "helmfileSpec", verdict: ByHand, note: "ship its charts with your application, each with a HelmChart manifest of KOTS"},
	{group: "spec.helm", keys: "additionalImages", verdict: ByHand, note: "list them in additionalImages of the Application"},

	{group: "spec.ekco", keys: "version", verdict: BuiltIn, note: "Plinth's agent renews certificates; `plinth node remove` removes a node"},
	{group: "spec.ekco", keys: "enableInternalLoadBalancer", verdict: BuiltIn, off: true, note: balancers},
	{group: "spec.ekco", keys: "minReadyMasterNodeCount minReadyWorkerNodeCount nodeUnreachableToleration shouldEnablePurgeNodes", verdict: Dropped, off: true, note: "Plinth removes no node by itself: `plinth node remove`"},
	{group: "spec.ekco", keys: "shouldDisableRebootServices shouldDisableClearNodes", verdict: Dropped, off: true, note: "is about storage of kURL that blocks a shutdown"},
	{group: "spec.ekco", keys: "rookShouldUseAllNodes rookShouldDisableReconcileMDSPlacement rookShouldDisableReconcileCephCSIResources minioShouldDisableManagement kotsadmShouldDisableManagement", verdict: Dropped, off: true, note: "there is nothing to manage: neither Rook nor MinIO, and Plinth keeps the copies of the console"},
	{group: "spec.ekco", keys: "shouldDisableRestartFailedEnvoyPods envoyPodsNotReadyDuration", verdict: Dropped, off: true, note: "is about Contour"},
	{group: "spec.ekco", keys: "podImageOverrides", verdict: ByHand, note: "images are pinned in the bundle: change a reference where your application has it"},
	{group: "spec.ekco", keys: "autoUpgradeSchedule", verdict: Dropped, note: "kURL no longer supports it"},

	{group: "spec.firewalldConfig", keys: "firewalld disableFirewalld firewalldCmds", verdict: ByHand, off: true, note: hostByHand},
	{group: "spec.firewalldConfig", keys: "bypassFirewalldWarning hardFailOnFirewalld", verdict: Dropped, off: true, note: hostChecks},
	{group: "spec.firewalldConfig", keys: "preserveConfig", verdict: BuiltIn, off: true, note: hostKept},
	{group: "spec.iptablesConfig", keys: "iptablesCmds", verdict: ByHand, note: hostByHand},
	{group: "spec.iptablesConfig", keys: "preserveConfig", verdict: BuiltIn, off: true, note: hostKept},
	{group: "spec.selinuxConfig", keys: "selinux type disableSelinux chconCmds semanageCmds", verdict: ByHand, off: true, note: hostByHand},
	{group: "spec.selinuxConfig", keys: "preserveConfig", verdict: BuiltIn, off: true, note: hostKept},
	{group: "spec.ufwConfig", keys: "disableUFW", verdict: ByHand, off: true, note: hostByHand},
	{group: "spec.ufwConfig", keys: "bypassUFWWarning hardFailOnUFW", verdict: Dropped, off: true, note: hostChecks},

	{group: "spec.kurl", keys: "proxyAddress", to: "spec.proxy", convert: convertProxy},
	{group: "spec.kurl", keys: "additionalNoProxyAddresses", to: "spec.proxy.noProxy", convert: convertList},
	{group: "spec.kurl", keys: "noProxy", verdict: BuiltIn, off: true, note: "Plinth uses a proxy only if spec.proxy names it"},
	{group: "spec.kurl", keys: "airgap", verdict: BuiltIn, off: true, note: "a full bundle installs without internet"},
	{group: "spec.kurl", keys: "privateAddress", verdict: ByHand, note: "differs between hosts: `plinth install --address`"},
	{group: "spec.kurl", keys: "publicAddress", verdict: ByHand, note: "differs between hosts: spec.kotsadm.hostname names the console for users, `plinth install --api-address` the API"},
	{group: "spec.kurl", keys: "nameserver", verdict: ByHand, note: "Plinth reads /etc/resolv.conf: set the name server on each host"},
	{group: "spec.kurl", keys: "licenseURL", verdict: ByHand, note: "Plinth shows no license text: show it in the admin console or where customers download"},
	{group: "spec.kurl", keys: "installerVersion", verdict: Dropped, note: "the release of plinth with which you build the bundle is that version"},
	{group: "spec.kurl", keys: "hostPreflightIgnore", verdict: ByHand, off: true, note: "`plinth install --ignore-host-preflight` names each check to ignore"},
	{group: "spec.kurl", keys: "hostPreflightEnforceWarnings", verdict: ByHand, off: true, note: "write a fail outcome in place of a warn outcome in spec.hostPreflights"},
	{group: "spec.kurl", keys: "excludeBuiltinHostPreflights", verdict: ByHand, off: true, note: "the built-in checks always run: `plinth install --ignore-host-preflight` names each check to ignore"},
	{group: "spec.kurl", keys: "skipSystemPackageInstall", verdict: BuiltIn, off: true, note: "Plinth installs no package on a host"},
	{group: "spec.kurl", keys: "ipv6", verdict: ByHand, off: true, note: "Plinth clusters use IPv4 only"},
	{group: "spec.kurl", keys: "hostnameCheck ignoreRemoteLoadImagesPrompt ignoreRemoteUpgradePrompt", verdict: Dropped, off: true, note: "is for upgrades of kURL clusters"},
	{group: "spec.kurl.hostPreflights", keys: "apiVersion kind metadata status", verdict: Dropped, note: "spec.hostPreflights holds the lists alone"},
	{group: "spec.kurl.hostPreflights.spec", keys: "collectors", to: "spec.hostPreflights.collectors", convert: convertList},
	{group: "spec.kurl.hostPreflights.spec", keys: "analyzers", to: "spec.hostPreflights.analyzers", convert: convertList},
	{group: "spec.kurl.hostPreflights.spec", keys: "remoteCollectors", verdict: ByHand, note: "Plinth collects on each host itself: write them as collectors"},
	{group: "spec.kurl.hostPreflights.spec", keys: "uri", verdict: Dropped, note: "Plinth reads preflights from the bundle alone"},
}

// overridable lists the components of which kURL can load another build.
const overridable = "kubernetes containerd docker flannel weave antrea calico contour openebs minio rook longhorn registry kotsadm velero prometheus " +
	"ekco certManager metricsServer goldpinger collectd sonobuoy fluentd aws"

// rowsByPath returns the rows by the path of each of their keys.
func rowsByPath() map[string]row {
	rows := map[string]row{}
	for _, r := range table {
		for key := range strings.FieldsSeq(r.keys) {
			rows[strings.TrimPrefix(r.group+"."+key, ".")] = r
		}
	}
	for name := range strings.FieldsSeq(overridable) {
		rows["spec."+name+".s3Override"] = row{verdict: Dropped, note: "the bundle pins every component by digest; there is no other place to load one from"}
	}
	return rows
}
