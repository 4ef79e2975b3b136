package cleanup

import (
	"context"
	"encoding/json"
	"errors"
	"github.com/plinthdev/plinth/internal/testkit"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/host/hosttest"
)

// listTree returns every file below the fake's root, and empty folders with a slash at the end.
func listTree(t *testing.T, f *hosttest.Fake) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(f.Root, func(p string, d os.DirEntry, err error) error {
		if err != nil || strings.HasPrefix(p, f.Root+"/proc") {
			return err
		}
		name := strings.TrimPrefix(p, f.Root)
		if d.IsDir() {
			if entries, _ := os.ReadDir(p); len(entries) > 0 || name == "" {
				return nil
			}
			name += "/"
		}
		all = append(all, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

const (
	rootDisk = "24 1 254:1 / / rw - ext4 /dev/vda1 rw\n"
	dataDisk = "90 24 254:16 / /var/lib/k0s rw shared:9 - ext4 /dev/vdb rw\n"
	etcdDisk = "91 24 254:32 / /var/lib/k0s/etcd rw - xfs /dev/vdc rw\n"
)

func TestClusterMounts_ExcludesMountsOfOwner(t *testing.T) {
	const (
		self    = "95 24 254:1 /var/lib/kubelet /var/lib/kubelet rw - ext4 /dev/vda1 rw\n"
		secret  = "96 95 0:60 / /var/lib/kubelet/pods/a/volumes/kubernetes.io~projected/kube-api\\040access rw shared:40 - tmpfs tmpfs rw\n"
		overlay = "97 24 0:61 / /run/k0s/containerd/io.containerd.runtime.v2.task/k8s.io/x/rootfs rw - overlay overlay rw\n"
		foreign = "98 24 0:62 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw\n99 24 0:63 / /var/lib/k0s-other rw - tmpfs tmpfs rw\n"
		own     = "/run/k0s/containerd/io.containerd.runtime.v2.task/k8s.io/x/rootfs"
		access  = "/var/lib/kubelet/pods/a/volumes/kubernetes.io~projected/kube-api access"
	)
	cases := map[string]struct {
		table, fstab string
		before       *HostState
		want         []string
	}{
		"no mount of the cluster":                   {rootDisk + foreign, "", nil, nil},
		"last mounted first":                        {rootDisk + secret + overlay + foreign, "", nil, []string{own, access}},
		"the folder of kubelet mounted onto itself": {rootDisk + self + secret, "", nil, []string{access, "/var/lib/kubelet"}},
		"a disk for the data folder":                {rootDisk + dataDisk + overlay, "", nil, []string{own}},
		"a disk in the data folder in fstab":        {rootDisk + etcdDisk, "# disks\n/dev/vdc /var/lib/k0s/etcd xfs defaults 0 0\n", nil, nil},
		"a disk in the data folder from before":     {rootDisk + etcdDisk, "", &HostState{Mounts: []string{"/var/lib/k0s/etcd"}}, nil},
		"an unknown disk in the data folder":        {rootDisk + etcdDisk, "", &HostState{}, []string{"/var/lib/k0s/etcd"}},
		"a disk of the owner mounted onto itself":   {rootDisk + dataDisk + dataDisk, "", &HostState{Mounts: []string{"/var/lib/k0s"}}, []string{"/var/lib/k0s"}}, // once: the second mount
		"garbage": {"x\n - - -\n1 2 3:4 / /var/lib/k0s/x rw\n", "", nil, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := hosttest.New(t)
			testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/self/mountinfo": c.table, "/etc/fstab": c.fstab})
			cl := DefaultScope()
			cl.Before = c.before
			got, err := Finder{f.Host(), cl}.ClusterMounts()
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("found %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

// clusterFiles returns examples of the files that an install writes.
func clusterFiles() map[string]string {
	return map[string]string{
		"/etc/k0s/k0s.yaml": "x", "/etc/k0s/containerd.toml": "x", "/var/lib/k0s/bin/kubelet": "x", "/var/lib/k0s/etcd/member/wal": "x",
		"/var/lib/kubelet/pods/a/etc-hosts": "x", "/run/k0s/containerd.sock": "", "/run/xtables.lock": "",
		"/etc/cni/net.d/10-kuberouter.conflist": "{}", "/opt/cni/bin/bridge": "x", "/opt/cni/bin/portmap": "x",
		"/var/lib/cni/networks/mynet/10.244.0.2": "x", "/var/lib/cni/results/mynet-0a-eth0": "{}", "/var/lib/cni/results/cni-loopback-0a-lo": "{}",
		"/var/log/pods/kube-system_coredns_a/coredns/0.log": "x", "/var/log/containers/coredns.log": "x",
		"/etc/systemd/system/k0scontroller.service": "x", "/etc/systemd/system/k0scontroller.service.d/10.conf": "x",
		ModulesFile: "x", SysctlFile: "x", "/usr/local/bin/k0s": "x",
		"/run/containerd/runc/k8s.io/ab/state.json":                                          `{"config":{"labels":["bundle=/run/k0s/containerd/io.containerd.runtime.v2.task/k8s.io/ab"]}}`,
		"/run/containerd/s/04f27bdcd53be108f2ec26c53fe2c4a93601418873e1b129d02f763f947f6b95": "",
		// runc ended before it wrote its state.
		"/run/k0s/containerd/io.containerd.runtime.v2.task/k8s.io/cd/config.json": "{}", "/run/containerd/runc/k8s.io/cd/exec.fifo": "",
		"/run/containerd/s/ab202f3bf7c79416143aca1d0e182c3247d8d1bd7395d9c73540d80ee688c9da": "",
	}
}

func newFinder(f *hosttest.Fake) Finder {
	c := DefaultScope()
	c.ExtraPaths = []string{"/usr/local/bin/k0s"}
	return Finder{f.Host(), c}
}

func TestFilesKind_RestoresHostToStateBefore(t *testing.T) {
	cases := map[string]struct {
		host map[string]string // on the host before the install
	}{
		"an empty host": {map[string]string{"/etc/passwd": "root:x:0:0:root:/root:/bin/bash\n"}},
		"a host with files of its owner": {map[string]string{
			"/etc/k0s/containerd.d/oom.toml": "owner's", "/opt/cni/bin/bridge": "another version", "/opt/cni/bin/mine": "x",
			"/etc/cni/net.d/87-podman.conflist": "{}", "/etc/cni/net.d/10-old.conf": "{}", "/var/lib/cni/networks/podman/10.88.0.2": "x",
			"/var/lib/cni/results/podman-0b-eth0": "{}", "/run/xtables.lock": "", "/var/log/pods/other/0.log": "x", "/run/netns/vpn": "",
			"/etc/systemd/system/k0sworker.service": "the owner's own", SysctlFile: "older",
			"/run/containerd/runc/k8s.io/ff/state.json": `{"config":{"rootfs":"/run/containerd/io.containerd.runtime.v2.task/k8s.io/ff/rootfs"}}`, "/run/containerd/s/00": "",
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := hosttest.New(t)
			for _, dir := range []string{"/etc/modules-load.d", "/etc/sysctl.d", "/etc/systemd/system", "/opt", "/run", "/usr/local/bin", "/var/lib", "/var/log"} {
				if err := os.MkdirAll(filepath.Join(f.Root, dir), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			testkit.WriteFiles(t, f.Root, 0o644, c.host)
			testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/self/mountinfo": rootDisk})
			base := newFinder(f)
			before, err := base.RecordPaths()
			if err != nil {
				t.Fatal(err)
			}
			want := listTree(t, f)
			testkit.WriteFiles(t, f.Root, 0o644, clusterFiles())
			if err := os.RemoveAll(filepath.Join(f.Root, "/etc/cni/net.d/10-old.conf")); err != nil { // as kube-router does
				t.Fatal(err)
			}
			base.Before = journalRoundTrip(t, before)
			f.Expect("systemctl daemon-reload")
			r := FilesKind(base).Remove(t.Context())
			if r.Err != nil || len(r.Remaining) > 0 || len(r.Removed) == 0 {
				t.Errorf("removed %q, left %q, %v", r.Removed, r.Remaining, r.Err)
			}
			if got := listTree(t, f); !reflect.DeepEqual(got, want) {
				t.Errorf("left:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			for p, content := range c.host {
				if got, _ := os.ReadFile(filepath.Join(f.Root, p)); string(got) != content && !strings.HasPrefix(p, "/opt/cni/bin/") {
					t.Errorf("%s holds %q, want %q", p, got, content)
				}
			}
			if r := FilesKind(base).Remove(t.Context()); len(r.Removed)+len(r.Remaining) > 0 || r.Err != nil {
				t.Errorf("second time: %+v; want nothing to do", r)
			}
		})
	}
}

// journalRoundTrip returns b as it is read back from the journal.
func journalRoundTrip(t *testing.T, b *HostState) *HostState {
	t.Helper()
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	var out HostState
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return &out
}

func TestFilesKind_WithoutRecordedStateRemovesNamedFilesOnly(t *testing.T) {
	f := hosttest.New(t)
	testkit.WriteFiles(t, f.Root, 0o644, clusterFiles())
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/self/mountinfo": rootDisk, "/opt/cni/bin/mine": "x", "/etc/cni/net.d/87-podman.conflist": "{}"})
	f.Expect("systemctl daemon-reload")
	r := FilesKind(newFinder(f)).Remove(t.Context())
	want := []string{"/etc/cni/net.d/87-podman.conflist", "/opt/cni/bin/mine"}
	got := slices.DeleteFunc(listTree(t, f), func(p string) bool { return strings.HasSuffix(p, "/") })
	if r.Err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("left %q, %v; want %q", got, r.Err, want)
	}
}

func TestFilesKind_EmptiesDisksOfOwner(t *testing.T) {
	f := hosttest.New(t)
	testkit.WriteFiles(t, f.Root, 0o644, clusterFiles())
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/self/mountinfo": rootDisk + dataDisk + etcdDisk, "/var/lib/k0s/lost+found/x": ""})
	base := newFinder(f)
	base.Before = &HostState{Mounts: []string{"/var/lib/k0s", "/var/lib/k0s/etcd"}}
	f.Expect("systemctl daemon-reload")
	if r := FilesKind(base).Remove(t.Context()); r.Err != nil || len(r.Remaining) > 0 {
		t.Fatalf("left %q, %v", r.Remaining, r.Err)
	}
	got := slices.DeleteFunc(listTree(t, f), func(p string) bool { return !strings.HasPrefix(p, "/var/lib/k0s") })
	if want := []string{"/var/lib/k0s/etcd/", "/var/lib/k0s/lost+found/x"}; !reflect.DeepEqual(got, want) {
		t.Errorf("left %q, want %q", got, want)
	}
}

func TestFilesKind_KeepsFolderWithMountInIt(t *testing.T) {
	f := hosttest.New(t)
	testkit.WriteFiles(t, f.Root, 0o644, clusterFiles())
	const volume = "/var/lib/kubelet/pods/a/volumes/data"
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{volume + "/precious": "x",
		"/proc/self/mountinfo": rootDisk + "96 24 254:1 /srv/data " + volume + " rw - ext4 /dev/vda1 rw\n"})
	f.Expect("systemctl daemon-reload")
	r := FilesKind(newFinder(f)).Remove(t.Context())
	if !reflect.DeepEqual(r.Remaining, []string{"/var/lib/kubelet"}) || r.Err == nil || !strings.Contains(r.Err.Error(), volume+" is still mounted") {
		t.Errorf("left %q, %v", r.Remaining, r.Err)
	}
	if _, err := os.Stat(filepath.Join(f.Root, volume, "precious")); err != nil {
		t.Errorf("the mounted files belong to a user: %v", err)
	}
}

func TestFilesKind_KeepsChangesOfOwner(t *testing.T) {
	f := hosttest.New(t)
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/self/mountinfo": rootDisk, "/etc/cni/net.d/87-podman.conflist": "{}", "/opt/cni/bin/mine": "x"})
	base := newFinder(f)
	before, err := base.RecordPaths()
	if err != nil {
		t.Fatal(err)
	}
	base.Before = before
	for _, p := range []string{"/etc/cni/net.d/87-podman.conflist", "/opt/cni/bin/mine"} {
		if err := os.Remove(filepath.Join(f.Root, p)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := FilesKind(base).Find(t.Context()); err != nil || len(got) > 0 {
		t.Errorf("found %q, %v; want nothing: the owner removed these", got, err)
	}
}

func TestFilesKind_RestoresRecordedContentOnly(t *testing.T) {
	f := hosttest.New(t)
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/self/mountinfo": rootDisk, "/etc/k0s/big": strings.Repeat("x", 1<<20+1), "/etc/k0s/token": "secret", "/etc/k0s/empty": ""})
	if err := os.Chmod(filepath.Join(f.Root, "/etc/k0s/token"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := newFinder(f)
	before, err := base.RecordPaths()
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := json.Marshal(before); strings.Contains(string(text), "c2VjcmV0") {
		t.Errorf("a secret is recorded: %s", text)
	}
	base.Before = journalRoundTrip(t, before)
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/etc/k0s/big": "new", "/etc/k0s/token": "new", "/etc/k0s/empty": "new"})
	r := FilesKind(base).Remove(t.Context())
	if want := []string{"/etc/k0s/empty (restore the previous version)"}; r.Err != nil || !reflect.DeepEqual(r.Removed, want) {
		t.Errorf("%+v; want %q", r, want)
	}
	for p, want := range map[string]string{"/etc/k0s/big": "new", "/etc/k0s/token": "new", "/etc/k0s/empty": ""} {
		if got, err := os.ReadFile(filepath.Join(f.Root, p)); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v; want %q", p, got, err, want)
		}
	}
}

func TestRecordPaths_SkipsContentOfBinariesAndLargeFiles(t *testing.T) {
	f := hosttest.New(t)
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/self/mountinfo": rootDisk + dataDisk, "/opt/cni/bin/bridge": "x", "/etc/k0s/big": strings.Repeat("x", 1<<20+1), "/etc/k0s/k0s.yaml": "y"})
	b, err := newFinder(f).RecordPaths()
	if err != nil {
		t.Fatal(err)
	}
	if b.Paths["/opt/cni/bin/bridge"].Content != nil || b.Paths["/etc/k0s/big"].Content != nil || string(b.Paths["/etc/k0s/k0s.yaml"].Content) != "y" {
		t.Errorf("%+v", b.Paths)
	}
	if !reflect.DeepEqual(b.Mounts, []string{"/var/lib/k0s"}) {
		t.Errorf("mounts %q", b.Mounts)
	}
}

func TestRemove_ContinuesAfterErrors(t *testing.T) {
	broken := errors.New("broken")
	things := map[string][]string{"a": {"1", "2"}, "b": {"3"}, "c": nil}
	kind := func(id string, err error) Kind {
		return Kind{ID: id,
			Find:   func(context.Context) ([]string, error) { return slices.Clone(things[id]), nil },
			Delete: func(context.Context) error { things[id] = things[id][:len(things[id])-1]; return err }}
	}
	kinds := []Kind{kind("a", broken), {ID: "x", Find: func(context.Context) ([]string, error) { return nil, broken }}, kind("b", nil), kind("c", broken)}
	var reports int
	results := Remove(t.Context(), kinds, func(Result) { reports++ })
	if reports != 4 || len(results) != 4 {
		t.Fatalf("%d reports of %d results", reports, len(results))
	}
	if r := results[0]; !errors.Is(r.Err, broken) || !reflect.DeepEqual(r.Removed, []string{"2"}) || !reflect.DeepEqual(r.Remaining, []string{"1"}) {
		t.Errorf("partly removed: %+v", r)
	}
	if r := results[1]; !errors.Is(r.Err, broken) {
		t.Errorf("search failed: %+v", r)
	}
	if r := results[2]; r.Err != nil || !reflect.DeepEqual(r.Removed, []string{"3"}) || len(r.Remaining) > 0 {
		t.Errorf("removed: %+v", r)
	}
	if r := results[3]; r.Err != nil {
		t.Errorf("nothing found, but Delete was called: %+v", r)
	}
}

func FuzzMountTable(f *testing.F) {
	f.Add(rootDisk + dataDisk)
	f.Add("1 2 3:4 / /a\\040b rw - - \\")
	f.Fuzz(func(t *testing.T, text string) {
		fake := hosttest.New(t)
		for _, m := range parseMounts(text) {
			if m.Point == "" || m.Type == "" {
				t.Errorf("%+v of %q", m, text)
			}
		}
		Finder{fake.Host(), DefaultScope()}.isHostMount(parseMounts(text), Mount{Point: "/var/lib/k0s"})
	})
}

func TestBackUpFiles_OverwrittenFilesAreRestoredExactly(t *testing.T) {
	f := hosttest.New(t)
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/self/mountinfo": rootDisk, "/usr/local/bin/k0s": "theirs", "/etc/k0s/plinth.env": "secret", "/etc/k0s/k0s.yaml": "open"})
	secret := filepath.Join(f.Root, "/etc/k0s/plinth.env")
	for _, err := range []error{os.Chmod(secret, 0o600), os.Chmod(filepath.Join(f.Root, "/etc/k0s"), 0o750)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	finder := newFinder(f)
	before, err := finder.RecordPaths()
	if err != nil {
		t.Fatal(err)
	}
	if err := finder.BackUpFiles(before, "/var/lib/plinth/before"); err != nil {
		t.Fatal(err)
	}
	journaled, _ := json.Marshal(before)
	if strings.Contains(string(journaled), "c2VjcmV0") || before.Paths["/etc/k0s/plinth.env"].BackupPath == "" || before.Paths["/etc/k0s/k0s.yaml"].BackupPath != "" {
		t.Errorf("a file that not everyone may read is in the journal, or a file that everyone may read is not: %s", journaled)
	}
	if info, err := os.Stat(filepath.Join(f.Root, "/var/lib/plinth/before")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the backup folder is readable by others: %v %v", info, err)
	}
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/usr/local/bin/k0s": "ours!!", "/etc/k0s/plinth.env": "ours!!", "/etc/k0s/k0s.yaml": "ours"})
	if err := os.Chmod(filepath.Join(f.Root, "/etc/k0s"), 0o755); err != nil {
		t.Fatal(err)
	}
	finder.Before = before
	finder.WrittenPaths = []string{"/etc/k0s/plinth.env", "/etc/k0s/k0s.yaml"}
	if r := FilesKind(finder).Remove(t.Context()); r.Err != nil || len(r.Remaining) > 0 || len(r.Removed) != 4 {
		t.Errorf("%+v", r)
	}
	for p, want := range map[string]string{"/usr/local/bin/k0s": "theirs", "/etc/k0s/plinth.env": "secret", "/etc/k0s/k0s.yaml": "open"} {
		if got, _ := os.ReadFile(filepath.Join(f.Root, p)); string(got) != want {
			t.Errorf("%s is %q", p, got)
		}
	}
	if info, err := os.Stat(secret); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the secret was restored as %v %v", info, err)
	}
	if info, err := os.Stat(filepath.Join(f.Root, "/etc/k0s")); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("the folder was restored as %v %v", info, err)
	}
}

func TestForeignFiles_FilesOfUsersAreKept(t *testing.T) {
	f := hosttest.New(t)
	testkit.WriteFiles(t, f.Root, 0o644, clusterFiles())
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/self/mountinfo": rootDisk, "/etc/k0s/containerd.d/plinth.toml": "x", "/etc/k0s/.k0s.yaml.plinth-tmp": "x",
		"/etc/k0s/containerd.d/mine.toml": "x", "/etc/k0s/notes": "x", "/etc/systemd/system/k0scontroller.service.d/mine.conf": "x"})
	finder := newFinder(f)
	finder.Before = &HostState{}
	finder.WrittenPaths = []string{"/etc/k0s/k0s.yaml", "/etc/k0s/containerd.toml", "/etc/k0s/containerd.d/plinth.toml", "/etc/systemd/system/k0scontroller.service.d/10.conf"}
	want := []string{"/etc/k0s/containerd.d/mine.toml", "/etc/k0s/notes", "/etc/systemd/system/k0scontroller.service.d/mine.conf"}
	foreign, err := finder.ForeignFiles()
	slices.Sort(foreign)
	if err != nil || !reflect.DeepEqual(foreign, want) {
		t.Errorf("foreign are %q, %v", foreign, err)
	}
	f.Expect("systemctl daemon-reload")
	if r := FilesKind(finder).Remove(t.Context()); r.Err != nil || len(r.Remaining) > 0 {
		t.Errorf("%+v", r)
	}
	left := slices.DeleteFunc(listTree(t, f), func(p string) bool { return strings.HasSuffix(p, "/") })
	if !reflect.DeepEqual(left, want) {
		t.Errorf("left are %q", left)
	}
}

func TestFilesKind_KeepsAFolderOfUsersThatAStepNamed(t *testing.T) {
	f := hosttest.New(t)
	const mine = "/etc/k0s/containerd.d/mine.toml"
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/self/mountinfo": rootDisk, mine: "x"})
	finder := newFinder(f)
	before, err := finder.RecordPaths()
	testkit.Must(t, err)
	finder.Before = before
	finder.WrittenPaths = []string{"/etc/k0s/k0s.yaml", "/etc/k0s/containerd.d"}
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/etc/k0s/k0s.yaml": "x", "/etc/k0s/containerd.d/plinth.toml": "x"})
	if r := FilesKind(finder).Remove(t.Context()); r.Err != nil || len(r.Remaining) > 0 || len(r.Removed) != 2 {
		t.Errorf("%+v", r)
	}
	if got, err := os.ReadFile(filepath.Join(f.Root, mine)); string(got) != "x" {
		t.Errorf("%s is %q: %v", mine, got, err)
	}
}

func TestFilesKind_CautiousKeepsFilesThatOthersMayOwn(t *testing.T) {
	f := hosttest.New(t)
	testkit.WriteFiles(t, f.Root, 0o644, clusterFiles())
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/self/mountinfo": rootDisk})
	finder := newFinder(f)
	finder.Cautious = true
	f.Expect("systemctl daemon-reload")
	if r := FilesKind(finder).Remove(t.Context()); r.Err != nil || len(r.Remaining) > 0 {
		t.Errorf("%+v", r)
	}
	for _, p := range listTree(t, f) {
		if strings.Contains(p, "k0s") {
			t.Errorf("left %s", p)
		}
	}
	if got := listTree(t, f); !slices.Contains(got, "/opt/cni/bin/bridge") || !slices.Contains(got, "/var/log/containers/coredns.log") {
		t.Errorf("files that others may own were removed: %q", got)
	}
}
