package node

import (
	"errors"
	"github.com/plinthdev/plinth/internal/testkit"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/problem"
)

func readFile(t *testing.T, f *hosttest.Fake, p string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(f.Root, p))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "(none)"
		}
		t.Fatal(err)
	}
	return string(b)
}

// newBareHost returns a host with modules that can be loaded and with the settings of a new Debian
// installation.
func newBareHost(t *testing.T) *hosttest.Fake {
	f := hosttest.New(t)
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{
		"/proc/filesystems":                           "nodev\tproc\n\text4\n",
		"/proc/modules":                               "ext4 1040384 1 - Live 0x0000000000000000\n",
		"/proc/sys/kernel/osrelease":                  "6.1.0-18-amd64\n",
		"/lib/modules/6.1.0-18-amd64/modules.builtin": "kernel/fs/fuse/fuse.ko\n",
		"/proc/sys/net/ipv4/ip_forward":               "0\n",
		"/proc/sys/fs/inotify/max_user_instances":     "128\n",
		"/proc/sys/fs/inotify/max_user_watches":       "1048576\n",
	})
	return f
}

func TestKernel_ApplyChangesHostOnce(t *testing.T) {
	f := newBareHost(t)
	f.Expect("modprobe overlay").Do(func(host.Cmd) {
		testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/modules": "overlay 151552 0 - Live\n", "/sys/module/overlay/x": ""})
	})
	f.Expect("modprobe nf_conntrack").Do(func(host.Cmd) {
		testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/sys/net/netfilter/nf_conntrack_max": "65536\n", "/proc/modules": "overlay 1 0 - Live\nnf_conntrack 1 0 - Live\n"})
	})
	f.Expect("modprobe br_netfilter").Do(func(host.Cmd) {
		testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/sys/net/bridge/bridge-nf-call-iptables": "1\n", "/proc/sys/net/bridge/bridge-nf-call-ip6tables": "0\n",
			"/proc/modules": "overlay 1 0 - Live\nnf_conntrack 1 0 - Live\nbr_netfilter 1 0 - Live\n"})
	})
	set := func(cmd host.Cmd) {
		key, value, _ := strings.Cut(cmd.Argv[3], "=")
		testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/sys/" + strings.ReplaceAll(key, ".", "/"): value + "\n"})
	}
	f.Expect("sysctl -q -w net.ipv4.ip_forward=1").Do(set)
	f.Expect("sysctl -q -w net.bridge.bridge-nf-call-ip6tables=1").Do(set)
	f.Expect("sysctl -q -w fs.inotify.max_user_instances=512").Do(set)

	k := DefaultKernel(f.Host())
	missing, err := k.Check(t.Context())
	want := "/etc/sysctl.d/90-plinth.conf; fs.inotify.max_user_instances is 128, needs 512; module br_netfilter; module nf_conntrack; module overlay; net.ipv4.ip_forward is 0, needs 1"
	if err != nil || missing != want {
		t.Fatalf("Check before: %q, %v\nwant %q", missing, err, want)
	}
	if err := k.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if missing, err := k.Check(t.Context()); err != nil || missing != "" {
		t.Errorf("Check after Apply: %q, %v; want nothing missing", missing, err)
	}
	ran := len(f.Commands)
	if err := k.Apply(t.Context()); err != nil || len(f.Commands) != ran {
		t.Errorf("second Apply: %v, ran %q; want no command", err, f.Commands[ran:])
	}
	if got := readFile(t, f, cleanup.ModulesFile); strings.Count(got, "\n") != 6 || !strings.Contains(got, "\nbr_netfilter\n") {
		t.Errorf("modules file:\n%s", got)
	}
	if got := readFile(t, f, cleanup.SysctlFile); !strings.Contains(got, "net.ipv4.ip_forward = 1\n") || strings.Contains(got, "max_user_watches") {
		t.Errorf("sysctl file must hold ip_forward and not lower max_user_watches:\n%s", got)
	}
}

