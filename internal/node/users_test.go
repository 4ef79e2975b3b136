package node

import (
	"errors"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/testkit"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/node/cleanup"
)

func TestUsersKind_RemovesUsersOfK0sOnly(t *testing.T) {
	const etcd = "etcd:x:105:110::/var/lib/etcd:/usr/sbin/nologin\n"
	const k0s = "kube-apiserver:x:998:998::/var/lib/k0s:/usr/sbin/nologin\nkube-scheduler:x:997:997::/var/lib/k0s:/usr/sbin/nologin\nmine:x:9:9::/var/lib/k0s:/bin/sh\n"
	f := hosttest.New(t)
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/etc/passwd": etcd + k0s, "/etc/group": "kube-scheduler:x:997:\n", "/usr/sbin/userdel": ""})
	f.Expect("userdel kube-apiserver")
	f.Expect("userdel kube-scheduler").Do(func(host.Cmd) { testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/etc/passwd": etcd}) })
	f.Expect("groupdel kube-scheduler")
	r := usersKind(cleanup.Finder{Host: f.Host(), Scope: cleanup.DefaultScope()}).Remove(t.Context())
	if want := []string{"kube-apiserver", "kube-scheduler"}; r.Err != nil || !reflect.DeepEqual(r.Removed, want) {
		t.Errorf("removed %q, %v; want %q", r.Removed, r.Err, want)
	}
	c := cleanup.DefaultScope()
	c.Before = &cleanup.HostState{Users: []string{"kube-apiserver", "kube-scheduler"}}
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/etc/passwd": etcd + k0s})
	if got, err := usersKind(cleanup.Finder{Host: f.Host(), Scope: c}).Find(t.Context()); err != nil || len(got) > 0 {
		t.Errorf("found %q, %v; want none: they existed before", got, err)
	}
}

func TestUsersKind_RemovesGroupOfRemovedUser(t *testing.T) {
	f := hosttest.New(t)
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/etc/passwd": "kube-scheduler:x:997:997::/home/ks:/bin/sh\n", "/etc/group": "etcd:x:110:\nkube-apiserver:x:998:\nkube-scheduler:x:997:\nmine:x:9:\n"})
	c := cleanup.DefaultScope()
	c.Before = &cleanup.HostState{Groups: []string{"etcd"}}
	kind := usersKind(cleanup.Finder{Host: f.Host(), Scope: c})
	if got, err := kind.Find(t.Context()); err != nil || !reflect.DeepEqual(got, []string{"group kube-apiserver"}) {
		t.Errorf("found %q, %v", got, err)
	}
	f.Expect("groupdel kube-apiserver")
	if err := kind.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	c.Before.Groups = nil
	if got, err := usersKind(cleanup.Finder{Host: f.Host(), Scope: c}).Find(t.Context()); err != nil || len(got) > 0 {
		t.Errorf("found %q, %v; want none: the groups before are unknown", got, err)
	}
}

func TestAddUsersBesideGroups_AddsUsersThatK0sCannot(t *testing.T) {
	const add = "useradd --system --no-user-group --no-create-home --home /var/lib/k0s --shell /usr/sbin/nologin "
	for name, c := range map[string]struct {
		passwd, group string
		directory     []string // users that only id knows
		want          []string
	}{
		"no such groups":            {"root:x:0:0::/root:/bin/sh\n", "mine:x:9:\n", nil, nil},
		"a group without its user":  {"", "etcd:x:110:alice\nmine:x:9:\n", nil, []string{"etcd"}},
		"all groups":                {"", "etcd:x:1:\nkube-apiserver:x:2:\nkonnectivity-server:x:3:\nkube-scheduler:x:4:\n", nil, []string{"etcd", "kube-apiserver", "konnectivity-server", "kube-scheduler"}},
		"a group with its user":     {"etcd:x:105:110::/var/lib/etcd:/bin/false\n", "etcd:x:110:\n", nil, nil},
		"a user of a directory":     {"", "etcd:x:110:\n", []string{"etcd"}, nil},
		"a group with another user": {"kube-scheduler:x:9:9::/:/bin/sh\n", "kube-apiserver:x:2:\nkube-scheduler:x:9:\n", nil, []string{"kube-apiserver"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := hosttest.New(t)
			testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/etc/passwd": c.passwd, "/etc/group": c.group, "/usr/sbin/useradd": "", "/usr/sbin/nologin": ""})
			for _, user := range c.directory {
				f.Expect("id -u "+user).Return("4711", nil)
			}
			for _, user := range c.want {
				f.Expect("id -u "+user).Return("", errors.New("no such user"))
				f.Expect(add + user)
			}
			if err := AddUsersBesideGroups(t.Context(), f.Host(), "/var/lib/k0s"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestUsersKind_KeepsGroupFromBefore(t *testing.T) {
	f := hosttest.New(t)
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/etc/passwd": "etcd:x:998:100::/var/lib/k0s:/sbin/nologin\n", "/etc/group": "etcd:x:110:\n", "/usr/sbin/userdel": ""})
	f.Expect("userdel etcd").Do(func(host.Cmd) { testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/etc/passwd": ""}) })
	c := cleanup.DefaultScope()
	c.Before = &cleanup.HostState{Groups: []string{"etcd"}}
	if r := usersKind(cleanup.Finder{Host: f.Host(), Scope: c}).Remove(t.Context()); r.Err != nil || !reflect.DeepEqual(r.Removed, []string{"etcd"}) {
		t.Errorf("%+v", r)
	}
}

// TestAddUsersBesideGroups_OnRealHost verifies with this machine's useradd and userdel, on a copy of
// /etc, that a reset leaves the group as it was.
func TestAddUsersBesideGroups_OnRealHost(t *testing.T) {
	if _, err := exec.LookPath("useradd"); err != nil {
		t.Skip("needs useradd")
	}
	if !testkit.EnterNamespaces(t, "--mount") {
		return
	}
	testkit.Shell(t, "mount --make-rprivate /; mount -t tmpfs tmpfs /mnt; cp -a /etc /mnt/etc; mount --bind /mnt/etc /etc; groupadd -r etcd")
	h := host.Local("/")
	before, err := h.ReadFile("/etc/group")
	if err != nil {
		t.Fatal(err)
	}
	c := cleanup.DefaultScope()
	c.Before = &cleanup.HostState{Users: []string{}, Groups: []string{"etcd"}}
	if err := AddUsersBesideGroups(t.Context(), h, c.DataDir); err != nil {
		t.Fatal(err)
	}
	if passwd, _ := h.ReadFile("/etc/passwd"); !strings.Contains(string(passwd), "\netcd:x:") {
		t.Errorf("no user etcd:\n%s", passwd)
	}
	if r := usersKind(cleanup.Finder{Host: h, Scope: c}).Remove(t.Context()); r.Err != nil || !reflect.DeepEqual(r.Removed, []string{"etcd"}) {
		t.Errorf("%+v", r)
	}
	if after, _ := h.ReadFile("/etc/group"); string(after) != string(before) {
		t.Errorf("groups after the reset:\n%s", after)
	}
}
