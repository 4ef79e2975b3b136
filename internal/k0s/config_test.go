package k0s

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/testkit"
)

func settings() Settings {
	return Settings{Version: "v1.33.8+k0s.1", Address: "10.0.0.5", Hostname: "n1", PodCIDR: "10.244.0.0/16", ServiceCIDR: "10.96.0.0/12", NodePortRange: "80-32767", NeverPull: true}
}

func TestRenderConfig_MatchesGolden(t *testing.T) {
	s := settings()
	s.Overlay = map[string]any{"spec": map[string]any{"network": map[string]any{"kuberouter": map[string]any{"mtu": 1400, "autoMTU": false}}}}
	got, err := RenderConfig(s)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Golden(t, "testdata/k0s.golden.yaml", got)
}

func TestConfigFiles_ContainerdDropInFitsTheContainerdOfK0s(t *testing.T) {
	const for1 = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/k0s/certs.d\"\n"
	const for2 = "version = 3\n[plugins.\"io.containerd.cri.v1.images\".registry]\n  config_path = \"/etc/k0s/certs.d\"\n"
	for version, want := range map[string]string{
		"v1.33.8+k0s.1": for1, "v1.34.10+k0s.0": for1, "v1.35.7+k0s.0": for1, "v1.36.0-dev+k0s.0": for2, "v1.36.3+k0s.2": for2,
	} {
		for _, worker := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, worker %v", version, worker), func(t *testing.T) {
				in := &spec.Installer{}
				in.Spec.K0s.Version = version
				s := Service{Settings: NewSettings(in, "10.0.0.5", "n1"), Worker: worker}
				files := s.configFiles()
				i := slices.IndexFunc(files, func(f configFile) bool { return f.path == "/etc/k0s/containerd.d/plinth.toml" })
				if got, err := files[i].content(); err != nil || got != want {
					t.Errorf("%v, got:\n%s\nwant:\n%s", err, got, want)
				}
			})
		}
	}
}

func TestBuildConfig_APIAddressIsInCertificateOnly(t *testing.T) {
	s := settings()
	s.APIAddress = "api.example.com"
	c, err := buildConfig(s)
	if err != nil || !slices.Contains(c.Spec.API.SANs, "api.example.com") || c.Spec.API.ExternalAddress != Loopback || len(c.Validate()) > 0 {
		t.Errorf("%+v %v", c.Spec.API, err)
	}
}

func TestServerNames_HasThoseOfTheOverlay(t *testing.T) {
	own := []string{"10.0.0.5", "n1", Loopback, "localhost", "lb"}
	for name, c := range map[string]struct {
		api  map[string]any
		want []string
	}{
		"none":             {nil, own},
		"additional names": {map[string]any{"sans": []any{"*.x.example.com", "10.0.0.99"}}, append([]string{"*.x.example.com", "10.0.0.99"}, own...)},
		"an own name":      {map[string]any{"sans": []any{"n1", "x.example.com"}}, []string{"n1", "x.example.com", "10.0.0.5", Loopback, "localhost", "lb"}},
		"null":             {map[string]any{"sans": nil}, own},
		"an empty list":    {map[string]any{"sans": []any{}}, own},
	} {
		t.Run(name, func(t *testing.T) {
			s := settings()
			s.APIAddress = "lb"
			s.Overlay = map[string]any{"spec": map[string]any{"api": c.api}}
			if got, err := ServerNames(s); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%q %v", got, err)
			}
		})
	}
}

// k0s reads null as a request for its own defaults, which would replace the networks and addresses of
// the cluster.
func TestRenderConfig_TakesNullAsAbsent(t *testing.T) {
	s := settings()
	s.PodCIDR, s.ServiceCIDR = "10.55.0.0/16", "10.56.0.0/16"
	want, err := RenderConfig(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"spec", "spec.api", "spec.api.extraArgs", "spec.api.address", "spec.api.ca", "spec.network", "spec.network.podCIDR", "spec.network.kuberouter",
		"spec.network.kuberouter.metricsPort", "spec.network.kubeProxy", "spec.network.clusterDomain", "spec.storage", "spec.storage.etcd", "spec.telemetry", "spec.images",
		"spec.extensions", "spec.workerProfiles", "spec.featureGates"} {
		t.Run(path, func(t *testing.T) {
			var overlay any
			for _, key := range slices.Backward(strings.Split(path, ".")) {
				overlay = map[string]any{key: overlay}
			}
			s.Overlay, _ = overlay.(map[string]any)
			got, err := RenderConfig(s)
			if err != nil || string(got) != string(want) {
				t.Errorf("%v\n%s", err, got)
			}
		})
	}
}

