package node

import (
	"context"
	"errors"
	"path"
	"strings"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/node/leftover"
	"github.com/plinthdev/plinth/internal/node/network"
	"github.com/plinthdev/plinth/internal/node/workload"
)

// Remember looks at what an install of cluster c may change on the host, for
// the journal, before the first change. It changes nothing. A resumed install
// must not remember again, but go on with what its first run remembered.
func Remember(ctx context.Context, h host.Host, c leftover.Cluster) (*leftover.Before, error) {
	f := leftover.Finder{Host: h, Cluster: c}
	b, err := f.Remember()
	if err != nil {
		return nil, err
	}
	for _, s := range TouchedSysctls() {
		b.Sysctls[s.Key], _ = Value(h, s.Key)
	}
	users, err := accounts(f, "/etc/passwd")
	if err != nil {
		return nil, err
	}
	for _, u := range users {
		b.Users = append(b.Users, u.name)
	}
	b.Groups = []string{}
	groups, err := accounts(f, "/etc/group")
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		b.Groups = append(b.Groups, g.name)
	}
	b.Tables, err = network.Tables(ctx, f)
	return b, err
}

// Record is Remember for an install in whose data folder all that does not
// belong into the journal is kept: what it overwrites, and what Prove needs.
func Record(ctx context.Context, h host.Host, c leftover.Cluster, dataDir string) (*leftover.Before, error) {
	b, err := Remember(ctx, h, c)
	if err == nil {
		err = leftover.Finder{Host: h, Cluster: c}.SetAside(b, path.Join(dataDir, BeforeDir))
	}
	if err == nil {
		err = photograph(ctx, h, c, dataDir)
	}
	return b, err
}

// Foreign lists what others put among the cluster's configuration; it stays.
func Foreign(h host.Host, c leftover.Cluster) ([]string, error) {
	return leftover.Finder{Host: h, Cluster: c}.Foreign()
}

// Leftovers is every kind of leftover of cluster c, in the order in which they
// go: each needs the ones before it gone, and files come after the packet
// rules, whose tools lie in the data folder. They take the place of `k0s
// reset`, which unmounts and deletes every named network namespace of the host
// and an etcd user whoever made it (k0s 1.33, pkg/cleanup).
func Leftovers(h host.Host, c leftover.Cluster) []leftover.Kind {
	f := leftover.Finder{Host: h, Cluster: c}
	all := append(workload.Kinds(f), network.Kinds(f)...)
	return append(all, sysctlKind(f), leftover.FilesKind(f), usersKind(f))
}

// sysctlKind is the kernel settings that no longer have their value from
// before. One that somebody set to yet another value stays.
func sysctlKind(f leftover.Finder) leftover.Kind {
	return leftover.Kind{
		ID: "sysctls", Title: "Restore kernel settings",
		Find: func(context.Context) ([]string, error) {
			var all []string
			for _, s := range changedSysctls(f) {
				now, _ := Value(f, s.Key)
				all = append(all, s.Key+" is "+now+", was "+s.Value)
			}
			return all, nil
		},
		Take: func(ctx context.Context) error {
			var errs []error
			for _, s := range changedSysctls(f) {
				errs = append(errs, f.Act(ctx, "sysctl", "-q", "-w", s.Key+"="+s.Value))
			}
			return errors.Join(errs...)
		},
	}
}

// changedSysctls gives the settings to restore, with the value to restore. A
// bridge's setting that was not there before the module came is switched off,
// which is how a bridge behaves without that module.
func changedSysctls(f leftover.Finder) []Sysctl {
	if f.Before == nil {
		return nil
	}
	var all []Sysctl
	for _, s := range TouchedSysctls() {
		before, known := f.Before.Sysctls[s.Key]
		now, exists := Value(f, s.Key)
		if before == "" && strings.HasPrefix(s.Key, "net.bridge.") {
			before = "0"
		}
		if known && exists && before != "" && now != before && (s.Value == "" || s.Value == now) {
			all = append(all, Sysctl{Key: s.Key, Value: before})
		}
	}
	return all
}
