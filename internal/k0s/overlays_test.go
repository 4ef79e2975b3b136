package k0s

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/spec"
)

// overlays are of the kinds that public repositories contain: for k0s itself, k0sctl and installers
// that embed k0s. want has a line "severity rule field" for each finding, without the prefix
// spec.k0s.config.spec of the field.
var overlays = []struct{ name, selected, config, want string }{
	{"more pods on each node", "", `workerProfiles: [{name: default, values: {maxPods: 250}}]`, ""},
	{"a profile that is selected", "dense", `workerProfiles: [{name: dense, values: {maxPods: 200, podPidsLimit: 4096}}]`, ""},
	{"a profile that is not selected", "", `workerProfiles: [{name: dense, values: {maxPods: 200}}]`,
		"warning worker-profile-unused .workerProfiles[0].name"},
	{"a profile of GPU nodes beside the default", "", `workerProfiles: [{name: default, values: {maxPods: 120}}, {name: gpu, values: {topologyManagerPolicy: single-numa-node}}]`,
		"warning worker-profile-unused .workerProfiles[1].name"},
	{"evictions", "", `workerProfiles:
  - name: default
    values:
      evictionHard: {memory.available: 500Mi, nodefs.available: "5%", imagefs.available: "5%"}
      evictionSoft: {memory.available: 1Gi}
      evictionSoftGracePeriod: {memory.available: 1m30s}`, ""},
	{"garbage collection of images", "", `workerProfiles: [{name: default, values: {imageGCHighThresholdPercent: 80, imageGCLowThresholdPercent: 70, imageMinimumGCAge: 10m}}]`, ""},
	{"sysctls of pods", "", `workerProfiles: [{name: default, values: {allowedUnsafeSysctls: [net.core.somaxconn, "net.ipv4.*"]}}]`, ""},
	{"reserved resources", "", `workerProfiles: [{name: default, values: {systemReserved: {cpu: 250m, memory: 512Mi}, kubeReserved: {cpu: 250m}, enforceNodeAllocatable: [pods]}}]`, ""},
	{"swap", "", `workerProfiles: [{name: default, values: {failSwapOn: false, memorySwap: {swapBehavior: LimitedSwap}}}]`, ""},
	{"logs of containers", "", `workerProfiles: [{name: default, values: {containerLogMaxSize: 100Mi, containerLogMaxFiles: 3}}]`, ""},
	{"graceful shutdown and seccomp", "", `workerProfiles: [{name: default, values: {shutdownGracePeriod: 60s, shutdownGracePeriodCriticalPods: 20s, seccompDefault: true}}]`, ""},
	{"a number as text", "", `workerProfiles: [{name: default, values: {maxPods: "250"}}]`, "error k0s-config .workerProfiles[0].values.maxPods"},
	{"a setting in lower case", "", `workerProfiles: [{name: default, values: {maxpods: 250}}]`, "error k0s-config .workerProfiles[0].values.maxpods"},
	{"a name server of the cluster", "", `workerProfiles: [{name: default, values: {clusterDNS: [169.254.20.10]}}]`, "error k0s-config .workerProfiles[0].values.clusterDNS"},
	{"anonymous access to kubelet", "", `workerProfiles: [{name: default, values: {authentication: {anonymous: {enabled: true}}, authorization: {mode: AlwaysAllow}}}]`,
		"error k0s-config .workerProfiles[0].values.authentication\nerror k0s-config .workerProfiles[0].values.authorization"},
	{"a profile as a mapping", "", `workerProfiles: {default: {maxPods: 250}}`, "error k0s-config .workerProfiles"},

	{"names of the API", "", `api: {sans: [k8s.example.com, 203.0.113.10]}`, ""},
	{"names beside the external address", "", `api: {externalAddress: k8s.example.com, sans: [k8s.example.com]}`, "error k0s-config .api.externalAddress"},
	{"only one address", "", `api: {address: 192.0.2.10, onlyBindToAddress: true}`, "error k0s-config .api.address\nerror k0s-config .api.onlyBindToAddress"},
	{"another port of the API", "", `api: {port: 7443, k0sApiPort: 9743}`, "error k0s-config .api.k0sApiPort\nerror k0s-config .api.port"},
	{"OpenID Connect", "", `api: {extraArgs: {oidc-issuer-url: "https://login.example.com", oidc-client-id: kubernetes, oidc-groups-claim: groups}}`, ""},
	{"an authentication file", "", `api: {extraArgs: {authentication-config: /etc/k0s/auth.yaml}}`, "error k0s-config .api.extraArgs.authentication-config"},
	{"audit log", "", `api: {extraArgs: {audit-log-path: /var/log/kube-audit.log, audit-log-maxage: "7"}}`, ""},
	{"node ports", "", `api: {extraArgs: {service-node-port-range: 80-32767}}`, "error k0s-config .api.extraArgs.service-node-port-range"},
	{"admission plugins", "", `api: {extraArgs: {enable-admission-plugins: "NodeRestriction,PodNodeSelector"}}`, "error k0s-config .api.extraArgs.enable-admission-plugins"},
	{"cipher suites", "", `api: {extraArgs: {tls-cipher-suites: TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, profiling: "false"}}`, ""},
	{"a flag that is a number", "", `api: {extraArgs: {max-requests-inflight: 800}}`, "error k0s-config .api.extraArgs"},

	{"metrics of the control plane", "", `controllerManager: {extraArgs: {bind-address: 0.0.0.0}}
scheduler: {extraArgs: {bind-address: 0.0.0.0}}
storage: {etcd: {extraArgs: {listen-metrics-urls: "http://0.0.0.0:2381"}}}`, ""},
	{"faster eviction from dead nodes", "", `controllerManager: {extraArgs: {node-monitor-grace-period: 20s, node-monitor-period: 2s}}
api: {extraArgs: {default-not-ready-toleration-seconds: "30", default-unreachable-toleration-seconds: "30"}}`, ""},
	{"larger networks of nodes", "", `controllerManager: {extraArgs: {node-cidr-mask-size: "23"}}`, "error k0s-config .controllerManager.extraArgs.node-cidr-mask-size"},
	{"a quota of etcd", "", `storage: {type: etcd, etcd: {extraArgs: {quota-backend-bytes: "8589934592", auto-compaction-retention: "1"}}}`, "error k0s-config .storage.type"},
	{"a database in place of etcd", "", `storage: {type: kine, kine: {dataSource: "mysql://db.example.com/k0s"}}`, "error k0s-config .storage.kine\nerror k0s-config .storage.type"},

	{"networks", "", `network: {podCIDR: 10.10.0.0/16, serviceCIDR: 10.11.0.0/16}`, "error k0s-config .network.podCIDR\nerror k0s-config .network.serviceCIDR"},
	{"Calico", "", `network: {provider: calico, calico: {mode: vxlan, wireguard: true}}`, "error k0s-config .network.calico\nerror k0s-config .network.provider"},
	{"another domain", "", `network: {clusterDomain: corp.local}`, ""},
	{"MTU behind a VPN", "", `network: {kuberouter: {autoMTU: false, mtu: 1380}}`, ""},
	{"IPVS", "", `network: {kubeProxy: {mode: ipvs, ipvs: {strictARP: true}}}`, ""},
	{"nftables", "", `network: {kubeProxy: {mode: nftables}}`, ""},
	{"userspace proxy", "", `network: {kubeProxy: {mode: userspace}}`, "error k0s-config .network.kubeProxy.mode"},
	{"kube-router in place of kube-proxy", "", `network: {kubeProxy: {disabled: true}, kuberouter: {extraArgs: {run-service-proxy: "true"}}}`,
		"warning k0s-config-effect .network.kubeProxy.disabled"},
	{"a virtual address", "", `network: {controlPlaneLoadBalancing: {enabled: true, type: Keepalived, keepalived: {vrrpInstances: [{virtualIPs: [192.0.2.100/24], authPass: example}]}}}`,
		"error k0s-config .network.controlPlaneLoadBalancing"},
	{"node-local load balancing", "", `network: {nodeLocalLoadBalancing: {enabled: true, type: EnvoyProxy}}`, "error k0s-config .network.nodeLocalLoadBalancing"},
	{"both address families", "", `network: {dualStack: {enabled: true, IPv6podCIDR: "fd00::/108", IPv6serviceCIDR: "fd01::/108"}}`, "error k0s-config .network.dualStack"},
	{"nulls of a template", "", `{network: , api: {address: , extraArgs: }, storage: {etcd: }, workerProfiles: }`, ""},

	{"a private registry", "", `images: {repository: registry.example.com/k0s, default_pull_policy: IfNotPresent}`, "error k0s-config .images"},
	{"telemetry off, and the defaults of users", "", `telemetry: {enabled: false}
installConfig: {users: {etcdUser: etcd}}`, "error k0s-config .installConfig"},
	{"konnectivity", "", `konnectivity: {agentPort: 8132, adminPort: 8133}`, "error k0s-config .konnectivity"},
	{"feature gates", "", `featureGates: [{name: InPlacePodVerticalScaling, enabled: true, components: [kube-apiserver, kubelet, kube-scheduler]}]`, ""},
	{"a chart", "", `extensions:
  helm:
    repositories: [{name: traefik, url: "https://charts.example.com/traefik"}]
    charts: [{name: traefik, chartname: traefik/traefik, version: 30.0.0, namespace: traefik, order: 1, timeout: 5m}]`, "warning k0s-config-effect .extensions.helm.charts[0].chartname"},
	{"a chart without namespace", "", `extensions: {helm: {charts: [{name: a, chartname: b/a}]}}`, "error k0s-config \nwarning k0s-config-effect .extensions.helm.charts[0].chartname"},
	{"storage of earlier versions", "", `extensions: {storage: {type: openebs_local_storage}}`, "warning k0s-config-effect .extensions.storage.type"},
	{"a key of a later version", "", `network: {kuberouter: {newSetting: true}}`, "error k0s-config .network.kuberouter.newSetting"},
}

