package workload

import (
	"context"
	"path"
	"slices"

	"github.com/plinthdev/plinth/internal/node/leftover"
)

// cgroups finds the groups that kubelet made for pods, in each hierarchy, the
// innermost first.
func (f finder) cgroups(context.Context) ([]string, error) {
	table, err := f.MountTable()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, m := range table {
		if m.Type != "cgroup" && m.Type != "cgroup2" {
			continue
		}
		for _, name := range []string{"kubepods", "kubepods.slice"} {
			all = append(all, f.groupsIn(path.Join(m.Point, name))...)
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	slices.Reverse(all)
	return all, nil
}

// groupsIn is dir and all cgroups below it; nothing when dir does not exist.
func (f finder) groupsIn(dir string) []string {
	entries, err := f.ReadDir(dir)
	if err != nil {
		return nil
	}
	all := []string{dir}
	for _, e := range entries {
		if e.IsDir() {
			all = append(all, f.groupsIn(path.Join(dir, e.Name()))...)
		}
	}
	return all
}

// removeCgroups leaves one that still holds a process: the kernel refuses.
func (f finder) removeCgroups(ctx context.Context) error {
	all, err := f.cgroups(ctx)
	if err != nil || len(all) == 0 {
		return err
	}
	// Under systemd's cgroup driver the slice is a unit, which would come back.
	if st, err := f.UnitState(ctx, "kubepods.slice"); err == nil && st.Running() {
		if err := f.Act(ctx, "systemctl", "stop", "kubepods.slice"); err != nil {
			return err
		}
		if all, err = f.cgroups(ctx); err != nil {
			return err
		}
	}
	return leftover.Each(all, func(dir string) error { return f.Act(ctx, "rmdir", dir) })
}
