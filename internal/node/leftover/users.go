package leftover

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
)

// account is a line of /etc/passwd or /etc/group.
type account struct{ name, id, home string }

// accounts gives those of the cluster's names that stand in file. The names are
// k0s 1.33's defaults (pkg/constant).
func (f Finder) accounts(file string) ([]account, error) {
	text, err := f.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	names := []string{"etcd", "kube-apiserver", "konnectivity-server", "kube-scheduler"}
	var all []account
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) < 3 || !slices.Contains(names, fields[0]) {
			continue
		}
		a := account{name: fields[0], id: fields[2]}
		if len(fields) > 5 {
			a.home = fields[5]
		}
		all = append(all, a)
	}
	return all, err
}

// UsersKind is the users that `k0s install` makes.
func UsersKind(f Finder) Kind { return Kind{"users", "Remove users", f.users, f.removeUsers} }

// users finds the users that `k0s install` made: by name and home, and not
// there before. Their groups of the same name go with them.
func (f Finder) users(context.Context) ([]string, error) {
	list, err := f.accounts("/etc/passwd")
	var all []string
	for _, a := range list {
		if Below(a.home, f.DataDir) && (f.Before == nil || !slices.Contains(f.Before.Users, a.name)) {
			all = append(all, a.name)
		}
	}
	return all, err
}

func (f Finder) removeUsers(ctx context.Context) error {
	all, err := f.users(ctx)
	if err != nil {
		return err
	}
	return Each(all, func(name string) error {
		argv := []string{"userdel", name}
		if f.Tool("userdel") == "" {
			argv = []string{"deluser", name}
		}
		if err := f.Act(ctx, argv...); err != nil {
			return err
		}
		groups, err := f.accounts("/etc/group")
		if err == nil && slices.ContainsFunc(groups, func(g account) bool { return g.name == name }) {
			err = f.Act(ctx, "groupdel", name)
		}
		return err
	})
}
