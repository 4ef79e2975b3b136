package action

import (
	"context"
	"time"

	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/wait"
)

// membersTimeout is how long etcd may take to list its members.
const membersTimeout = 20 * time.Second

// ReadEtcdMembers returns the members of the etcd on this host: it is asked or, if it does not run, its database is
// read. Without a quorum k0s ends and starts again, so either may fail for a moment.
func ReadEtcdMembers(ctx context.Context, env *Env) (members []etcd.Member, err error) {
	client, err := etcd.New(env.Host)
	if err != nil {
		return nil, err
	}
	err = wait.Until(ctx, wait.Options{What: "the members of etcd", Timeout: membersTimeout, Interval: time.Second,
		NextCommand: "sudo journalctl -u " + k0s.ControllerUnit},
		func(ctx context.Context) (bool, string, error) {
			asked, err := client.Members(ctx)
			if err == nil {
				members = asked
				return true, "", nil
			}
			stored, storedErr := etcd.StoredMembers(k0s.EtcdDatabase)
			if storedErr == nil {
				members = stored
				return true, "", nil
			}
			return false, err.Error() + "; " + storedErr.Error(), nil
		})
	return members, err
}
