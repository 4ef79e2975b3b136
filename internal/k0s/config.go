// Package k0s configures, registers and starts k0s on a host, with the pinned
// binary and a configuration that is rendered with k0s's own types.
package k0s

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/k0sproject/k0s/pkg/apis/k0s/v1beta1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"

	"github.com/plinthdev/plinth/internal/ports"
	"github.com/plinthdev/plinth/internal/spec"
)

// Paths and units of k0s on a host.
const (
	BinaryPath           = "/usr/local/bin/k0s"                // the executable
	ConfigPath           = "/etc/k0s/k0s.yaml"                 // ClusterConfig, mode 0600
	DataDir              = "/var/lib/k0s"                      // state of k0s
	AdminConf            = "/var/lib/k0s/pki/admin.conf"       // kubeconfig of the cluster's administrator
	ContainerdSocket     = "/run/k0s/containerd.sock"          // socket of containerd's API
	ControllerUnit       = "k0scontroller.service"             // systemd unit of a controller
	WorkerUnit           = "k0sworker.service"                 // systemd unit of a worker
	TokenPath            = "/etc/k0s/plinth.token"             // k0s's join token while a controller joins, mode 0600
	KubeletConf          = "/var/lib/k0s/kubelet.conf"         // kubeconfig of this node
	EtcdMemberDir        = "/var/lib/k0s/etcd/member"          // data of the local member of etcd
	EtcdDatabase         = EtcdMemberDir + "/snap/db"          // its database
	CACertPath           = "/var/lib/k0s/pki/ca.crt"           // the cluster's certificate authority
	CAKeyPath            = "/var/lib/k0s/pki/ca.key"           // private key of the authority, on controllers only
	SAKeyPath            = "/var/lib/k0s/pki/sa.key"           // private key that signs the tokens of service accounts, on controllers only
	SAPubPath            = "/var/lib/k0s/pki/sa.pub"           // its public key
	AuthorizerConfPath   = "/etc/k0s/plinth-authorizer.yaml"   // kubeconfig with which the API server asks Plinth's agent
	RegistryDir          = "/etc/k0s/certs.d"                  // folder in which containerd looks up registries
	ContainerdConfigPath = "/etc/k0s/containerd.toml"          // containerd configuration that k0s writes itself
	unitDir              = "/etc/systemd/system/"              // folder of the systemd units of k0s
	envPath              = "/etc/k0s/plinth.env"               // environment of the service, mode 0600: a proxy may have a password
	trustedCAsDir        = "/etc/k0s/trusted-cas"              // authorities that the service trusts beside those of the host
	ContainerdDropInPath = "/etc/k0s/containerd.d/plinth.toml" // sets RegistryDir in containerd's configuration
)

// ContentDir is where containerd stores complete blobs of images, by digest. This layout of its local
// content store has not changed since containerd 1.0.
const ContentDir = DataDir + "/containerd/io.containerd.content.v1.content/blobs/sha256"

// KubeletCertPath is the path of the kubelet's serving certificate and key,
// PEM, signed by the cluster's authority for the node's name and addresses.
const KubeletCertPath = KubeletPKIDir + "/kubelet-server-current.pem"

// APIServerClientName is the common name of the certificate with which the API server identifies
// itself to kubelets and to Plinth's agent, and the name of its files (k0s 1.33.8,
// cmd/controller/certificates.go).
const APIServerClientName = "apiserver-kubelet-client"

// AuthorizePath is the path at which Plinth's agent answers authorization reviews of the API
// server on the same host.
const AuthorizePath = "/authorize"

// Loopback is the address at which every node reaches the API server, at port
// 6443.
const Loopback = "127.0.0.1"

// Settings are the inputs of the configuration of a controller.
type Settings struct {
	Version         string         // of k0s, such as v1.33.8+k0s.1
	Address         string         // IP address of the host
	Hostname        string         // name of the host
	PodCIDR         string         // address range of the pods
	ServiceCIDR     string         // address range of the services
	NodePortRange   string         // such as "80-32767"
	NeverPull       bool           // never pull images: all of them are on the node
	Images          []string       // references of which k0s's images get their tags; nil for those of the k0s that Plinth is built with
	APIAddress      string         // name or address of a load balancer in front of the controllers, added to the API's certificate; "" for none
	Overlay         map[string]any // the Installer's spec.k0s.config, merged over the generated configuration
	NoMetricsServer bool           // metrics-server does not run
	WorkerProfile   string         // of kubelet's settings in the overlay; "" for that of k0s
}

