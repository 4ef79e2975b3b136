package k0s

import (
	"errors"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/testkit"
)

// TestWriteConfig_GivesPodsNameServers checks the file and kubelet's flag on hosts
// whose own file works in pods and on hosts where it does not.
func TestWriteConfig_GivesPodsNameServers(t *testing.T) {
	const resolved = "/run/systemd/resolve/resolv.conf"
	for name, tc := range map[string]struct {
		files map[string]string
		want  string // name servers of the file; "" for no file
	}{
		"a server of the network":       {map[string]string{"/etc/resolv.conf": "nameserver 192.0.2.1\n"}, ""},
		"resolved with a server":        {map[string]string{"/etc/resolv.conf": "nameserver 127.0.0.53\n", resolved: "nameserver 192.0.2.1\n"}, ""},
		"resolved without a server":     {map[string]string{"/etc/resolv.conf": "nameserver 127.0.0.53\n", resolved: "# none\n"}, "fe80::1"},
		"a local cache":                 {map[string]string{"/etc/resolv.conf": "nameserver 127.0.0.1\n"}, "10.0.0.5"},
		"a local cache beside resolved": {map[string]string{"/etc/resolv.conf": "nameserver 127.0.0.1\n", resolved: "nameserver 192.0.2.1\n"}, "192.0.2.1"},
		"only an IPv6 server":           {map[string]string{"/etc/resolv.conf": "nameserver 2001:db8::1\n"}, "fe80::1"},
		"no server":                     {map[string]string{"/etc/resolv.conf": ""}, "fe80::1"},
		"no file":                       {nil, "fe80::1"},
	} {
		for _, worker := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", worker"}[worker], func(t *testing.T) {
				f := hosttest.New(t)
				testkit.WriteFiles(t, f.Root, 0o644, tc.files)
				s := Service{Host: f.Host(), Settings: settings(), Worker: worker}
				testkit.Must(t, s.WriteConfig(t.Context()))
				text, _ := s.Host.ReadFile(resolvConfPath)
				if got := strings.Contains(string(text), "\nnameserver "+tc.want+"\n"); got != (tc.want != "") {
					t.Errorf("%s has %q", resolvConfPath, text)
				}
				arguments := strings.Join(s.startArguments(), "\n")
				if got := strings.HasSuffix(arguments, "--node-ip=10.0.0.5 --resolv-conf=/etc/k0s/plinth-resolv.conf"); got != (tc.want != "") {
					t.Error(arguments)
				}
				if why, err := s.ConfigNeeded(); why != "" || err != nil {
					t.Errorf("after writing: %q %v", why, err)
				}
			})
		}
	}
}

// TestWriteConfig_KeepsResolverFileThatKubeletReads gives the host a name server
// before and after kubelet was started with Plinth's file.
func TestWriteConfig_KeepsResolverFileThatKubeletReads(t *testing.T) {
	for name, tc := range map[string]struct {
		unit, want string
	}{
		"not registered":           {"", ""},
		"registered without it":    {"ExecStart=/usr/local/bin/k0s worker \"--kubelet-extra-args=--node-ip=10.0.0.5\"\n", ""},
		"registered with it":       {"ExecStart=/usr/local/bin/k0s worker \"--kubelet-extra-args=--node-ip=10.0.0.5 --resolv-conf=/etc/k0s/plinth-resolv.conf\"\n", "nameserver 192.0.2.1\nsearch corp\n"},
		"registered, other quotes": {`ExecStart=/usr/local/bin/k0s worker --kubelet\x2dextra\x2dargs=--node\x2dip=10.0.0.5\x20--resolv\x2dconf=/etc/k0s/plinth\x2dresolv.conf`, "nameserver 192.0.2.1\nsearch corp\n"},
	} {
		t.Run(name, func(t *testing.T) {
			f := hosttest.New(t)
			s := Service{Host: f.Host(), Settings: settings(), Worker: true}
			testkit.Must(t, s.WriteConfig(t.Context())) // no name server yet
			if tc.unit != "" {
				testkit.WriteFiles(t, f.Root, 0o644, map[string]string{s.UnitPath(): tc.unit})
			}
			testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/etc/resolv.conf": "nameserver 192.0.2.1\nsearch corp\n"})
			if why, err := s.ConfigNeeded(); why == "" || err != nil {
				t.Errorf("the new name server: %q %v", why, err)
			}
			testkit.Must(t, s.WriteConfig(t.Context()))
			text, err := s.Host.ReadFile(resolvConfPath)
			if tc.want == "" && err == nil || !strings.HasSuffix(string(text), tc.want) {
				t.Errorf("%q %v", text, errors.Unwrap(err))
			}
		})
	}
}

// TestRegister_RestartsKubeletWithTheResolverFile takes the name server from a host whose k0s runs.
func TestRegister_RestartsKubeletWithTheResolverFile(t *testing.T) {
	f := hosttest.New(t)
	s := Service{Host: f.Host(), Settings: settings(), Worker: true}
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/etc/resolv.conf": "nameserver 127.0.0.1\n",
		s.UnitPath(): "ExecStart=/usr/local/bin/k0s worker \"--kubelet-extra-args=--node-ip=10.0.0.5\"\n"})
	f.Units[s.Unit()] = host.UnitState{Load: "loaded", Active: "active", Sub: "running", Enable: "enabled"}
	testkit.Must(t, s.WriteConfig(t.Context()))
	if why, err := s.RegisterNeeded(); !strings.Contains(why, resolvConfFlag) || err != nil {
		t.Errorf("%q %v", why, err)
	}
	f.Expect(BinaryPath + " install worker --force --kubelet-extra-args=--node-ip=10.0.0.5 " + resolvConfFlag)
	testkit.Must(t, s.Register(t.Context()))
	if why, err := s.StartNeeded(t.Context()); why == "" || err != nil {
		t.Errorf("kubelet keeps running without the flag: %q %v", why, err)
	}
}

// kubelet reads the file for each new pod.
func TestWriteConfig_RestartsK0sForOtherFilesOnly(t *testing.T) {
	for name, c := range map[string]struct {
		change func(f *hosttest.Fake, s *Service)
		want   bool // restart
	}{
		"a name server": {func(f *hosttest.Fake, _ *Service) {
			testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/etc/resolv.conf": "nameserver 192.0.2.53\n"})
		}, false},
		"a port range": {func(_ *hosttest.Fake, s *Service) { s.Settings.NodePortRange = "80-32000" }, true},
		"a proxy":      {func(_ *hosttest.Fake, s *Service) { s.Proxy.HTTP = "http://proxy.example.com:3128" }, true},
		"nothing":      {func(*hosttest.Fake, *Service) {}, false},
		"both of them": {func(f *hosttest.Fake, s *Service) {
			testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/etc/resolv.conf": "nameserver 192.0.2.53\n"})
			s.Settings.NodePortRange = "80-32000"
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := hosttest.New(t)
			s := Service{Host: f.Host(), Settings: settings()}
			testkit.Must(t, s.WriteConfig(t.Context()))
			f.Units[s.Unit()] = host.UnitState{Load: "loaded", Active: "active", Sub: "running", Enable: "enabled"}
			c.change(f, &s)
			testkit.Must(t, s.WriteConfig(t.Context()))
			if why, err := s.StartNeeded(t.Context()); (why != "") != c.want || err != nil {
				t.Errorf("start needed: %q, %v", why, err)
			}
		})
	}
}
