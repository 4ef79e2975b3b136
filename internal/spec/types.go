// Package spec owns the two manifests that a vendor writes: Plinth's Installer
// and what Plinth reads of KOTS's Application. It decodes them strictly, fills in
// the defaults and reports everything that is wrong at once, each finding with its
// place. It refuses anchors, unknown keys and versions that are not exact, and it
// reads no files, touches no host and knows no step.
package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/plinthdev/plinth/internal/spec/form"
)

// The type of an Installer manifest.
const (
	APIVersion = "plinth.dev/v1beta1"
	Kind       = "Installer"
)

// The field tags are the schema, as strict.Reader.Decode reads it. docs/reference/installer.schema.json
// is made from them and from the comments, which speak to the author of an Installer.

// Installer describes a cluster: k0s, its network, and the add-ons that go onto it.
// One that came from ParseInstaller without errors has its defaults filled in.
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
	// Slug of the product, a DNS label. It names the sealed binary.
	Name string `json:"name" required:"true" rule:"dns-label"`
}

// Spec has one key per component; a component whose key is absent is not installed.
type Spec struct {
	K0s     K0s      `json:"k0s" required:"true" also:"kubernetes"`
	Network Network  `json:"network"`
	Kotsadm *Kotsadm `json:"kotsadm,omitempty"`
	// Volumes in a folder of the node; the default storage class.
	LocalPathStorage *AddOn `json:"localPathStorage,omitempty" also:"openebs longhorn rook"`
	// Image registry in the cluster; an air-gapped application needs it.
	Registry *AddOn `json:"registry,omitempty"`
	// Backup of the application and its volumes.
	Velero         *AddOn         `json:"velero,omitempty"`
	HostPreflights HostPreflights `json:"hostPreflights"`
	Proxy          Proxy          `json:"proxy"`
}

// K0s is the Kubernetes distribution.
type K0s struct {
	// Exact k0s release, such as v1.33.8+k0s.1.
	Version string `json:"version" required:"true" rule:"version-exact/k0s"`
	// Overlay on the ClusterConfig that Plinth generates, from its top: spec, then api, network and so on.
	// Setting a field that Plinth owns is an error.
	Config map[string]any `json:"config,omitempty"`
}

// Network holds the cluster's address ranges, IPv4 in CIDR form, and its node ports.
type Network struct {
	// Addresses for pods; every node takes a /24 of it.
	PodCIDR string `json:"podCIDR" default:"10.244.0.0/16" rule:"cidr-form"`
	// Addresses for services.
	ServiceCIDR string `json:"serviceCIDR" default:"10.96.0.0/12" rule:"cidr-form"`
	// Ports that services may open on every node, first-last. It must hold kotsadm's uiBindPort.
	NodePortRange string `json:"nodePortRange" default:"80-32767" rule:"node-port-range"`
}

// Kotsadm is the KOTS admin console.
type Kotsadm struct {
	// Exact KOTS release without a v, such as 1.131.2. The gate holds it against the Application's bounds.
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

// AddOn is a component that is only chosen by its version.
type AddOn struct {
	// Exact release without a v.
	Version string `json:"version" required:"true" rule:"version-exact/addon"`
}

// HostPreflights is the spec of a troubleshoot.sh/v1beta2 HostPreflight, merged with the built-in checks.
type HostPreflights struct {
	// What to measure; each entry has one collector's name as its key.
	Collectors []map[string]any `json:"collectors,omitempty"`
	// What to conclude; each entry has one analyzer's name as its key.
	Analyzers []map[string]any `json:"analyzers,omitempty"`
}

// Proxy is the way out for hosts behind an HTTP proxy. Its URLs may hold
// credentials: never print them.
type Proxy struct {
	// Proxy for http, such as http://proxy.example.com:3128.
	HTTPProxy string `json:"httpProxy" rule:"proxy-url"`
	// Proxy for https.
	HTTPSProxy string `json:"httpsProxy" rule:"proxy-url"`
	// Names, addresses and CIDRs to reach directly. Plinth adds the cluster's own.
	NoProxy []string `json:"noProxy,omitempty" rule:"no-proxy"`
}

// Pin is an add-on that the Installer asks for.
type Pin struct {
	Key     string // its key below spec
	Version string // exact, without a v
}

// AddOns lists the add-ons that the Installer asks for, in the order in which they
// depend on each other: storage, console, registry, backup.
func (i *Installer) AddOns() []Pin {
	var pins []Pin
	add := func(key string, a *AddOn) {
		if a != nil {
			pins = append(pins, Pin{key, a.Version})
		}
	}
	add("localPathStorage", i.Spec.LocalPathStorage)
	if k := i.Spec.Kotsadm; k != nil {
		pins = append(pins, Pin{"kotsadm", k.Version})
	}
	add("registry", i.Spec.Registry)
	add("velero", i.Spec.Velero)
	return pins
}

// NodePorts is the node-port range, both ends included; zeroes if it is not valid.
func (n Network) NodePorts() (first, last int) {
	first, last, _ = form.PortRange(n.NodePortRange)
	return first, last
}

// Marshal is the canonical form: JSON (and so YAML) with every default written out
// and keys in a fixed order. Installers that mean the same marshal to the same
// bytes, and ParseInstaller reads them back. It may hold the proxy's credentials.
func (i *Installer) Marshal() ([]byte, error) {
	data, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("marshal Installer %s: %w", i.Metadata.Name, err)
	}
	return append(data, '\n'), nil
}

// Digest is "sha256:" and the hash of the canonical form in hex.
func (i *Installer) Digest() (string, error) {
	data, err := i.Marshal()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}
