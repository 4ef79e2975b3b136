package cleanup

import (
	"context"
	"errors"
	"path"
	"slices"
)

// findCgroups returns the cgroups that kubelet created, in each hierarchy: those of the pods, and
// the one in which it looks for containerd, including system.slice if systemd had not created it.
func (f workloadFinder) findCgroups(ctx context.Context) ([]string, error) {
	table, err := f.MountTable()
	if err != nil {
		return nil, err
	}
	// A containerd that runs as a unit of the host does not belong to the cluster, nor does its
	// cgroup.
	containerd, err := f.UnitState(ctx, "containerd.service")
	if err != nil {
		return nil, err
	}
	var all []string
	for _, m := range table {
		if m.Type != "cgroup" && m.Type != "cgroup2" {
			continue
		}
		names := []string{"kubepods", "kubepods.slice"}
		slice := path.Join(m.Point, "system.slice")
		inside := f.listCgroups(slice)
		switch service := path.Join(slice, "containerd.service"); {
		case containerd.Running() || !slices.Contains(inside, service):
		case f.Before != nil && !f.Before.HadPath(slice) && len(inside) == 2:
			names = append(names, "system.slice")
		default:
			names = append(names, "system.slice/containerd.service")
		}
		for _, name := range names {
			if dir := path.Join(m.Point, name); len(f.listCgroups(dir)) > 0 {
				all = append(all, dir)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// listCgroups returns dir and all cgroups below it, each after its parent. It returns nil if dir
// does not exist.
func (f workloadFinder) listCgroups(dir string) []string {
	entries, err := f.ReadDir(dir)
	if err != nil {
		return nil
	}
	all := []string{dir}
	for _, e := range entries {
		if e.IsDir() {
			all = append(all, f.listCgroups(path.Join(dir, e.Name()))...)
		}
	}
	return all
}

// removeCgroups removes the cgroups that findCgroups returns. The kernel refuses to remove a cgroup
// that contains a process.
func (f workloadFinder) removeCgroups(ctx context.Context) error {
	// With systemd's cgroup driver the slice is a unit, which systemd would create again.
	var errs []error
	if st, err := f.UnitState(ctx, "kubepods.slice"); err == nil && st.Running() {
		errs = append(errs, f.Execute(ctx, "systemctl", "stop", "kubepods.slice"))
	}
	all, err := f.findCgroups(ctx)
	errs = append(errs, err)
	for _, top := range all {
		groups := f.listCgroups(top)
		slices.Reverse(groups)
		errs = append(errs, f.Execute(ctx, append([]string{"rmdir"}, groups...)...))
	}
	return errors.Join(errs...)
}
