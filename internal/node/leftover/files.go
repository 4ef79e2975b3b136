package leftover

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/host"
)

// Files that make the kernel's modules and settings last over a reboot.
const (
	ModulesFile = "/etc/modules-load.d/plinth.conf"
	SysctlFile  = "/etc/sysctl.d/90-plinth.conf"
)

// NetnsDir is where network namespaces have names.
const NetnsDir = "/run/netns"

const unitDir = "/etc/systemd/system"

// AgentUnit is the service of Plinth's agent.
const AgentUnit = "plinth-agent.service"

// Units is the names of the services that `k0s install` makes, and Plinth's.
func Units() []string { return []string{AgentUnit, "k0scontroller.service", "k0sworker.service"} }

// roots is every file and folder that is the cluster's own as a whole, except
// for what stood in it before.
func (f Finder) roots() []string {
	all := []string{f.ConfigDir, f.DataDir, f.KubeletDir, f.RunDir,
		"/etc/cni/net.d/10-kuberouter.conflist", "/etc/cni/net.d/.tmp-kuberouter-cfg", // kube-router's init container
		"/var/lib/cni/networks/" + f.Network, "/usr/libexec/k0s", ModulesFile, SysctlFile}
	for _, unit := range Units() {
		all = append(all, path.Join(unitDir, unit), path.Join(unitDir, unit+".d"))
	}
	if f.Cautious {
		return append(all, f.Extra...)
	}
	all = append(all, "/var/log/pods", "/var/log/containers", "/run/xtables.lock")
	for _, plugin := range []string{"bandwidth", "bridge", "host-local", "loopback", "portmap"} { // k0s's cni-node image
		all = append(all, path.Join("/opt/cni/bin", plugin))
	}
	return append(all, f.Extra...)
}

// shared is the cluster's own folders in which an administrator may put files
// too: configuration. There only what is known to be the cluster's goes.
func (f Finder) shared() []string {
	all := []string{f.ConfigDir}
	for _, unit := range Units() {
		all = append(all, path.Join(unitDir, unit+".d"))
	}
	return all
}

// parents is the folders in which others may have things too: the cluster's
// own go by name, the folder goes when the cluster made it and it is empty. A
// folder stands after those in it.
func (f Finder) parents() []string {
	return []string{"/etc/cni/net.d", "/etc/cni", "/opt/cni/bin", "/opt/cni",
		"/var/lib/cni/networks", "/var/lib/cni/results", "/var/lib/cni", "/usr/libexec", NetnsDir,
		"/run/containerd/runc/k8s.io", "/run/containerd/runc", "/run/containerd/s", "/run/containerd",
		"/opt/containerd/bin", "/opt/containerd/lib", "/opt/containerd",
		"/lib/modules"} // mounted into kube-router, made where missing
}

// Places is every file and folder that is looked at.
func (f Finder) Places() []string {
	return append(append(f.roots(), f.parents()...), unitDir, path.Dir(ModulesFile), path.Dir(SysctlFile))
}

// Owns reports whether p is, or is in, a file or folder of the cluster's own,
// and was not there before.
func (f Finder) Owns(p string) bool {
	if f.Before.Had(p) || slices.Contains(f.shared(), path.Dir(p)) || slices.Contains(f.shared(), p) {
		return false
	}
	return slices.ContainsFunc(f.roots(), func(root string) bool { return Below(p, root) })
}

// sweep is what removing the files comes to.
type sweep struct {
	remove  []string // whole, links not followed
	restore []string // from Before
	prune   []string // empty by then
	foreign []string // stay: somebody else's, in a shared folder
}

