package node

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/node/cleanup"
)

// account is a line of /etc/passwd or /etc/group.
type account struct{ name, id, home string }

// readAccounts returns the accounts in file that have a name that k0s uses. The names are k0s
// 1.33's defaults (pkg/constant).
func readAccounts(f cleanup.Finder, file string) ([]account, error) {
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

// AddUsersBesideGroups creates those users of k0s whose group exists without them. `k0s install`
// cannot create them: useradd refuses to create the group again. The users do not join the group: k0s
// runs its components with group 0 and gives them their files by user, and userdel would remove a user's
// own group with it. Groups are those of /etc/group only.
func AddUsersBesideGroups(ctx context.Context, h host.Host, homeDir string) error {
	f := cleanup.Finder{Host: h}
	groups, err := readAccounts(f, "/etc/group")
	if err != nil {
		return err
	}
	users, err := readAccounts(f, "/etc/passwd")
	if err != nil {
		return err
	}
	for _, g := range groups {
		if slices.ContainsFunc(users, func(u account) bool { return u.name == g.name }) || f.FindTool("useradd") == "" {
			continue // without useradd, k0s uses adduser, which accepts an existing group
		}
		if _, err := f.Query(ctx, "id", "-u", g.name); err == nil {
			continue // a user from a directory service, which k0s finds too
		}
		if err := f.Execute(ctx, "useradd", "--system", "--no-user-group", "--no-create-home", "--home", homeDir, "--shell", nologinShell(f), g.name); err != nil {
			return err
		}
	}
	return nil
}

// nologinShell returns the shell of users that cannot log in.
func nologinShell(f cleanup.Finder) string {
	if shell := f.FindTool("nologin"); shell != "" {
		return shell
	}
	return "/bin/false"
}

// usersKind returns the users and groups that `k0s install` created.
func usersKind(f cleanup.Finder) cleanup.Kind {
	return cleanup.Kind{ID: "users", Title: "Remove users",
		Find: func(context.Context) ([]string, error) {
			all, err := findUsers(f)
			groups, groupErr := findOrphanGroups(f)
			for _, g := range groups {
				all = append(all, "group "+g)
			}
			return all, errors.Join(err, groupErr)
		},
		Delete: func(ctx context.Context) error { return removeUsers(ctx, f) }}
}

// findUsers returns the users that `k0s install` created: those with its names and home folder that
// did not exist before. Their groups of the same name are removed with them; findOrphanGroups finds
// the groups of an interrupted removal.
func findUsers(f cleanup.Finder) ([]string, error) {
	list, err := readAccounts(f, "/etc/passwd")
	var all []string
	for _, a := range list {
		if cleanup.IsWithin(a.home, f.DataDir) && (f.Before == nil || !slices.Contains(f.Before.Users, a.name)) {
			all = append(all, a.name)
		}
	}
	return all, err
}

// findOrphanGroups returns the groups with the cluster's names that did not exist before and have
// no user any more.
func findOrphanGroups(f cleanup.Finder) ([]string, error) {
	if f.Before == nil || f.Before.Groups == nil {
		return nil, nil
	}
	owners, err := readAccounts(f, "/etc/passwd")
	list, groupErr := readAccounts(f, "/etc/group")
	var all []string
	for _, g := range list {
		owned := slices.ContainsFunc(owners, func(u account) bool { return u.name == g.name })
		if !owned && !slices.Contains(f.Before.Groups, g.name) {
			all = append(all, g.name)
		}
	}
	return all, errors.Join(err, groupErr)
}

// removeUsers removes the users, their groups and the orphan groups. A group that existed before the
// install stays.
func removeUsers(ctx context.Context, f cleanup.Finder) error {
	all, err := findUsers(f)
	if err != nil {
		return err
	}
	err = cleanup.ForEach(all, func(name string) error {
		argv := []string{"userdel", name}
		if f.FindTool("userdel") == "" {
			argv = []string{"deluser", name}
		}
		if err := f.Execute(ctx, argv...); err != nil {
			return err
		}
		groups, err := readAccounts(f, "/etc/group")
		existed := f.Before != nil && slices.Contains(f.Before.Groups, name)
		if err == nil && !existed && slices.ContainsFunc(groups, func(g account) bool { return g.name == name }) {
			err = f.Execute(ctx, "groupdel", name)
		}
		return err
	})
	groups, groupErr := findOrphanGroups(f)
	return errors.Join(err, groupErr, cleanup.ForEach(groups, func(name string) error { return f.Execute(ctx, "groupdel", name) }))
}
