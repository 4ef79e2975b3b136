package kots

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/problem"
)

// DataPVCName is the PersistentVolumeClaim of the console's own files, such as
// the releases that were uploaded. They are not replicated.
const DataPVCName = "kotsadmdata-kotsadm-0"

// HANeeded returns the reason why the datastore must be replicated to further
// nodes. It returns "" if the datastore has all its replicas, if fewer than
// three controllers are Ready, and without a console. Replicas that are not
// ready are not a reason: nothing can be done for a node that is switched off.
func (k *Client) HANeeded(ctx context.Context) (string, error) {
	have, err := DatastoreReplicas(ctx, k.Kube, k.Namespace)
	if err != nil || have == 0 || have >= HAReplicas {
		return "", err
	}
	ready, err := k.countControllers(ctx)
	if err != nil {
		return "", err
	}
	if ready < HAReplicas {
		return "", nil
	}
	return fmt.Sprintf("%d controllers are Ready, but the console's data is on %d", ready, have), nil
}

// countControllers returns the number of controllers that are Ready.
func (k *Client) countControllers(ctx context.Context) (ready int, err error) {
	records, err := k.Kube.NodeRecords(ctx)
	if err != nil {
		return 0, err
	}
	nodes, err := k.Kube.Nodes(ctx)
	for _, rec := range records.Controllers() {
		if slices.ContainsFunc(nodes, func(n kube.Node) bool { return n.Name == rec.Node && n.Ready }) {
			ready++
		}
	}
	return ready, err
}

// EnableHA runs the CLI to replicate the datastore and waits until all replicas
// are ready. The data is kept: the new replicas join the existing one.
func (k *Client) EnableHA(ctx context.Context, w kube.Wait) error {
	set, _, _ := k.consoleObjects()
	err := k.runEnableHA(ctx, w, set)
	if err == nil {
		return nil
	}
	// Another controller that joins at the same time may have started this already.
	if reason, checkErr := k.HANeeded(ctx); checkErr == nil && reason == "" {
		err = k.Kube.WaitWorkloads(ctx, w, set)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	return problem.New(problem.ExitStep, "replicate the console's data to three nodes", err,
		"inspect its pods: plinth kubectl get pods -n "+k.Namespace+"; this host has joined the cluster; run the same command again to retry")
}

// runEnableHA runs the CLI and, because the CLI reports only that it waits,
// reports the reason from the datastore's objects.
func (k *Client) runEnableHA(ctx context.Context, w kube.Wait, set kube.Object) error {
	watch, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { _ = k.Kube.WaitWorkloads(watch, w, set) }) // the CLI's result decides
	_, err := k.runCLI(ctx, nil, nil, "enable-ha", "--wait-duration", formatTimeout(w.Timeout))
	stop()
	watching.Wait()
	return err
}