func TestKernel_AcceptsBuiltInModules(t *testing.T) {
	f := hosttest.New(t) // no modprobe, no /lib/modules, no /proc/modules
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{
		"/proc/filesystems":                            "nodev\toverlay\n",
		"/proc/sys/net/netfilter/nf_conntrack_max":     "65536\n",
		"/proc/sys/net/bridge/bridge-nf-call-iptables": "1\n",
		"/proc/sys/net/ipv4/ip_forward":                "1\n",
		"/proc/sys/fs/inotify/max_user_instances":      "8192\n",
		"/proc/sys/fs/inotify/max_user_watches":        "524288\n",
	})
	k := DefaultKernel(f.Host())
	if err := k.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if missing, err := k.Check(t.Context()); err != nil || missing != "" {
		t.Errorf("Check: %q, %v", missing, err)
	}
	if got := readFile(t, f, cleanup.ModulesFile); got != "(none)" {
		t.Errorf("modules file:\n%s\nwant none: systemd would report each built-in one as missing", got)
	}
}

func TestHasModule_FindsModuleInModulesBuiltin(t *testing.T) {
	f := newBareHost(t)
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/lib/modules/6.1.0-18-amd64/modules.builtin": "kernel/net/bridge/br-netfilter.ko\n"})
	if k := DefaultKernel(f.Host()); !k.hasModule(Module{Name: "br_netfilter"}) || k.hasModule(Module{Name: "br"}) {
		t.Error("br_netfilter is in modules.builtin, br is not")
	}
}

func TestKernel_ApplyNamesWhatCannotBeChanged(t *testing.T) {
	denied := &host.CommandError{Argv: []string{"sysctl"}, Code: 255, Tail: "permission denied on key"}
	cases := map[string]struct {
		files  map[string]string
		expect func(*hosttest.Fake)
		want   string // in the error; "" for none
	}{
		"a wrong setting that cannot be written": {
			expect: func(f *hosttest.Fake) { f.Expect("sysctl -q -w net.ipv4.ip_forward=1").Return("", denied) },
			want:   "cannot set kernel setting net.ipv4.ip_forward to 1",
		},
		"a correct setting that cannot be written": {files: map[string]string{"/proc/sys/net/ipv4/ip_forward": "1\n"}},
		"a setting that does not change": {
			expect: func(f *hosttest.Fake) { f.Expect("sysctl -q -w net.ipv4.ip_forward=1") },
			want:   "the value is still 0",
		},
		"a missing module": {
			files:  map[string]string{"/proc/filesystems": "nodev\tproc\n"},
			expect: func(f *hosttest.Fake) { f.Expect("modprobe overlay").Return("", errors.New("not found")) },
			want:   "cannot load kernel module overlay: not found",
		},
		"a module that modprobe does not load despite its success": {
			files:  map[string]string{"/proc/filesystems": "nodev\tproc\n"},
			expect: func(f *hosttest.Fake) { f.Expect("modprobe overlay") },
			want:   "the kernel does not list the module",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := hosttest.New(t)
			testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/filesystems": "overlay\n", "/proc/sys/net/ipv4/ip_forward": "0\n"})
			testkit.WriteFiles(t, f.Root, 0o644, c.files)
			if c.expect != nil {
				c.expect(f)
			}
			k := Kernel{Host: f.Host(), Modules: DefaultKernel(f.Host()).Modules[:1], Sysctls: DefaultKernel(f.Host()).Sysctls[:1]}
			err := k.Apply(t.Context())
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
			if problem.ExitCode(err) != problem.ExitStep || problem.Hint(err) == "" {
				t.Errorf("exit %d, hint %q", problem.ExitCode(err), problem.Hint(err))
			}
		})
	}
}

func TestKernel_CheckChangesNothing(t *testing.T) {
	f := newBareHost(t)
	k := DefaultKernel(host.ReadOnly(f.Host()))
	if _, err := k.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAffectedSysctls_ListsEachKeyOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range AffectedSysctls() {
		if seen[s.Key] || s.Reason == "" || strings.Contains(s.Key, "/") {
			t.Errorf("%+v: listed twice, without a reason, or not dotted", s)
		}
		seen[s.Key] = true
	}
}
