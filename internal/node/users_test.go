package node

import (
	"github.com/plinthdev/plinth/internal/testkit"
	"reflect"
	"testing"

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
