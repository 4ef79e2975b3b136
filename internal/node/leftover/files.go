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

// Files that load the kernel's modules and settings at boot.
const (
	ModulesFile = "/etc/modules-load.d/plinth.conf"
	SysctlFile  = "/etc/sysctl.d/90-plinth.conf"
)

// NetnsDir is the folder of named network namespaces.
const NetnsDir = "/run/netns"

const unitDir = "/etc/systemd/system"

// AgentUnit is the systemd unit of Plinth's agent.
const AgentUnit = "plinth-agent.service"

// UnitNames returns the names of the units that `k0s install` creates and of Plinth's agent.
func Units() []string { return []string{AgentUnit, "k0scontroller.service", "k0sworker.service"} }

// ownPaths returns every file and folder that belongs to the cluster as a whole, except for what
// existed in it before the install.
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

// sharedDirs returns the cluster's configuration folders, in which an administrator may put files
// too. Only files that are known to belong to the cluster are removed from them.
func (f Finder) shared() []string {
	all := []string{f.ConfigDir}
	for _, unit := range Units() {
		all = append(all, path.Join(unitDir, unit+".d"))
	}
	return all
}

// parentDirs returns the folders that other software uses too. The cluster's entries in them are
// removed by name; the folder is removed if the cluster created it and it is empty. Each folder is
// listed after the folders in it.
func (f Finder) parents() []string {
	return []string{"/etc/cni/net.d", "/etc/cni", "/opt/cni/bin", "/opt/cni",
		"/var/lib/cni/networks", "/var/lib/cni/results", "/var/lib/cni", "/usr/libexec", NetnsDir,
		"/run/containerd/runc/k8s.io", "/run/containerd/runc", "/run/containerd/s", "/run/containerd",
		"/opt/containerd/bin", "/opt/containerd/lib", "/opt/containerd",
		"/lib/modules"} // mounted into kube-router, created if missing
}

// InspectedPaths returns every file and folder that the search inspects.
func (f Finder) Places() []string {
	return append(append(f.roots(), f.parents()...), unitDir, path.Dir(ModulesFile), path.Dir(SysctlFile))
}

// OwnsPath reports whether p is, or is in, a file or folder that belongs to the cluster, and did
// not exist before the install.
func (f Finder) Owns(p string) bool {
	if f.Before.Had(p) || slices.Contains(f.shared(), path.Dir(p)) || slices.Contains(f.shared(), p) {
		return false
	}
	return slices.ContainsFunc(f.roots(), func(root string) bool { return Below(p, root) })
}

// removalPlan is the changes that remove the files of the cluster.
type sweep struct {
	remove  []string // removed completely; links are not followed
	restore []string // restored from Before
	prune   []string // folders that are empty after the removal
	foreign []string // files of other owners in a shared folder; not removed
}

// planRemoval returns what there is to remove and to restore. It changes nothing.
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
	s.remove = append(f.runcStates(), s.remove...) // first: the run folder is needed to find them
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
		isRemoved := func(e fs.DirEntry) bool {
			p := path.Join(dir, e.Name())
			return slices.Contains(s.remove, p) || slices.Contains(s.prune, p)
		}
		mounted := slices.ContainsFunc(table, func(m Mount) bool { return m.Point == dir })
		if !mounted && !slices.ContainsFunc(list, func(e fs.DirEntry) bool { return !isRemoved(e) }) {
			s.prune = append(s.prune, dir)
		}
	}
	return s, nil
}

