package agent

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/token"
)

// JoinLock is the lock of the controller that joins now. etcd accepts one new member at a
// time: until that one has started, it refuses the next, and k0s on the host gives up.
type JoinLock struct {
	Core corev1client.CoreV1Interface
	Now  func() time.Time
}

// joinLockName is the name of the config map that stores the lock.
const joinLockName = "plinth-controller-join"

// joinLockTTL is how long a host that does not become Ready can hold the lock.
const joinLockTTL = 3 * time.Minute

// recordedWithin is how long a host may hold the lock without a record: it is recorded right
// after it got the lock, unless its admission failed. Later it was removed.
const recordedWithin = 15 * time.Second

// Acquire acquires the lock for the host in c. It does not wait: while another host
// holds the lock and is not Ready, it returns an *agent.StatusError with status 423, and
// the host has to retry.
func (t JoinLock) Acquire(ctx context.Context, nodes []agent.Node, c agent.JoinRequest) error {
	maps := t.Core.ConfigMaps(token.SecretNamespace)
	data := map[string]string{"node": c.Node, "machineId": c.MachineID, "since": t.Now().UTC().Format(time.RFC3339)}
	have, err := maps.Get(ctx, joinLockName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: joinLockName}, Data: data}, metav1.CreateOptions{FieldManager: "plinth"})
	case err != nil:
		return err
	case t.isHeldByOther(have.Data, nodes, c):
		return &agent.StatusError{Reason: fmt.Sprintf("controller %s has been joining since %s; controllers join one at a time", have.Data["node"], have.Data["since"]), Status: http.StatusLocked}
	default:
		have.Data = data
		_, err = maps.Update(ctx, have, metav1.UpdateOptions{FieldManager: "plinth"})
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return &agent.StatusError{Reason: "another controller has just started to join; controllers join one at a time", Status: http.StatusLocked}
	}
	return err
}

// Holder returns the name of the node that holds the lock, or "" for none.
func (t JoinLock) Holder(ctx context.Context) (string, error) {
	have, err := t.Core.ConfigMaps(token.SecretNamespace).Get(ctx, joinLockName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", err
	}
	return have.Data["node"], nil
}

// isHeldByOther reports whether another host holds the lock, is admitted, has not become
// Ready and joinLockTTL has not passed.
func (t JoinLock) isHeldByOther(has map[string]string, nodes []agent.Node, c agent.JoinRequest) bool {
	since, err := time.Parse(time.RFC3339, has["since"])
	if err != nil || has["machineId"] == c.MachineID || t.Now().After(since.Add(joinLockTTL)) {
		return false
	}
	i := slices.IndexFunc(nodes, func(n agent.Node) bool { return n.MachineID == has["machineId"] })
	if i < 0 {
		return t.Now().Before(since.Add(recordedWithin))
	}
	return !nodes[i].Ready
}