// NewSettings returns the settings of an Installer for a host. Images are never
// pulled, because all of them come with the bundle.
func NewSettings(in *spec.Installer, address, hostname string) Settings {
	n := in.Spec.Network
	return Settings{Version: in.Spec.K0s.Version, Address: address, Hostname: hostname, PodCIDR: n.PodCIDR, ServiceCIDR: n.ServiceCIDR, NodePortRange: n.NodePortRange,
		NeverPull: true, Overlay: in.Spec.K0s.Config, NoMetricsServer: in.Spec.MetricsServer.Disabled, WorkerProfile: in.Spec.K0s.Profile()}
}

// RenderConfig returns the ClusterConfig as YAML, after the k0s that Plinth is built with has validated it.
// The error contains all findings of k0s. Keys of the overlay that only a k0s of another minor has are in
// it as they are.
func RenderConfig(s Settings) ([]byte, error) {
	cfg, err := buildConfig(s)
	if err != nil {
		return nil, err
	}
	if errs := cfg.Validate(); len(errs) > 0 {
		return nil, fmt.Errorf("k0s rejects the configuration: %w", errors.Join(errs...))
	}
	_, later := s.splitOverlay()
	if len(later) == 0 {
		return yaml.Marshal(cfg)
	}
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(cfg)
	if err != nil {
		return nil, err
	}
	mergeOverlay(tree, later)
	return yaml.Marshal(tree)
}

// splitOverlay returns the part of the overlay that the types of k0s in this build have, and the part that
// only the k0s of the settings may have, which is of another minor.
func (s Settings) splitOverlay() (known, later map[string]any) {
	if !JudgesItself(s.Version) {
		return s.Overlay, nil
	}
	return splitUnknown(reflect.TypeFor[v1beta1.ClusterConfig](), s.Overlay)
}

// RunsKubeProxy reports whether the nodes run kube-proxy: they do unless the overlay disables it.
func (s Settings) RunsKubeProxy() bool {
	disabled, _, _ := unstructured.NestedBool(s.Overlay, "spec", "network", "kubeProxy", "disabled")
	return !disabled
}

// SystemPods returns the name prefixes of the pods that k0s runs in kube-system.
func (s Settings) SystemPods() []string {
	pods := []string{"coredns", "kube-router"}
	if !s.NoMetricsServer {
		pods = append(pods, MetricsServer)
	}
	if s.RunsKubeProxy() {
		pods = append(pods, "kube-proxy")
	}
	return pods
}

// buildConfig returns the generated ClusterConfig with the overlay merged into
// it, and bootstrap tokens off, whatever the overlay contains.
func buildConfig(s Settings) (*v1beta1.ClusterConfig, error) {
	cfg, err := mergeConfig(s)
	if err != nil {
		return nil, err
	}
	setNodeAuthFlags(cfg)
	closeRouterMetrics(cfg, s.Overlay)
	return cfg, nil
}

// closeRouterMetrics turns off the metrics of kube-router, unless the Installer's configuration names
// their port. Every pod can reach that port on the node's address, without authentication. The flag
// does it because k0s takes an absent metricsPort, as which 0 is written, as 8080.
func closeRouterMetrics(cfg *v1beta1.ClusterConfig, overlay map[string]any) {
	router := cfg.Spec.Network.KubeRouter
	if port, _, _ := unstructured.NestedFieldNoCopy(overlay, "spec", "network", "kuberouter", "metricsPort"); port != nil || router == nil {
		return
	}
	if router.ExtraArgs == nil {
		router.ExtraArgs = map[string]string{}
	}
	if _, named := router.ExtraArgs["metrics-port"]; !named {
		router.ExtraArgs["metrics-port"] = "0"
	}
}

// nodeAuthFlags are the flags of kube-apiserver by which only the hosts that the cluster has admitted
// act as nodes. Bootstrap tokens, which k0s accepts (k0s 1.33.8, pkg/component/controller/apiserver.go),
// would give their holders the certificate of any node; Plinth issues the certificates of nodes
// itself. The webhook is Plinth's agent: it denies nodes whose certificate is of an earlier admission,
// and has no opinion about others, which is kept for as long as the last flag says.
var nodeAuthFlags = map[string]string{
	"enable-bootstrap-token-auth":                  "false",
	"authorization-mode":                           "Webhook,Node,RBAC",
	"authorization-webhook-config-file":            AuthorizerConfPath,
	"authorization-webhook-version":                "v1",
	"authorization-webhook-cache-authorized-ttl":   "10s",
	"authorization-webhook-cache-unauthorized-ttl": "10s",
	// A watch that a node has opened ends after 5 to 10 minutes, also when the node was removed.
	"min-request-timeout": "300",
	// Secrets in etcd are encrypted. A change of the file, such as a new key, needs no restart.
	"encryption-provider-config":                  EncryptionConfPath,
	"encryption-provider-config-automatic-reload": "true",
}

