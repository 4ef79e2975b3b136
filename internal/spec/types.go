// Package spec parses and validates the manifests that a vendor writes: Plinth's
// Installer and KOTS's Application. It reports all findings at once, each with its
// place in the file.
package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// The type of an Installer manifest.
const (
	APIVersion = "plinth.dev/v1beta1"
	Kind       = "Installer"
)

// The field tags are the schema that strictyaml.Reader.Decode reads. docs/reference/installer.schema.json
// is generated from them and from the comments, which are written for the author of an Installer.

// Installer describes a cluster: k0s, its network, and its add-ons.
// ParseInstaller fills in the defaults.
type Installer struct {
	// Version of this format.
	APIVersion string `json:"apiVersion" required:"true" rule:"api-version"`
	// Always Installer.
	Kind     string   `json:"kind" required:"true" rule:"kind"`
	Metadata Metadata `json:"metadata" required:"true"`
	Spec     Spec     `json:"spec" required:"true"`
}

// Metadata names the Installer.
type Metadata struct {
	// Slug of the product, a DNS label.
	Name string `json:"name" required:"true" rule:"dns-label"`
}

// Spec has one key per component; a component whose key is absent is not installed.
type Spec struct {
	K0s     K0s      `json:"k0s" required:"true" also:"kubernetes"`
	Network Network  `json:"network"`
	Kotsadm *Kotsadm `json:"kotsadm,omitempty"`
	// The metrics of nodes and pods, for kubectl top and HorizontalPodAutoscalers. It is part of k0s, and runs without this key, too.
	MetricsServer MetricsServer `json:"metricsServer,omitzero"`
	// Volumes in a directory of the node; the default storage class.
	LocalPathStorage *AddOn `json:"localPathStorage,omitempty" also:"openebs longhorn rook"`
	// Addresses for services of type LoadBalancer, which MetalLB announces to the network of the hosts by ARP.
	LoadBalancer *LoadBalancer `json:"loadBalancer,omitempty"`
	// Ingress controller: Traefik.
	Ingress *Ingress `json:"ingress,omitempty"`
	// Image registry in the cluster. Air-gapped applications need it.
	Registry *AddOn `json:"registry,omitempty"`
	// Snapshots of the console and of applications with their volumes.
	Velero *Velero `json:"velero,omitempty"`
	// Metrics of the cluster and graphs in the console.
	Prometheus *Prometheus `json:"prometheus,omitempty"`
	// Schedule of control-plane backups, which each controller writes.
	Backup *Backup `json:"backup,omitempty"`
	// Helm charts of the vendor. They are in the bundle with all their images, and are installed, upgraded and removed like add-ons.
	Charts         []Chart        `json:"charts,omitempty"`
	HostPreflights HostPreflights `json:"hostPreflights"`
	Proxy          Proxy          `json:"proxy"`
	// Certificates in PEM of authorities that nodes, the console and Velero trust beside their own, such as that of a proxy which opens TLS.
	AdditionalTrustedCAs []string `json:"additionalTrustedCAs,omitempty" rule:"trusted-ca"`
}

// K0s is the Kubernetes distribution.
type K0s struct {
	// Exact k0s release, such as v1.33.8+k0s.1.
	Version string `json:"version" required:"true" rule:"version-exact/k0s"`
	// Overlay on the ClusterConfig that Plinth generates, from its top: spec, then api, network and so on.
	// Setting a field that is reserved for Plinth is an error.
	Config map[string]any `json:"config,omitempty"`
	// Worker profile of every node, by its name in spec.workerProfiles of config. Default: default.
	WorkerProfile string `json:"workerProfile,omitempty" rule:"worker-profile"`
}

// Network holds the cluster's address ranges, IPv4 in CIDR form, and its node ports.
type Network struct {
	// Addresses for pods; every node uses a /24 of it.
	PodCIDR string `json:"podCIDR" default:"10.244.0.0/16" rule:"cidr-form"`
	// Addresses for services.
	ServiceCIDR string `json:"serviceCIDR" default:"10.96.0.0/12" rule:"cidr-form"`
	// Ports that services may open on every node, first-last. It must include kotsadm's uiBindPort.
	NodePortRange string `json:"nodePortRange" default:"80-32767" rule:"node-port-range"`
}

// Kotsadm is the KOTS admin console.
type Kotsadm struct {
	// Exact KOTS release without a v, such as 1.131.2. The gate compares it with the version bounds of the Application.
	Version string `json:"version" required:"true" rule:"version-exact"`
	// Slug of the application that the console installs. Default: metadata.name.
	ApplicationSlug string `json:"applicationSlug,omitempty" rule:"dns-label"`
	// Namespace of the console and the application.
	Namespace string `json:"namespace" default:"kotsadm" rule:"dns-label"`
	// Port of the console on every node's address.
	UIBindPort int `json:"uiBindPort" default:"8800" rule:"ui-port"`
	// DNS name under which users reach the console, for its certificate and URL. Empty: the node's address.
	Hostname string `json:"hostname" rule:"hostname"`
}

// MetricsServer is the metrics-server of k0s, whose version k0s chooses.
type MetricsServer struct {
	// Whether the cluster runs without it. Its image is not in the bundle then.
	Disabled bool `json:"disabled,omitempty"`
}

// AddOn is a component with a version and no other settings.
type AddOn struct {
	// Exact release without a v.
	Version string `json:"version" required:"true" rule:"version-exact/addon"`
}

// Velero makes snapshots for the KOTS admin console.
type Velero struct {
	// Exact release without a v.
	Version     string      `json:"version" required:"true" rule:"version-exact/addon"`
	ObjectStore ObjectStore `json:"objectStore"`
}

// ObjectStoreNone is the mode of an ObjectStore that is not installed.
const ObjectStoreNone = "none"

