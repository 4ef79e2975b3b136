// Package k0s owns what Plinth knows of k0s: its configuration, rendered with
// k0s's own types, and the life of its service through the pinned binary. It
// refuses to know what runs in the cluster.
package k0s

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/k0sproject/k0s/pkg/apis/k0s/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/plinthdev/plinth/internal/spec"
)

// Where k0s lives on a host.
const (
	Binary      = "/usr/local/bin/k0s"                // the executable
	ConfigPath  = "/etc/k0s/k0s.yaml"                 // its ClusterConfig, 0600
	DataDir     = "/var/lib/k0s"                      // its state
	AdminConf   = "/var/lib/k0s/pki/admin.conf"       // kubeconfig of the cluster's administrator
	Socket      = "/run/k0s/containerd.sock"          // containerd's API
	Unit        = "k0scontroller.service"             // systemd unit of a controller
	WorkerUnit  = "k0sworker.service"                 // systemd unit of a worker
	TokenPath   = "/etc/k0s/plinth.token"             // k0s's own join token while a host joins, 0600
	KubeletConf = "/var/lib/k0s/kubelet.conf"         // kubeconfig of this node
	EtcdMember  = "/var/lib/k0s/etcd/member"          // what a member of etcd keeps
	CACert      = "/var/lib/k0s/pki/ca.crt"           // the cluster's certificate authority
	CAKey       = "/var/lib/k0s/pki/ca.key"           // its key, on controllers
	RegistryDir = "/etc/k0s/certs.d"                  // where containerd looks up registries
	OwnConfig   = "/etc/k0s/containerd.toml"          // which k0s writes by itself
	unitDir     = "/etc/systemd/system/"              // where k0s puts its units
	envPath     = "/etc/k0s/plinth.env"               // proxy settings of the service, 0600
	containerd  = "/etc/k0s/containerd.d/plinth.toml" // tells containerd where registries are described
)

// KubeletCert is certificate and key that a node's kubelet serves with, PEM,
// signed by the cluster's authority for the node's name and addresses.
const KubeletCert = DataDir + "/kubelet/pki/kubelet-server-current.pem"

// Loopback is where every node reaches the API, at port 6443.
const Loopback = "127.0.0.1"

// Settings is what a controller's configuration is made from.
type Settings struct {
	Address       string         // the host's own IP address
	Hostname      string         // the host's name
	PodCIDR       string         // range of the pods' addresses
	ServiceCIDR   string         // range of the services' addresses
	NodePortRange string         // such as "80-32767"
	OnlyLocal     bool           // all images are on the node: never pull
	APIAddress    string         // of a balancer before the controllers, name or address, for the API's certificate; "" for none
	Overlay       map[string]any // the Installer's spec.k0s.config, laid over what is generated
}

// SettingsFor is what an Installer means on a host; everything it runs came
// with the bundle.
func SettingsFor(in *spec.Installer, address, hostname string) Settings {
	n := in.Spec.Network
	return Settings{Address: address, Hostname: hostname, PodCIDR: n.PodCIDR, ServiceCIDR: n.ServiceCIDR, NodePortRange: n.NodePortRange,
		OnlyLocal: true, Overlay: in.Spec.K0s.Config}
}

// Render makes the ClusterConfig, in YAML, and has k0s validate it. All that
// k0s finds wrong is in the error.
func Render(s Settings) ([]byte, error) {
	cfg, err := build(s)
	if err != nil {
		return nil, err
	}
	if errs := cfg.Validate(); len(errs) > 0 {
		return nil, fmt.Errorf("k0s refuses the configuration: %w", errors.Join(errs...))
	}
	return yaml.Marshal(cfg)
}

// Images lists the references of the images that a controller with these
// settings runs, the one that every pod needs first.
func Images(s Settings) ([]string, error) {
	cfg, err := build(s)
	if err != nil {
		return nil, err
	}
	i := cfg.Spec.Images
	// The order is the order of need: sandbox, then what makes the node Ready,
	// then what makes the system pods Ready.
	refs := []string{i.Pause.URI(), i.KubeRouter.CNI.URI(), i.KubeRouter.CNIInstaller.URI(), i.KubeProxy.URI(),
		i.CoreDNS.URI(), i.MetricsServer.URI()}
	return refs, nil
}