// setNodeAuthFlags sets nodeAuthFlags, whatever the Installer's configuration says, and defaultFlags.
func setNodeAuthFlags(cfg *v1beta1.ClusterConfig) {
	if cfg.Spec.API == nil {
		cfg.Spec.API = &v1beta1.APISpec{}
	}
	args := maps.Clone(nodeAuthFlags)
	for name, value := range cfg.Spec.API.ExtraArgs {
		if _, ours := nodeAuthFlags[spec.FlagName(name)]; !ours {
			args[name] = value
		}
	}
	cfg.Spec.API.ExtraArgs = args
	setDefaultFlags(cfg.Spec.API)
}

// authorizerConf returns the kubeconfig with which the API server asks Plinth's agent on the same
// host, whose certificate is for the host's name.
func authorizerConf(hostname string) (string, error) {
	config := api.NewConfig()
	config.Clusters["agent"] = &api.Cluster{Server: "https://" + Loopback + ":" + ports.AuthorizerText + AuthorizePath,
		CertificateAuthority: CACertPath, TLSServerName: hostname}
	config.AuthInfos["kube-apiserver"] = &api.AuthInfo{ClientCertificate: pkiDir + "/" + APIServerClientName + ".crt", ClientKey: pkiDir + "/" + APIServerClientName + ".key"}
	config.Contexts["agent"] = &api.Context{Cluster: "agent", AuthInfo: "kube-apiserver"}
	config.CurrentContext = "agent"
	raw, err := clientcmd.Write(*config)
	return string(raw), err
}

// defaultConfig returns the default ClusterConfig of k0s, which callers must copy. k0s asks for all addresses of the
// host to build it, which takes milliseconds; every field that has one of them is set by mergeConfig.
var defaultConfig = sync.OnceValue(v1beta1.DefaultClusterConfig)

