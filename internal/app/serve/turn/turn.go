// Package turn owns that controllers join one after the other. It refuses to
// wait: whose turn it is not is told to ask again.
package turn

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
	"github.com/plinthdev/plinth/internal/token/record"
)

// Turn says which controller joins now. etcd takes one new member at a time:
// while one has not started, it refuses the next, and k0s gives up.
type Turn struct {
	Core corev1client.CoreV1Interface
	Now  func() time.Time
}

// name is the config map that holds the turn.
const name = "plinth-controller-join"

// life is how long a host that does not come up may keep others waiting.
const life = 3 * time.Minute

// Take gives the turn to the host, unless another one has it and has not
// become Ready yet: that is a *agent.Refusal of status 423.
func (t Turn) Take(ctx context.Context, nodes []agent.Node, c agent.Claim) error {
	maps := t.Core.ConfigMaps(record.Namespace)
	data := map[string]string{"node": c.Node, "machineId": c.MachineID, "since": t.Now().UTC().Format(time.RFC3339)}
	have, err := maps.Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}, metav1.CreateOptions{FieldManager: "plinth"})
	case err != nil:
		return err
	case t.busy(have.Data, nodes, c):
		return &agent.Refusal{Why: fmt.Sprintf("controller %s is joining since %s; controllers join one at a time", have.Data["node"], have.Data["since"]), Status: http.StatusLocked}
	default:
		have.Data = data
		_, err = maps.Update(ctx, have, metav1.UpdateOptions{FieldManager: "plinth"})
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return &agent.Refusal{Why: "another controller began to join at this moment; controllers join one at a time", Status: http.StatusLocked}
	}
	return err
}

// busy reports whether another host has the turn and still needs it.
func (t Turn) busy(has map[string]string, nodes []agent.Node, c agent.Claim) bool {
	since, err := time.Parse(time.RFC3339, has["since"])
	if err != nil || has["machineId"] == c.MachineID || t.Now().After(since.Add(life)) {
		return false
	}
	return !slices.ContainsFunc(nodes, func(n agent.Node) bool { return n.MachineID == has["machineId"] && n.Ready })
}