// installerWith returns an Installer that selects a worker profile and whose overlay has the lines below spec.
func installerWith(profile, overlay string) []byte {
	const indent = "\n        "
	return fmt.Appendf(nil, "apiVersion: plinth.dev/v1beta1\nkind: Installer\nmetadata: {name: a}\nspec:\n  k0s:\n    version: v1.33.8+k0s.1\n    workerProfile: %q\n    config:\n      spec:%s%s\n",
		profile, indent, strings.ReplaceAll(overlay, "\n", indent))
}

func TestValidate_JudgesPublicOverlays(t *testing.T) {
	for _, c := range overlays {
		t.Run(c.name, func(t *testing.T) {
			data := installerWith(c.selected, c.config)
			var got []string
			report := spec.Lint([]spec.File{{Name: "installer.yaml", Data: data}}, Validate)
			for _, f := range report.Findings {
				got = append(got, fmt.Sprintf("%s %s %s", f.Severity, f.Rule, strings.TrimPrefix(strings.TrimPrefix(f.Field, "spec.k0s.config"), ".spec")))
			}
			slices.Sort(got)
			if strings.Join(got, "\n") != c.want {
				t.Errorf("%v\n%s", report.Findings, data)
			}
			if report.Installer == nil {
				return
			}
			if _, err := RenderConfig(NewSettings(report.Installer, "192.0.2.1", "n1")); err != nil {
				t.Errorf("accepted, but %v", err)
			}
		})
	}
}