func TestSettings_LeaveOutDisabledKubeProxy(t *testing.T) {
	for name, tc := range map[string]struct {
		proxy map[string]any
		want  bool
	}{
		"absent":   {nil, true},
		"enabled":  {map[string]any{"disabled": false}, true},
		"null":     {map[string]any{"disabled": nil}, true},
		"disabled": {map[string]any{"disabled": true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := settings()
			s.Overlay = map[string]any{"spec": map[string]any{"network": map[string]any{"kubeProxy": tc.proxy}}}
			refs, err := Images(s)
			if err != nil {
				t.Fatal(err)
			}
			hasImage := slices.ContainsFunc(refs, func(ref string) bool { return strings.Contains(ref, "kube-proxy") })
			if waits := slices.Contains(s.SystemPods(), "kube-proxy"); hasImage != tc.want || waits != tc.want {
				t.Errorf("image %t, pod %t, want %t", hasImage, waits, tc.want)
			}
		})
	}
}

func TestSettings_LeaveOutDisabledMetricsServer(t *testing.T) {
	for name, disabled := range map[string]bool{"enabled": false, "disabled": true} {
		t.Run(name, func(t *testing.T) {
			in := &spec.Installer{}
			in.Spec.K0s.Version, in.Spec.MetricsServer.Disabled = "v1.33.8+k0s.1", disabled
			s := NewSettings(in, "10.0.0.5", "node1")
			refs, err := Images(s)
			testkit.Must(t, err)
			hasImage := slices.ContainsFunc(refs, func(ref string) bool { return strings.Contains(ref, "metrics-server") })
			isDisabled := slices.Contains(strings.Split(s.disabledComponents(), ","), "metrics-server")
			if waits := slices.Contains(s.SystemPods(), "metrics-server"); hasImage == disabled || waits == disabled || isDisabled != disabled {
				t.Errorf("image %t, pod %t, disabled %t", hasImage, waits, isDisabled)
			}
		})
	}
}

func TestStartArguments_SelectTheWorkerProfile(t *testing.T) {
	for profile, want := range map[string]string{"": "", spec.DefaultWorkerProfile: "", "big": "--profile=big"} {
		for _, worker := range []bool{false, true} {
			t.Run(fmt.Sprintf("profile %q, worker %t", profile, worker), func(t *testing.T) {
				s := Service{Host: hosttest.New(t).Host(), Worker: worker, Settings: settings()}
				s.Settings.WorkerProfile = profile
				got := slices.DeleteFunc(s.startArguments(), func(a string) bool { return !strings.HasPrefix(a, "--profile") })
				if strings.Join(got, " ") != want {
					t.Errorf("%q, want %q", got, want)
				}
			})
		}
	}
}

func TestBuildConfig_OverlayCannotChangeNodeAuth(t *testing.T) {
	for name, api := range map[string]any{
		"no overlay":       map[string]any{},
		"flag":             map[string]any{"extraArgs": map[string]any{"enable-bootstrap-token-auth": "true"}},
		"underscores":      map[string]any{"extraArgs": map[string]any{"enable_bootstrap_token_auth": "true", "v": "2"}},
		"value in the key": map[string]any{"extraArgs": map[string]any{"enable-bootstrap-token-auth=true": ""}},
		"authorization":    map[string]any{"extraArgs": map[string]any{"authorization-mode": "AlwaysAllow", "authorization-webhook-config-file": "/tmp/x"}},
		"cache":            map[string]any{"extraArgs": map[string]any{"authorization_webhook_cache_authorized_ttl": "24h", "authorization-webhook-version": "v1beta1"}},
		"no arguments":     map[string]any{"extraArgs": nil},
		"no API":           nil,
	} {
		t.Run(name, func(t *testing.T) {
			s := settings()
			s.Overlay = map[string]any{"spec": map[string]any{"api": api}}
			c, err := buildConfig(s)
			if err != nil {
				t.Fatal(err)
			}
			for flag, value := range c.Spec.API.ExtraArgs {
				if want, ours := nodeAuthFlags[spec.FlagName(flag)]; ours && (flag != spec.FlagName(flag) || value != want) {
					t.Errorf("%s=%s", flag, value)
				}
			}
			for flag, want := range nodeAuthFlags {
				if got := c.Spec.API.ExtraArgs[flag]; got != want {
					t.Errorf("%s is %q, want %q", flag, got, want)
				}
			}
		})
	}
}