// mergeConfig returns the generated ClusterConfig with the overlay merged into
// it.
func mergeConfig(s Settings) (*v1beta1.ClusterConfig, error) {
	cfg := defaultConfig().DeepCopy()
	setImageTags(cfg.Spec.Images, s.Images)
	cfg.Spec.API.Address = s.Address
	// The API server address of every node: on a controller its own API server,
	// on a worker its load balancer. So nothing in the cluster depends on the
	// one controller that wrote a manifest or a token.
	cfg.Spec.API.ExternalAddress = Loopback
	cfg.Spec.API.SANs = []string{s.Address, s.Hostname, Loopback, "localhost"}
	if s.APIAddress != "" {
		cfg.Spec.API.SANs = append(cfg.Spec.API.SANs, s.APIAddress)
	}
	cfg.Spec.API.ExtraArgs = map[string]string{"service-node-port-range": s.NodePortRange}
	cfg.Spec.Storage.Etcd.PeerAddress = s.Address
	cfg.Spec.Network.PodCIDR = s.PodCIDR
	cfg.Spec.Network.ServiceCIDR = s.ServiceCIDR
	cfg.Spec.Network.KubeProxy.MetricsBindAddress = Loopback + ":10249" // k0s: all addresses, without authentication
	cfg.Spec.Telemetry.Enabled = new(bool)
	if s.NeverPull {
		cfg.Spec.Images.DefaultPullPolicy = "Never"
	}
	overlay, _ := s.splitOverlay()
	if len(overlay) == 0 {
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
	mergeOverlay(tree, overlay)
	if raw, err = json.Marshal(tree); err != nil {
		return nil, err
	}
	out, err := v1beta1.ConfigFromBytes(raw)
	if err != nil {
		return nil, fmt.Errorf("spec.k0s.config does not match the ClusterConfig of k0s: %w", err)
	}
	if out.Spec.API != nil { // names of the overlay are additional ones
		for _, name := range cfg.Spec.API.SANs {
			if !slices.Contains(out.Spec.API.SANs, name) {
				out.Spec.API.SANs = append(out.Spec.API.SANs, name)
			}
		}
	}
	return out, nil
}

// ServerNames returns the names and addresses, without those that every cluster has, for which the certificate of the
// API server with these settings is valid.
func ServerNames(s Settings) ([]string, error) {
	cfg, err := buildConfig(s)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(cfg.Spec.API.SANs, func(name string) bool { return name == "" }), nil
}

// mergeOverlay merges top into base: maps are merged, all other values are
// replaced. A null of top, whose meaning to k0s is its own default, leaves base as it is.
func mergeOverlay(base, top map[string]any) {
	for k, v := range top {
		if v == nil {
			continue
		}
		if sub, ok := v.(map[string]any); ok {
			if under, ok := base[k].(map[string]any); ok {
				mergeOverlay(under, sub)
				continue
			}
		}
		base[k] = v
	}
}

// ContainerdConfigVersion returns the version of the configuration that the containerd in a version of k0s
// reads (k0s docs/runtime.md): 2 for containerd 1.7, 3 for containerd 2.
func ContainerdConfigVersion(k0sVersion string) int {
	if spec.HasChange(k0sVersion, spec.Containerd2) {
		return 3
	}
	return 2
}

// containerdConfig returns the drop-in that makes containerd look up registries in RegistryDir, for a
// version of k0s. containerd reads the files there at each pull, so that no restart is needed when an
// add-on adds a registry.
func containerdConfig(k0sVersion string) string {
	format, plugin := ContainerdConfigVersion(k0sVersion), "io.containerd.grpc.v1.cri"
	if format == 3 {
		plugin = "io.containerd.cri.v1.images"
	}
	return fmt.Sprintf("version = %d\n[plugins.%q.registry]\n  config_path = %q\n", format, plugin, RegistryDir)
}

// alwaysDisabled are the k0s components that never run. autopilot: Plinth upgrades
// the cluster from a bundle.
// endpoint-reconciler: the API servers maintain their endpoints themselves; k0s
// would replace them by the external address. konnectivity-server: API servers
// reach nodes and services directly, because they are nodes themselves; all
// konnectivity agents would depend on the one controller that wrote their
// manifest. windows-node: no node runs Windows. csr-approver: it approves any
// serving certificate that a node asks for, also for other nodes' names.
// system-rbac: it lets every bootstrap token get the certificate of any node
// (k0s 1.33.8, pkg/component/controller/systemrbac.yaml), and contains nothing
// else. control-api: it gives the authorities' private keys to every holder of a
// bootstrap token for controllers; Plinth's agent gives them to admitted hosts.
const alwaysDisabled = "autopilot,endpoint-reconciler,konnectivity-server,windows-node," +
	"csr-approver,system-rbac,control-api"

// updateProber asks a server on the internet for updates of k0s. It never runs, but k0s
// refuses the name of a component that its version does not have.
const updateProber = "update-prober"

// helmComponent installs the charts that the k0s configuration names. It is
// disabled if there are none, because it delays the API by two seconds.
const helmComponent = "helm"

// disabledComponents returns the components that do not run with these
// settings, separated by commas.
func (s Settings) disabledComponents() string {
	all := alwaysDisabled
	if spec.HasChange(s.Version, spec.UpdateProberComponent) {
		all = updateProber + "," + all
	}
	if s.NoMetricsServer {
		all += "," + MetricsServer
	}
	charts, _, _ := unstructured.NestedFieldNoCopy(s.Overlay, "spec", "extensions", "helm", "charts")
	if list, _ := charts.([]any); len(list) == 0 {
		all += "," + helmComponent
	}
	return all
}

// startArguments returns the command-line arguments of the service.
func (s Service) startArguments() []string {
	var all []string
	if !s.Worker {
		all = []string{
			"--config=" + ConfigPath,
			"--enable-worker",
			"--no-taints", // a controller runs workloads too
			"--disable-components=" + s.Settings.disabledComponents(),
		}
	}
	// A worker needs no token: its kubelet has its certificates before k0s starts.
	if s.JoinsCluster && !s.Worker {
		all = append(all, "--token-file="+TokenPath)
	}
	if p := s.Settings.WorkerProfile; p != "" && p != spec.DefaultWorkerProfile {
		all = append(all, "--profile="+p)
	}
	// Without it kubelet looks up its own name in DNS. If DNS does not respond,
	// that takes 20 s, then two minutes of back-off.
	kubelet := "--node-ip=" + s.Settings.Address
	if s.usesResolvConf() {
		kubelet += " " + resolvConfFlag
	}
	return append(all, "--kubelet-extra-args="+kubelet)
}

// hostCAsDirs are the folders of the host's trusted authorities: those of Go, which SSL_CERT_DIR replaces (crypto/x509,
// root_linux.go). A file of the host with all authorities remains trusted.
const hostCAsDirs = "/etc/ssl/certs:/etc/pki/tls/certs"

// serviceEnv returns the environment file of the service: "" if it needs none. k0s gives variables with the prefix of a
// component to that component alone (pkg/supervisor, getEnv). containerd, which pulls images, is the only one that
// talks to servers outside of the cluster; etcd and the API server would send what they tell other nodes to the proxy.
func serviceEnv(p Proxy, trustedCAs string) string {
	certDirs := ""
	if trustedCAs != "" {
		certDirs = hostCAsDirs + ":" + trustedCAsDir
	}
	var b strings.Builder
	for _, kv := range [][2]string{{"HTTP_PROXY", p.HTTP}, {"HTTPS_PROXY", p.HTTPS}, {"NO_PROXY", strings.Join(p.NoProxy, ",")}, {"SSL_CERT_DIR", certDirs}} {
		if kv[1] != "" {
			fmt.Fprintf(&b, "CONTAINERD_%s=%q\n", kv[0], kv[1])
		}
	}
	return b.String()
}
