package kots

import (
	"context"
	"fmt"
	"sync"

	"github.com/plinthdev/plinth/internal/kots/copies"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/problem"
)

// FilesClaim is the claim on the console's own files, such as the releases that it
// was given: of them there is one copy.
const FilesClaim = "kotsadmdata-kotsadm-0"

// CopiesNeeded says why the datastore has to be copied to further nodes; ""
// when it has its copies, when fewer than three controllers are Ready, and when
// there is no console. Copies that are not up are not its matter: on a node that
// is switched off there is nothing to do.
func (k *KOTS) CopiesNeeded(ctx context.Context) (string, error) {
	have, err := copies.Wanted(ctx, k.Kube, k.Namespace)
	if err != nil || have == 0 || have >= copies.Most {
		return "", err
	}
	controllers, err := k.Kube.Controllers(ctx)
	if err != nil {
		return "", err
	}
	ready := 0
	for _, n := range controllers {
		if n.Ready {
			ready++
		}
	}
	if ready < copies.Most {
		return "", nil
	}
	return fmt.Sprintf("%d controllers are there, and the console's data is on %d", ready, have), nil
}

// Copy has the CLI give the datastore its copies, and waits until all are up.
// What is in it is kept: the new ones join the old one.
func (k *KOTS) Copy(ctx context.Context, w kube.Wait) error {
	set, _, _ := k.parts()
	err := k.enableHA(ctx, w, set)
	if err == nil {
		return nil
	}
	// Another controller may join at this moment, and have begun the same.
	if why, look := k.CopiesNeeded(ctx); look == nil && why == "" {
		err = k.Kube.WaitWorkloads(ctx, w, set)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	return problem.New(problem.ExitStep, "copy the console's data to three nodes", err,
		"see what its pods say: plinth kubectl get pods -n "+k.Namespace+"; this host is a node, and the same command tries again")
}

// enableHA runs the CLI and, as that says only that it waits, looks meanwhile at
// what it waits for.
func (k *KOTS) enableHA(ctx context.Context, w kube.Wait, set kube.Object) error {
	watch, stop := context.WithCancel(ctx)
	var looking sync.WaitGroup
	looking.Go(func() { _ = k.Kube.WaitWorkloads(watch, w, set) }) // the CLI's word is the one that counts
	_, err := k.run(ctx, nil, nil, "enable-ha", "--wait-duration", timeout(w.Timeout))
	stop()
	looking.Wait()
	return err
}