// sweep looks what there is to remove and to restore.
func (f Finder) sweep() (sweep, error) {
	var s sweep
	table, err := f.MountTable()
	if err != nil {
		return s, err
	}
	var points []string
	for i, m := range table {
		if f.ownersMount(table[:i], m) {
			points = append(points, m.Point)
		}
	}
	for _, p := range append(f.roots(), f.cniResults()...) {
		if err := f.sweepPath(&s, points, p); err != nil {
			return s, err
		}
	}
	s.remove = append(f.runcStates(), s.remove...) // first: the run folder tells of them
	if f.Before == nil {
		return s, nil
	}
	for p := range f.Before.Paths {
		if f.mayRestore(p) && f.differs(p) {
			s.restore = append(s.restore, p)
		}
	}
	slices.Sort(s.restore)
	for _, dir := range f.parents() {
		list, err := f.ReadDir(dir)
		if err != nil || f.Before.Had(dir) {
			continue
		}
		gone := func(e fs.DirEntry) bool {
			p := path.Join(dir, e.Name())
			return slices.Contains(s.remove, p) || slices.Contains(s.prune, p)
		}
		mounted := slices.ContainsFunc(table, func(m Mount) bool { return m.Point == dir })
		if !mounted && !slices.ContainsFunc(list, func(e fs.DirEntry) bool { return !gone(e) }) {
			s.prune = append(s.prune, dir)
		}
	}
	return s, nil
}