// Only a k0s of another minor may have keys that the types in this build lack. They reach its configuration.
func TestValidate_LeavesKeysOfAnotherMinorToIt(t *testing.T) {
	const overlay = "metricsServer: {image: {version: v1}}\nnetwork: {kuberouter: {newSetting: true, mtu: 1400}}"
	for version, want := range map[string]string{
		"v1.33.6+k0s.0": "error k0s-config spec.k0s.config.spec.metricsServer, error k0s-config spec.k0s.config.spec.network.kuberouter.newSetting",
		"v1.36.3+k0s.2": "warning k0s-config-later spec.k0s.config.spec.metricsServer.image.version, warning k0s-config-later spec.k0s.config.spec.network.kuberouter.newSetting",
	} {
		t.Run(version, func(t *testing.T) {
			var got []string
			report := spec.Lint([]spec.File{{Name: "installer.yaml", Data: bytes.ReplaceAll(installerWith("", overlay), []byte("v1.33.8+k0s.1"), []byte(version))}}, Validate)
			for _, f := range report.Findings {
				got = append(got, fmt.Sprintf("%s %s %s", f.Severity, f.Rule, f.Field))
			}
			if strings.Join(got, ", ") != want {
				t.Errorf("%v", report.Findings)
			}
			if report.Installer == nil {
				return
			}
			config, err := RenderExample(report.Installer)
			for _, line := range []string{"metricsServer:", "version: v1\n", "newSetting: true", "mtu: 1400", "podCIDR: 10.244.0.0/16"} {
				if err != nil || !strings.Contains(string(config), line) {
					t.Errorf("no %q in %v\n%s", line, err, config)
				}
			}
		})
	}
}

