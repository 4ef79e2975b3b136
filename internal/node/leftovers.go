package node

import (
	"context"
	"errors"
	"path"
	"strings"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/node/cleanup"
)

// GatherHostState returns the state of everything on the host that an install of cluster c may
// change, for the journal, before the first change. It changes nothing. A resumed install must not
// gather the state again, but use the state that its first run recorded.
func GatherHostState(ctx context.Context, h host.Host, c cleanup.Scope) (*cleanup.HostState, error) {
	f := cleanup.Finder{Host: h, Scope: c}
	b, err := f.RecordPaths()
	if err != nil {
		return nil, err
	}
	for _, s := range AffectedSysctls() {
		b.Sysctls[s.Key], _ = ReadSysctl(h, s.Key)
	}
	users, err := readAccounts(f, "/etc/passwd")
	if err != nil {
		return nil, err
	}
	for _, u := range users {
		b.Users = append(b.Users, u.name)
	}
	b.Groups = []string{}
	groups, err := readAccounts(f, "/etc/group")
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		b.Groups = append(b.Groups, g.name)
	}
	b.Tables, err = cleanup.ListTables(ctx, f)
	return b, err
}

// RecordHostState returns the result of GatherHostState, and stores in dataDir what does not belong
// in the journal: a copy of the files that the install overwrites, and the snapshot that
// VerifyReset needs.
func RecordHostState(ctx context.Context, h host.Host, c cleanup.Scope, dataDir string) (*cleanup.HostState, error) {
	b, err := GatherHostState(ctx, h, c)
	if err == nil {
		err = cleanup.Finder{Host: h, Scope: c}.BackUpFiles(b, path.Join(dataDir, BeforeDir))
	}
	if err == nil {
		err = saveSnapshot(ctx, h, c, dataDir)
	}
	return b, err
}

// ForeignFiles returns the files of other owners in the configuration folders of cluster c. A reset
// does not remove them.
func ForeignFiles(h host.Host, c cleanup.Scope) ([]string, error) {
	return cleanup.Finder{Host: h, Scope: c}.ForeignFiles()
}

// Leftovers returns every kind of leftover of cluster c, in the order in which they are removed.
// Each kind requires that the kinds before it are removed; files come after the packet rules,
// because the tools that remove these are in the data folder. Plinth does not use `k0s reset`,
// because it unmounts and deletes every named network namespace of the host and removes a user
// named etcd even if k0s did not create it (k0s 1.33, pkg/cleanup).
func Leftovers(h host.Host, c cleanup.Scope) []cleanup.Kind {
	f := cleanup.Finder{Host: h, Scope: c}
	all := append(cleanup.WorkloadKinds(f), cleanup.NetworkKinds(f)...)
	return append(all, sysctlKind(f), cleanup.FilesKind(f), usersKind(f))
}

// sysctlKind returns the kernel settings that differ from their value before the install. A setting
// that was changed to yet another value since is not restored.
func sysctlKind(f cleanup.Finder) cleanup.Kind {
	return cleanup.Kind{
		ID: "sysctls", Title: "Restore kernel settings",
		Find: func(context.Context) ([]string, error) {
			var all []string
			for _, s := range changedSysctls(f) {
				now, _ := ReadSysctl(f, s.Key)
				all = append(all, s.Key+" is "+now+", was "+s.Value)
			}
			return all, nil
		},
		Delete: func(ctx context.Context) error {
			var errs []error
			for range 2 { // the kernel changes accept_redirects when forwarding is restored
				for _, s := range changedSysctls(f) {
					errs = append(errs, f.Execute(ctx, "sysctl", "-q", "-w", s.Key+"="+s.Value))
				}
			}
			return errors.Join(errs...)
		},
	}
}

// changedSysctls returns the settings to restore, with the value to restore. A net.bridge setting
// that did not exist before its module was loaded is switched off, which is how a bridge behaves
// without that module.
func changedSysctls(f cleanup.Finder) []Sysctl {
	if f.Before == nil {
		return nil
	}
	var all []Sysctl
	for _, s := range AffectedSysctls() {
		before, known := f.Before.Sysctls[s.Key]
		now, exists := ReadSysctl(f, s.Key)
		if before == "" && strings.HasPrefix(s.Key, "net.bridge.") {
			before = "0"
		}
		if known && exists && before != "" && now != before && (s.Value == "" || s.Value == now) {
			all = append(all, Sysctl{Key: s.Key, Value: before})
		}
	}
	return all
}
