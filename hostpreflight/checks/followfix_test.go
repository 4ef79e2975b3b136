package checks

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/probe"
	"github.com/plinthdev/plinth/internal/testkit"
)

// enterHost runs the rest of the test in namespaces in which nothing of this machine changes: /etc
// is a copy, and /var/lib and /run are empty. It returns false in the process outside.
func enterHost(t *testing.T) bool {
	t.Helper()
	if !testkit.EnterNamespaces(t, "--mount", "--net") {
		return false
	}
	testkit.Shell(t, `
		mount --make-rprivate /
		mount -t tmpfs tmpfs /mnt
		cp -a /etc /mnt/etc
		mount --bind /mnt/etc /etc
		mkdir /mnt/lib /mnt/run
		mount --bind /mnt/lib /var/lib
		mount --bind /mnt/run /run
		ip link set lo up
		: >/etc/fstab`)
	return true
}

// followFix does what fix says, up to its first alternative: it removes lines that it names from
// files, and runs the commands with values for their placeholders. A command that needs a gateway is
// left out without a value for it: its alternative follows.
func followFix(t *testing.T, fix string, values map[string]string) {
	t.Helper()
	removal := regexp.MustCompile(`^remove the line for (\S+) from (\S+)$`)
	fix, _, _ = strings.Cut(fix, "\nto keep it:")
	for line := range strings.Lines(fix) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), ", and make it permanent")
		for placeholder, value := range values {
			line = strings.ReplaceAll(line, placeholder, value)
		}
		if m := removal.FindStringSubmatch(line); m != nil {
			line = "grep -vF '" + m[1] + "' '" + m[2] + "' >/mnt/kept || true; cat /mnt/kept >'" + m[2] + "'"
		}
		intro, command, introduced := strings.Cut(line, ": sudo ")
		switch {
		case strings.HasPrefix(line, "and "), strings.HasPrefix(line, "or add "), strings.HasSuffix(line, ":"), strings.Contains(line, "GATEWAY"): // no command
			continue
		case strings.HasSuffix(intro, " instead") && values["GATEWAY"] != "":
			continue
		case introduced:
			line = command
		}
		if strings.Contains(line, " route add default") {
			line = "ip route show default | grep -q . || " + line
		}
		testkit.Shell(t, `hostnamectl() { hostname "$2"; } # there is no systemd here`+"\n"+line)
	}
}

// resultOnThisHost gathers the facts of this host and returns the result of a check.
func resultOnThisHost(t *testing.T, id string) hp.Entry {
	t.Helper()
	req := exampleRequirements()
	req.Quick = true
	request := FactsRequest(req)
	request.LocalOnly, request.Lookups, request.Ports = true, nil, nil
	r := runChecks(t, probe.Gather(t.Context(), host.Local("/"), request), req)
	i := slices.IndexFunc(r.Results, func(e hp.Entry) bool { return e.ID == id })
	if i < 0 {
		t.Fatalf("no check %s", id)
	}
	return r.Results[i]
}