// An overlay that lint accepts is one that k0s reads, and none makes k0s's own checks crash.
func FuzzValidate(f *testing.F) {
	for _, c := range overlays {
		f.Add(c.selected, c.config)
	}
	f.Add("", "workerProfiles: [{name: default}, {name: default, values: null}, null, {}]")
	f.Add("", "network: {kubeProxy: null, kuberouter: []}\nextensions: {helm: {charts: [null]}}\nfeatureGates: [null]\napi: {sans: [null, 1]}")
	f.Fuzz(func(t *testing.T, profile, overlay string) {
		report := spec.Lint([]spec.File{{Name: "installer.yaml", Data: installerWith(profile, overlay)}}, Validate)
		if report.Installer == nil {
			return
		}
		if _, err := RenderConfig(NewSettings(report.Installer, "192.0.2.1", "n1")); err != nil {
			t.Errorf("accepted, but %v", err)
		}
	})
}

// k0s decodes its configuration with encoding/json, which ignores the case of keys.
func TestValidate_RefusesKnownKeysInAnotherCase(t *testing.T) {
	for name, tc := range map[string]struct {
		version, path, hint string
		config              map[string]any
	}{
		"of the minor of this build": {"v1.33.8+k0s.1", "spec.k0s.config.spec.API", `did you mean "api"?`,
			map[string]any{"spec": map[string]any{"API": map[string]any{"port": 1}}}},
		"of another minor": {"v1.35.7+k0s.0", "spec.k0s.config.spec.API", `did you mean "api"?`,
			map[string]any{"spec": map[string]any{"API": map[string]any{"extraArgs": map[string]any{"anonymous-auth": "true"}}}}},
		"below a key": {"v1.35.7+k0s.0", "spec.k0s.config.spec.api.ExtraArgs", `did you mean "extraArgs"?`,
			map[string]any{"spec": map[string]any{"api": map[string]any{"ExtraArgs": map[string]any{"v": "1"}}}}},
		"in a list": {"v1.35.7+k0s.0", "spec.k0s.config.spec.workerProfiles[0].Values", `did you mean "values"?`,
			map[string]any{"spec": map[string]any{"workerProfiles": []any{map[string]any{"Values": map[string]any{}}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			in := &spec.Installer{Spec: spec.Spec{K0s: spec.K0s{Version: tc.version, Config: tc.config}}}
			found := Validate(in)
			if len(found) == 0 || found[0] != (spec.Violation{Rule: "k0s-config", Path: tc.path, Message: "k0s has no such key", Hint: tc.hint}) {
				t.Errorf("%+v", found)
			}
		})
	}
}