func build(s Settings) (*v1beta1.ClusterConfig, error) {
	cfg := v1beta1.DefaultClusterConfig()
	cfg.Spec.API.Address = s.Address
	// What every node is told of the API: on a controller this is its own
	// server, on a worker its balancer. So nothing in the cluster depends on the
	// one controller that happened to write a manifest or a token.
	cfg.Spec.API.ExternalAddress = Loopback
	cfg.Spec.API.SANs = []string{s.Address, s.Hostname, Loopback, "localhost"}
	if s.APIAddress != "" {
		cfg.Spec.API.SANs = append(cfg.Spec.API.SANs, s.APIAddress)
	}
	cfg.Spec.API.ExtraArgs = map[string]string{"service-node-port-range": s.NodePortRange}
	cfg.Spec.Storage.Etcd.PeerAddress = s.Address
	cfg.Spec.Network.PodCIDR = s.PodCIDR
	cfg.Spec.Network.ServiceCIDR = s.ServiceCIDR
	cfg.Spec.Telemetry.Enabled = new(bool)
	if s.OnlyLocal {
		cfg.Spec.Images.DefaultPullPolicy = "Never"
	}
	if len(s.Overlay) == 0 {
		return cfg, nil
	}
	raw, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	var tree map[string]any
	if err := json.Unmarshal(raw, &tree); err != nil {
		return nil, err
	}
	overlay(tree, s.Overlay)
	if raw, err = json.Marshal(tree); err != nil {
		return nil, err
	}
	out, err := v1beta1.ConfigFromBytes(raw)
	if err != nil {
		return nil, fmt.Errorf("spec.k0s.config does not fit k0s's ClusterConfig: %w", err)
	}
	return out, nil
}

// overlay lays top over base: maps merge, everything else is replaced.
func overlay(base, top map[string]any) {
	for k, v := range top {
		if sub, ok := v.(map[string]any); ok {
			if under, ok := base[k].(map[string]any); ok {
				overlay(under, sub)
				continue
			}
		}
		base[k] = v
	}
}

// containerdConfig has containerd look up registries in certs.d, where files
// count as soon as they are written: no restart when an add-on brings one.
const containerdConfig = `version = 2
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "` + RegistryDir + `"
`

// withoutComponents are k0s's components that do not run. Upgrades are Plinth's, from
// a bundle: nothing looks for them by itself. The API servers keep their
// endpoints themselves, which k0s would replace by the external address, and
// reach nodes and services as nodes that they are, without konnectivity: its agents
// would all hang on the one controller that wrote their manifest. No node runs
// Windows.
const withoutComponents = "autopilot,update-prober,endpoint-reconciler,konnectivity-server,windows-node"

// helmComponent installs the charts of the configuration. Where it names none
// it would do nothing, and the API would be ready two seconds later for it.
const helmComponent = "helm"

// without lists the components that do not run with these settings.
func (s Settings) without() string {
	spec, _ := s.Overlay["spec"].(map[string]any)
	if _, charts := spec["extensions"]; charts {
		return withoutComponents
	}
	return withoutComponents + "," + helmComponent
}

// arguments is what the service is started with.
func (s Service) arguments() []string {
	var all []string
	if !s.Worker {
		all = []string{
			"--config=" + ConfigPath,
			"--enable-worker",
			"--no-taints", // a controller runs workloads too
			"--disable-components=" + s.Settings.without(),
		}
	}
	if s.Joins {
		all = append(all, "--token-file="+TokenPath)
	}
	// Without it kubelet looks its own name up in DNS; where that does not
	// answer it loses 20 s, then two minutes of back-off.
	return append(all, "--kubelet-extra-args=--node-ip="+s.Settings.Address)
}

// proxyEnv renders the service's environment for an outgoing proxy.
func proxyEnv(httpProxy, httpsProxy string, noProxy []string) string {
	var b strings.Builder
	for _, kv := range [][2]string{{"HTTP_PROXY", httpProxy}, {"HTTPS_PROXY", httpsProxy}, {"NO_PROXY", strings.Join(noProxy, ",")}} {
		if kv[1] != "" {
			fmt.Fprintf(&b, "%s=%q\n", kv[0], kv[1])
		}
	}
	return b.String()
}

// Minor is the Kubernetes minor version of a k0s release: 33 for
// v1.33.8+k0s.1; 0 when version has no such form.
func Minor(version string) int {
	_, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	n, err := strconv.Atoi(minor)
	if err != nil {
		return 0
	}
	return n
}