// planPath adds p to s, or those parts of it that belong to the cluster. A folder that existed
// before, a mount point of the host's owner, and a folder that contains one are emptied but not
// removed.
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
		// Every ext file system has this folder; it does not belong to the cluster.
		if e.Name() == "lost+found" && slices.Contains(points, p) {
			continue
		}
		if err := f.sweepPath(s, points, path.Join(p, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// planSharedDir adds to s those entries of a shared folder that belong to the cluster: what steps
// wrote, the temporary files of interrupted writes, and the folder itself if it contains nothing
// else. It reports whether the folder is removed.
func (f Finder) sweepShared(s *sweep, dir string) (removed bool) {
	removed = !f.Before.Had(dir)
	var inside []string
	for _, e := range entries(f, dir) {
		p := path.Join(dir, e.Name())
		isWritten := func(m string) bool { return Below(p, m) || p == host.TempPath(m) }
		isParent := func(m string) bool { return Below(m, p) }
		switch {
		case f.Before.Had(p) && !e.IsDir():
			removed = false
		case slices.ContainsFunc(f.Made, isWritten):
			inside = append(inside, p)
		case e.IsDir() && slices.ContainsFunc(f.Made, isParent):
			sub := sweep{}
			if f.sweepShared(&sub, p) {
				inside = append(inside, p)
				continue
			}
			removed = false
			inside = append(inside, sub.remove...)
			s.foreign = append(s.foreign, sub.foreign...)
		default:
			removed = false
			s.foreign = append(s.foreign, p)
		}
	}
	if removed {
		inside = []string{dir}
	}
	s.remove = append(s.remove, inside...)
	return removed
}

// ForeignFiles returns the files that were added to the configuration folders since the install and
// do not belong to the cluster. They are not removed.
func (f Finder) Foreign() ([]string, error) {
	s, err := f.sweep()
	return slices.DeleteFunc(s.foreign, f.Before.Had), err
}

// findCNIResults returns the CNI library's records of pods in the cluster's network,
// "<network>-<container>-<interface>", and containerd's records of loopback interfaces.
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

// findRuncState returns the files of runc and of the shims of this cluster's containerd in folders
// that all containerds on a host share. The state of runc contains the path of the container's
// bundle; if runc ended before it wrote the state, the bundle itself exists. The socket of a shim
// is named by the hash of the address of its containerd, the namespace and the pod (containerd 1.7,
// runtime/v2/shim).
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
		// The socket, one per pod, not per container, is removed first: the state is needed to find it.
		for _, p := range []string{path.Join(sockets, hex.EncodeToString(hash[:])), path.Join(states, id)} {
			if _, err := f.Lstat(p); err == nil {
				all = append(all, p)
			}
		}
	}
	return all
}

// readEntries returns the entries of a folder, or nil if the folder cannot be read; in that case
// its removal fails later.
func entries(files host.Files, dir string) []fs.DirEntry {
	list, _ := files.ReadDir(dir)
	return list
}

// mayRestore reports whether the cluster changes or removes p: its own files, and CNI
// configurations, which kube-router's init container deletes when its own is missing. Any other
// path that changed since the install was changed by others.
func (f Finder) mayRestore(p string) bool {
	was := f.Before.Paths[p]
	if !was.Kept && was.Aside == "" && !was.Mode.IsDir() {
		return false
	}
	return path.Dir(p) == "/etc/cni/net.d" && path.Ext(p) == ".conf" ||
		slices.ContainsFunc(f.roots(), func(root string) bool { return Below(p, root) })
}

// FilesKind returns the cluster's files and folders.
func FilesKind(f Finder) Kind { return Kind{"files", "Remove files", f.files, f.removeFiles} }

func (f Finder) files(context.Context) ([]string, error) {
	s, err := f.sweep()
	all := slices.Concat(s.remove, s.prune)
	for _, p := range s.restore {
		all = append(all, p+" (restore the previous version)")
	}
	return all, err
}

// removeEmptyDir removes the folder dir, unless something was put into it since the search.
func (f Finder) removeEmpty(dir string) error {
	if list, err := f.ReadDir(dir); err != nil || len(list) > 0 {
		return err
	}
	return f.RemoveAll(dir)
}

// removeFiles removes and restores the files. It does not remove a folder in which something that
// the cluster mounted is still mounted, because the mounted files may be user data.
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
			return errors.New("cannot remove " + p + ": " + mounted[i] + " is still mounted")
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