func TestBuildConfig_RouterMetricsAreOffUnlessNamed(t *testing.T) {
	for _, tc := range []struct {
		name   string
		router map[string]any
		want   string
	}{
		{"default", nil, "0"},
		{"other setting", map[string]any{"mtu": 1400}, "0"},
		{"other argument", map[string]any{"extraArgs": map[string]any{"v": "1"}}, "0"},
		{"port", map[string]any{"metricsPort": 8080}, ""},
		{"argument", map[string]any{"extraArgs": map[string]any{"metrics-port": "9999"}}, "9999"},
	} {
		s := settings()
		if tc.router != nil {
			s.Overlay = map[string]any{"spec": map[string]any{"network": map[string]any{"kuberouter": tc.router}}}
		}
		cfg, err := buildConfig(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.Spec.Network.KubeRouter.ExtraArgs["metrics-port"]; got != tc.want {
			t.Errorf("%s: metrics-port is %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestStartArguments_TokenIsForJoiningControllersOnly(t *testing.T) {
	for name, tc := range map[string]struct {
		service Service
		want    bool
	}{
		"first controller":   {Service{}, false},
		"joining controller": {Service{JoinsCluster: true}, true},
		"worker":             {Service{JoinsCluster: true, Worker: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			tc.service.Host = hosttest.New(t).Host()
			if got := slices.Contains(tc.service.startArguments(), "--token-file="+TokenPath); got != tc.want {
				t.Error(tc.service.startArguments())
			}
		})
	}
}

func TestRenderConfig_RejectsInvalidOverlay(t *testing.T) {
	for name, tc := range map[string]struct {
		overlay map[string]any
		want    string
	}{
		"unknown key": {map[string]any{"spec": map[string]any{"netwrk": map[string]any{}}}, "netwrk"},
		"bad value":   {map[string]any{"spec": map[string]any{"network": map[string]any{"provider": "none-such"}}}, "none-such"},
	} {
		t.Run(name, func(t *testing.T) {
			s := settings()
			s.Overlay = tc.overlay
			if _, err := RenderConfig(s); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one that names %q", err, tc.want)
			}
		})
	}
}

func TestImages_StartWithSandboxAndSkipCalico(t *testing.T) {
	refs, err := Images(settings())
	if err != nil || len(refs) != 6 || !strings.Contains(refs[0], "pause") {
		t.Fatalf("%v %v", refs, err)
	}
	for _, r := range refs {
		if strings.Contains(r, "calico") {
			t.Errorf("unused image %s", r)
		}
	}
}

func TestRegisterNeeded_DetectsChangedArguments(t *testing.T) {
	f := hosttest.New(t)
	h := f.Host()
	c := Service{Host: h, Settings: settings()}
	if why, err := c.RegisterNeeded(); why == "" || err != nil {
		t.Fatalf("fresh host: %q %v", why, err)
	}
	f.Expect("/usr/local/bin/k0s install controller --force --config=/etc/k0s/k0s.yaml --enable-worker --no-taints --disable-components=update-prober,autopilot,endpoint-reconciler,konnectivity-server,windows-node,csr-approver,system-rbac,control-api,helm --kubelet-extra-args=--node-ip=10.0.0.5").
		Do(func(c host.Cmd) {
			unit := "ExecStart=/usr/local/bin/k0s controller \"" + strings.Join(c.Argv[4:], `" "`) + "\"\n"
			if err := h.Write(unitDir+ControllerUnit, strings.NewReader(unit), 0o644); err != nil {
				t.Error(err)
			}
		})
	if err := c.Register(t.Context()); err != nil {
		t.Fatal(err)
	}
	if why, err := c.RegisterNeeded(); why != "" || err != nil {
		t.Errorf("after registering: %q %v", why, err)
	}
	c.Settings.Address = "10.0.0.6"
	if why, err := c.RegisterNeeded(); !strings.Contains(why, "10.0.0.6") || err != nil {
		t.Errorf("other address: %q %v", why, err)
	}
}

// k0s refuses to start with the name of a component that its version does not have.
func TestDisabledComponents_AreKnownToTheVersion(t *testing.T) {
	for version, want := range map[string]bool{"v1.33.1+k0s.0": false, "v1.33.4+k0s.0": false, "v1.33.6+k0s.0": true, "v1.33.8+k0s.1": true, "v1.34.1+k0s.0": true, "v1.36.3+k0s.2": true} {
		t.Run(version, func(t *testing.T) {
			s := settings()
			s.Version = version
			if got := strings.Contains(s.disabledComponents(), "update-prober"); got != want {
				t.Error(s.disabledComponents())
			}
		})
	}
}

func TestDisabledComponents_IncludeHelmWithoutCharts(t *testing.T) {
	for name, tc := range map[string]struct {
		helm map[string]any
		want bool
	}{
		"without extensions": {nil, true},
		"repositories only":  {map[string]any{"repositories": []any{map[string]any{"name": "a", "url": "https://charts.example.com"}}}, true},
		"an empty list":      {map[string]any{"charts": []any{}}, true},
		"a chart":            {map[string]any{"charts": []any{map[string]any{"name": "a"}}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := settings()
			s.Overlay = map[string]any{"spec": map[string]any{"extensions": map[string]any{"helm": tc.helm}}}
			if got := strings.HasSuffix(s.disabledComponents(), ",helm"); got != tc.want {
				t.Error(s.disabledComponents())
			}
		})
	}
}

func TestWriteConfig_WritesPrivateFilesAndRemovesProxySettings(t *testing.T) {
	h := hosttest.New(t).Host()
	c := Service{Host: h, Settings: settings(), Proxy: Proxy{HTTPS: "http://u:secret@p:3128", NoProxy: []string{"10.0.0.0/8"}}}
	if why, err := c.ConfigNeeded(); why == "" || err != nil {
		t.Fatalf("fresh host: %q %v", why, err)
	}
	if err := errors.Join(c.WriteConfig(t.Context())); err != nil {
		t.Fatal(err)
	}
	if why, err := c.ConfigNeeded(); why != "" || err != nil {
		t.Errorf("after writing: %q %v", why, err)
	}
	for _, p := range []string{ConfigPath, envPath} {
		if info, err := h.Lstat(p); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", p, info, err)
		}
	}
	c.TrustedCAs = "certificate\n"
	if why, err := c.ConfigNeeded(); why == "" || err != nil {
		t.Errorf("with another authority: %q %v", why, err)
	}
	if err := c.WriteConfig(t.Context()); err != nil {
		t.Fatal(err)
	}
	if env, err := h.ReadFile(envPath); err != nil || !strings.Contains(string(env), `CONTAINERD_SSL_CERT_DIR="/etc/ssl/certs:/etc/pki/tls/certs:/etc/k0s/trusted-cas"`) {
		t.Errorf("%s, %v", env, err)
	}
	if env, _ := h.ReadFile(envPath); strings.Contains("\n"+string(env), "\nHTTPS_PROXY") || !strings.Contains(string(env), "CONTAINERD_HTTPS_PROXY=") {
		t.Errorf("etcd would reach other controllers through the proxy: %s", env)
	}
	c.Proxy, c.TrustedCAs = Proxy{}, ""
	if err := c.WriteConfig(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Lstat(envPath); err == nil {
		t.Error("the proxy settings were not removed")
	}
}

func TestDiagnose_QuotesLastLogLine(t *testing.T) {
	f := hosttest.New(t)
	f.Units[ControllerUnit] = host.UnitState{Load: "loaded", Active: "failed", Sub: "exit-code"}
	if got := (Service{Host: f.Host()}).Diagnose(t.Context()); !strings.Contains(got, "failed (exit-code)") || !strings.Contains(got, "log of "+ControllerUnit) {
		t.Error(got)
	}
}