// TestFix_MakesCheckPass breaks one thing on a host, verifies that the check finds it,
// does what the fix says, and verifies that the check passes then.
func TestFix_MakesCheckPass(t *testing.T) {
	if !enterHost(t) {
		return
	}
	const strict = "echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter; echo 1 >/proc/sys/net/ipv4/conf/default/rp_filter; rm -rf /etc/sysctl.d/* /etc/sysctl.conf\n"
	for name, c := range map[string]struct {
		id      string
		script  string
		state   hp.State
		also    string // another check that must pass with the fix, too
		mention string // part of what is found
	}{
		"a link to an empty directory": {"disk-symlink", "mkdir -p /mnt/disk && ln -s /mnt/disk /var/lib/k0s", hp.Fail, "existing-k0s", "/mnt/disk"},
		"a link to nothing":            {"disk-symlink", "ln -s ../../mnt/later/k0s /var/lib/k0s", hp.Fail, "existing-k0s", "/mnt/later/k0s"},
		"mounts of pods, nested": {"leftover-mounts", "mkdir -p /var/lib/kubelet/pods/a/x && mount -t tmpfs t /var/lib/kubelet/pods/a/x && mkdir /var/lib/kubelet/pods/a/x/y && mount -t tmpfs t /var/lib/kubelet/pods/a/x/y",
			hp.Warn, "", "pods/a/x/y"},
		"podman's own network": {"leftover-cni", `mkdir -p /etc/cni/net.d && echo '{"name":"podman","plugins":[{"type":"bridge","bridge":"cni-podman0"}]}' >/etc/cni/net.d/87-podman-bridge.conflist`,
			hp.Warn, "", "of podman"},
		"no machine id":                 {"machine-id", "rm -f /etc/machine-id", hp.Fail, "", "none"},
		"a machine id of an image":      {"machine-id", "rm -f /etc/machine-id; echo uninitialized >/etc/machine-id", hp.Fail, "", "uninitialized"},
		"a strict reverse path filter":  {"sysctl-rp-filter", strict, hp.Warn, "", "all 1"},
		"the same, set by a later file": {"sysctl-rp-filter", strict + "echo net.ipv4.conf.all.rp_filter=1 >/etc/sysctl.d/99-cis.conf", hp.Warn, "", "all 1"},
		"arp_ignore":                    {"sysctl-arp", "echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore", hp.Warn, "", "arp_ignore is 1"},
		"forwarding, by a pattern":      {"sysctl-forwarding", "rm -rf /etc/sysctl.d/*; echo 'net.ipv4.conf.*.forwarding = 0' >/etc/sysctl.d/99-cis.conf", hp.Warn, "", "conf.all.forwarding to 0"},
		"closed parent of a bind mount": {"disk-permissions", "chmod o-x /var/lib && mkdir /var/lib/k0s", hp.Fail, "", "/var/lib"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() {
				testkit.Shell(t, "umount /var/lib/k0s 2>/dev/null || true; rm -rf /var/lib/k0s /var/lib/kubelet /etc/cni /mnt/disk /mnt/later; : >/etc/fstab; chmod 755 /var/lib")
			})
			testkit.Shell(t, c.script)
			r := resultOnThisHost(t, c.id)
			if r.State != c.state || !strings.Contains(r.Found, c.mention) {
				t.Fatalf("%s (%s), want %s", r.State, r.Found, c.state)
			}
			followFix(t, r.Fix, nil)
			for _, id := range []string{c.id, c.also} {
				if id == "" {
					continue
				}
				if after := resultOnThisHost(t, id); after.State != hp.Pass {
					t.Errorf("%s after the fix: %s (%s)\n%s", id, after.State, after.Found, r.Fix)
				}
			}
		})
	}
}

// TestChecks_AgreeOnRealMounts verifies results that depend on how the kernel lists
// mounts.
func TestChecks_AgreeOnRealMounts(t *testing.T) {
	if !enterHost(t) {
		return
	}
	testkit.Shell(t, `
		mkdir -p /mnt/disk /var/lib/k0s
		truncate -s 4700M /mnt/image && mkfs.ext4 -q -m 0 -O ^has_journal /mnt/image`)
	if out, err := exec.Command("mount", "-o", "loop", "/mnt/image", "/mnt/disk").CombinedOutput(); err != nil {
		t.Skipf("needs a loop device: %v %s", err, out)
	}
	// 4.2 GB are enough for each of the two paths, not for both.
	testkit.Shell(t, `
		mkdir /mnt/disk/k0s /mnt/disk/bin
		mount --bind /mnt/disk/k0s /var/lib/k0s
		mount --bind /mnt/disk/bin /usr/local/bin
		fallocate -l "$(($(df --output=avail -B1 /mnt/disk | tail -1) - 4200000000))" /mnt/disk/filler`)
	for id, want := range map[string]hp.State{"disk-space": hp.Fail, "existing-k0s": hp.Pass, "leftover-mounts": hp.Pass, "disk-symlink": hp.Pass} {
		t.Run(id, func(t *testing.T) {
			if r := resultOnThisHost(t, id); r.State != want {
				t.Errorf("%s (%s), want %s", r.State, r.Found, want)
			}
		})
	}
	testkit.Shell(t, "mount -o remount,bind,ro /usr/local/bin")
	if r := resultOnThisHost(t, "disk-mount-options"); r.State != hp.Fail || !strings.Contains(r.Found, "/usr/local/bin") {
		t.Errorf("a bind mount that is read-only: %s (%s)", r.State, r.Found)
	}
	root := "/run/containerd/io.containerd.runtime.v2.task/moby/0a/rootfs"
	if err := errors.Join(os.MkdirAll(root, 0o755), os.MkdirAll(filepath.Join("/mnt", "layer"), 0o755)); err != nil {
		t.Fatal(err)
	}
	testkit.Shell(t, "mount --bind /mnt/layer "+root)
	if r := resultOnThisHost(t, "leftover-mounts"); r.State != hp.Pass {
		t.Errorf("the root of a Docker container: %s (%s)", r.State, r.Found)
	}
}