// sweepPath adds p, or what of it is the cluster's: a folder that stood there
// before, an owner's mount point, and a folder with one in it stay and are
// emptied.
func (f Finder) sweepPath(s *sweep, points []string, p string) error {
	info, err := f.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if slices.Contains(f.shared(), p) && len(f.Made) > 0 {
		f.sweepShared(s, p)
		return nil
	}
	stays := slices.ContainsFunc(points, func(m string) bool { return Below(m, p) }) || f.Before.Had(p)
	if !stays {
		s.remove = append(s.remove, p)
		return nil
	}
	if !info.IsDir() {
		return nil
	}
	for _, e := range entries(f, p) {
		// Every file system of its own has one; it is not the cluster's.
		if e.Name() == "lost+found" && slices.Contains(points, p) {
			continue
		}
		if err := f.sweepPath(s, points, path.Join(p, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// sweepShared adds what is the cluster's of a shared folder: what steps made,
// with what an interrupted write of it leaves, and the folder when nothing else
// is in it. It reports whether the folder goes.
func (f Finder) sweepShared(s *sweep, dir string) (goes bool) {
	goes = !f.Before.Had(dir)
	var inside []string
	for _, e := range entries(f, dir) {
		p := path.Join(dir, e.Name())
		made := func(m string) bool { return Below(p, m) || p == host.TempPath(m) }
		onWay := func(m string) bool { return Below(m, p) }
		switch {
		case f.Before.Had(p) && !e.IsDir():
			goes = false
		case slices.ContainsFunc(f.Made, made):
			inside = append(inside, p)
		case e.IsDir() && slices.ContainsFunc(f.Made, onWay):
			sub := sweep{}
			if f.sweepShared(&sub, p) {
				inside = append(inside, p)
				continue
			}
			goes = false
			inside = append(inside, sub.remove...)
			s.foreign = append(s.foreign, sub.foreign...)
		default:
			goes = false
			s.foreign = append(s.foreign, p)
		}
	}
	if goes {
		inside = []string{dir}
	}
	s.remove = append(s.remove, inside...)
	return goes
}

// Foreign lists what others put into the cluster's configuration folders since
// it was installed: it stays.
func (f Finder) Foreign() ([]string, error) {
	s, err := f.sweep()
	return slices.DeleteFunc(s.foreign, f.Before.Had), err
}

// cniResults is the CNI library's notes about pods of the cluster's network,
// "<network>-<container>-<interface>", and containerd's about loopback.
func (f Finder) cniResults() []string {
	const dir = "/var/lib/cni/results"
	var all []string
	for _, e := range entries(f, dir) {
		if strings.HasPrefix(e.Name(), f.Network+"-") || strings.HasPrefix(e.Name(), "cni-loopback-") {
			all = append(all, path.Join(dir, e.Name()))
		}
	}
	return all
}

// runcStates is what runc and the shims of this cluster's containerd keep in
// folders that every containerd on a host shares. runc's state tells by the
// path of the container's bundle, and where runc died before it wrote that, the
// bundle itself; a shim's socket is named by the hash of its containerd's
// address, namespace and pod (containerd 1.7, runtime/v2/shim).
func (f Finder) runcStates() []string {
	const states, sockets, namespace = "/run/containerd/runc/k8s.io", "/run/containerd/s", "k8s.io"
	bundles := path.Join(f.RunDir, "containerd/io.containerd.runtime.v2.task", namespace)
	var ids []string
	for _, e := range entries(f, bundles) {
		ids = append(ids, e.Name())
	}
	for _, e := range entries(f, states) {
		state, err := f.ReadFile(path.Join(states, e.Name(), "state.json"))
		if err == nil && (bytes.Contains(state, []byte(`"`+f.RunDir+"/")) || bytes.Contains(state, []byte("="+f.RunDir+"/"))) {
			ids = append(ids, e.Name())
		}
	}
	slices.Sort(ids)
	var all []string
	for _, id := range slices.Compact(ids) {
		hash := sha256.Sum256([]byte(path.Join(f.RunDir, "containerd.sock", namespace, id)))
		// The socket, one per pod, not per container, goes first: what tells of it stays until then.
		for _, p := range []string{path.Join(sockets, hex.EncodeToString(hash[:])), path.Join(states, id)} {
			if _, err := f.Lstat(p); err == nil {
				all = append(all, p)
			}
		}
	}
	return all
}

// entries is what is in a folder; nothing when it cannot be read, which shows
// when it is to be removed.
func entries(files host.Files, dir string) []fs.DirEntry {
	list, _ := files.ReadDir(dir)
	return list
}

// mayRestore tells the files and folders that a cluster changes or removes: its
// own, and CNI configurations, which kube-router's init container
// deletes when it finds its own missing. All else that somebody changed since
// is theirs.
func (f Finder) mayRestore(p string) bool {
	was := f.Before.Paths[p]
	if !was.Kept && was.Aside == "" && !was.Mode.IsDir() {
		return false
	}
	return path.Dir(p) == "/etc/cni/net.d" && path.Ext(p) == ".conf" ||
		slices.ContainsFunc(f.roots(), func(root string) bool { return Below(p, root) })
}

// FilesKind is the cluster's files and folders.
func FilesKind(f Finder) Kind { return Kind{"files", "Remove files", f.files, f.removeFiles} }

func (f Finder) files(context.Context) ([]string, error) {
	s, err := f.sweep()
	all := slices.Concat(s.remove, s.prune)
	for _, p := range s.restore {
		all = append(all, p+" (as it was before)")
	}
	return all, err
}

// removeEmpty leaves a folder in which somebody put something meanwhile.
func (f Finder) removeEmpty(dir string) error {
	if list, err := f.ReadDir(dir); err != nil || len(list) > 0 {
		return err
	}
	return f.RemoveAll(dir)
}

// removeFiles removes nothing below which something of the cluster's is still
// mounted: what is mounted there may be a user's data.
func (f Finder) removeFiles(ctx context.Context) error {
	s, err := f.sweep()
	if err != nil {
		return err
	}
	mounted, err := f.Mounts()
	if err != nil {
		return err
	}
	units := false
	err = Each(s.remove, func(p string) error {
		if i := slices.IndexFunc(mounted, func(m string) bool { return Below(m, p) }); i >= 0 {
			return errors.New("keeping " + p + ": " + mounted[i] + " is still mounted")
		}
		units = units || Below(p, unitDir)
		return f.RemoveAll(p)
	})
	errs := []error{err,
		Each(s.restore, func(p string) error { return f.restore(ctx, p) }),
		Each(s.prune, f.removeEmpty)}
	if units {
		errs = append(errs, f.Act(ctx, "systemctl", "daemon-reload"))
	}
	return errors.Join(errs...)
}