// ObjectStore is the S3 store in the cluster in which snapshots are kept until the console is told of another one.
type ObjectStore struct {
	// builtin, or none: there are no snapshots until the console is told of a store.
	Mode string `json:"mode" default:"builtin" rule:"object-store-mode"`
	// Folder for the snapshots on the first controller, such as the mount of another disk or of an NFS share. It
	// remains after a reset. Empty: a volume of the default storage class.
	Folder string `json:"folder" rule:"host-folder"`
}

// Backup is the schedule of control-plane backups. It has no secret: each backup is encrypted to public keys.
type Backup struct {
	// hourly, daily, weekly, HH:MM, or a day and a time such as Sun 03:30; in the time zone of the host, with a random delay.
	Schedule string `json:"schedule" required:"true" rule:"backup-schedule"`
	// Folder that exists on each controller, such as the mount of an NFS share, or s3://BUCKET/PREFIX. Each controller writes to a folder of its name below it.
	To string `json:"to" required:"true" rule:"backup-target"`
	// Number of backups that each controller keeps.
	Keep int `json:"keep" default:"14" rule:"backup-keep"`
	// Public keys of age, which begin with age1. The private key of any of them decrypts a backup.
	Recipients []string `json:"recipients,omitempty" rule:"backup-recipient"`
}

// HostPreflights is the spec of a troubleshoot.sh/v1beta2 HostPreflight, merged with the built-in checks,
// or the whole document.
type HostPreflights struct {
	// Of a whole document: troubleshoot.sh/v1beta2.
	APIVersion string `json:"apiVersion,omitempty"`
	// Of a whole document: HostPreflight.
	Kind string `json:"kind,omitempty"`
	// Of a whole document; ignored.
	Metadata map[string]any `json:"metadata,omitempty"`
	// Of a whole document.
	Spec *HostPreflightSpec `json:"spec,omitempty"`
	// What to collect; the key of each entry is the name of a collector.
	Collectors []map[string]any `json:"collectors,omitempty"`
	// What to check; the key of each entry is the name of an analyzer.
	Analyzers []map[string]any `json:"analyzers,omitempty"`
}

// HostPreflightSpec is the spec of a HostPreflight document.
type HostPreflightSpec struct {
	// What to collect; the key of each entry is the name of a collector.
	Collectors []map[string]any `json:"collectors,omitempty"`
	// What to check; the key of each entry is the name of an analyzer.
	Analyzers []map[string]any `json:"analyzers,omitempty"`
}

// Proxy is the HTTP proxy of the hosts. Its URLs can contain credentials: do not
// print them.
type Proxy struct {
	// Proxy for http, such as http://proxy.example.com:3128.
	HTTPProxy string `json:"httpProxy" rule:"proxy-url"`
	// Proxy for https.
	HTTPSProxy string `json:"httpsProxy" rule:"proxy-url"`
	// Names, addresses and CIDRs to reach without the proxy. Plinth adds those of the cluster.
	NoProxy []string `json:"noProxy,omitempty" rule:"no-proxy"`
}

// Pin is an add-on of an Installer with its version.
type Pin struct {
	Key     string // its key below spec
	Version string // exact, without a v
}

// addOnKeys returns the keys of the add-ons of the Installer.
func (i *Installer) addOnKeys() (keys []string) {
	for _, p := range i.AddOns() {
		keys = append(keys, p.Key)
	}
	return keys
}

// AddOns returns the add-ons of the Installer in the order of their dependencies:
// storage, load balancer, ingress controller, console, registry, backup, metrics.
func (i *Installer) AddOns() []Pin {
	var pins []Pin
	add := func(key string, a *AddOn) {
		if a != nil {
			pins = append(pins, Pin{key, a.Version})
		}
	}
	add("localPathStorage", i.Spec.LocalPathStorage)
	if l := i.Spec.LoadBalancer; l != nil {
		pins = append(pins, Pin{"loadBalancer", l.Version})
	}
	if n := i.Spec.Ingress; n != nil {
		pins = append(pins, Pin{"ingress", n.Version})
	}
	if k := i.Spec.Kotsadm; k != nil {
		pins = append(pins, Pin{"kotsadm", k.Version})
	}
	add("registry", i.Spec.Registry)
	if v := i.Spec.Velero; v != nil {
		pins = append(pins, Pin{"velero", v.Version})
	}
	if p := i.Spec.Prometheus; p != nil {
		pins = append(pins, Pin{"prometheus", p.Version})
	}
	return pins
}

// NoProxy returns what is reached without the proxy: this machine, others, the networks and names of the cluster, and the
// list of the Installer.
func (s Spec) NoProxy(others ...string) []string {
	own := append([]string{"localhost", "127.0.0.1"}, others...)
	own = append(own, s.Network.PodCIDR, s.Network.ServiceCIDR, ".svc", "."+s.K0s.ClusterDomain())
	return append(own, s.Proxy.NoProxy...)
}

// NodePorts returns the first and last node port, or zeros if the range is not
// valid.
func (n Network) NodePorts() (first, last int) {
	first, last, _ = ParsePortRange(n.NodePortRange)
	return first, last
}

// Marshal returns the canonical form: JSON (which is also YAML) with all defaults
// and with keys in a fixed order. Equivalent Installers have the same canonical form,
// and ParseInstaller can read it. It can contain the credentials of a proxy.
func (i *Installer) Marshal() ([]byte, error) {
	data, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("marshal Installer %s: %w", i.Metadata.Name, err)
	}
	return append(data, '\n'), nil
}

// Digest returns the digest of the canonical form: "sha256:" and 64 hex digits.
func (i *Installer) Digest() (string, error) {
	data, err := i.Marshal()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}
