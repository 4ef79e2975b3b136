package plan

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
	"github.com/plinthdev/plinth/internal/velero"
	"github.com/plinthdev/plinth/internal/wait"
)

// RestoreOnNewHost returns the steps that make a host without a cluster the only controller of the cluster in a backup,
// all of whose controllers are lost. They are those of Install, which issue certificates, names and configuration for
// this host, with the keys and the data of the backup laid down before k0s starts. They do not wait for the pods of the
// other nodes, which may not know this host yet.
func RestoreOnNewHost(c Cluster, r Restoration) []step.Step {
	c.SkipNodes = slices.DeleteFunc(slices.Clone(r.Nodes), func(name string) bool { return name == c.NodeName })
	o := newRestore(c, r)
	if o.Lost == nil {
		o.Lost = func(c Cluster) LostMembers { return lostControllers{c} }
	}
	steps := Install(c)
	steps = insertBefore(steps, "identity", o.save(), o.placeKeys())
	// systemd may have started k0s after a power failure, without the data.
	steps = insertBefore(steps, "k0s-start", o.stop(), o.restoreEtcd())
	// The restored policies refuse a node without a record, so the record comes before the kubelet is waited for.
	i := slices.IndexFunc(steps, func(s step.Step) bool { return s.ID == trustID })
	trust := steps[i]
	steps = insertBefore(slices.Delete(steps, i, i+1), "images-boot", o.removeLost("k0s-start"), trust)
	i = slices.IndexFunc(steps, func(s step.Step) bool { return s.ID == "node-ready" })
	steps[i] = o.waitNodeReported(steps[i])
	steps = slices.Insert(steps, i+1, o.restartPodsOfAbsentNodes())
	return append(append(steps, o.waitAddOns("k0s-start")...), o.end())
}

// insertBefore inserts more before the step id.
func insertBefore(steps []step.Step, id string, more ...step.Step) []step.Step {
	i := slices.IndexFunc(steps, func(s step.Step) bool { return s.ID == id })
	return slices.Insert(steps, i, more...)
}

// placeKeys returns the step that writes the authorities and keys of the cluster, instead of new ones.
func (o restore) placeKeys() step.Step {
	return step.Step{ID: "restore-keys", Title: "Write the cluster's keys", Affects: []string{k0s.DataDir},
		Check: func(context.Context) (step.State, error) { return stepState(k0s.SharedFilesNeeded(o.Host, o.Keys)) },
		Apply: func(context.Context, step.Report) error { return k0s.PlaceSharedFiles(o.Host, o.Keys) },
	}
}

// restoredAt returns when etcd was restored.
func (o restore) restoredAt() (time.Time, error) {
	info, err := o.Host.Lstat(path.Join(o.dir, etcdRestored))
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// waitNodeReported returns the step s, which waits for the node to be Ready, so that it also waits for a report of its
// kubelet: a lost controller with the same name was Ready when the backup was written.
func (o restore) waitNodeReported(s step.Step) step.Step {
	check, apply := s.Check, s.Apply
	reason := func(ctx context.Context) string {
		at, err := o.restoredAt()
		if err != nil {
			return err.Error()
		}
		return o.kubeletReason(ctx, at)
	}
	s.Check = func(ctx context.Context) (step.State, error) {
		st, err := check(ctx)
		if err != nil || st.Kind != step.KindDone {
			return st, err
		}
		return stepState(reason(ctx), nil)
	}
	s.Apply = func(ctx context.Context, report step.Report) error {
		err := wait.Until(ctx, wait.Options{What: "the kubelet of node " + o.NodeName + " to report", Timeout: 5 * time.Minute, Diagnose: o.K0s.Diagnose,
			NextCommand: "sudo journalctl -u " + o.K0s.Unit(), OnReason: func(reason string) { report(reason, 0, 0) }},
			func(ctx context.Context) (bool, string, error) {
				why := reason(ctx)
				return why == "", why, nil
			})
		if err != nil {
			return err
		}
		return apply(ctx, report)
	}
	return s
}

// restartPodsOfAbsentNodes returns the step that starts the pods of k0s and of Plinth's add-ons again that were on nodes which have
// not reported since the restore: such as the name server of the cluster, without which the console does not start.
// Kubernetes would do it after five minutes, or not at all while most nodes are absent. A node that comes back ends its own.
func (o restore) restartPodsOfAbsentNodes() step.Step {
	find := func(ctx context.Context) (*kube.Client, []kube.NodePod, error) {
		client, err := o.kubeClient(ctx)
		if err != nil {
			return nil, nil, err
		}
		nodes, err := o.absentNodes(ctx, client)
		if err != nil {
			return nil, nil, err
		}
		pods, err := kube.ReplaceablePods(ctx, client, nodes, o.ownNamespaces())
		return client, pods, err
	}
	return step.Step{ID: "restore-pods", Title: "Start the system pods of absent nodes again", Affects: []string{"pods of " + systemNamespace + " and of the add-ons"},
		Check: func(ctx context.Context) (step.State, error) {
			_, pods, err := find(ctx)
			switch {
			case err != nil:
				return step.Unknown("k0s-start"), ctx.Err()
			case len(pods) == 0:
				return step.Done(), nil
			}
			return step.Needed("pod " + pods[0].String() + " is on a node that does not answer" + moreSuffix(len(pods)-1)), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			return wait.Until(ctx, wait.Options{What: "the system pods of absent nodes to be started again", Timeout: 5 * time.Minute,
				NextCommand: "sudo plinth kubectl get pods -A -o wide", OnReason: func(reason string) { report(reason, 0, 0) }},
				func(ctx context.Context) (bool, string, error) {
					client, pods, err := find(ctx)
					if err != nil {
						return false, err.Error(), nil
					}
					reason, err := deletePodsOfAbsentNodes(ctx, client, pods)
					if err != nil {
						return false, err.Error(), nil
					}
					return len(pods) == 0, reason, nil
				})
		},
	}
}

// deletePodsOfAbsentNodes deletes pods of nodes that do not report, and returns what it did or waits for. It stops at a pod whose
// node is still Ready: the scheduler would place the new pod there again. A node is Ready until 50 s after its last report
// or, after a restore, after the start of Kubernetes (node-monitor-grace-period; Kubernetes 1.33.13 and 1.36.3,
// pkg/controller/nodelifecycle/config/v1alpha1/defaults.go).
func deletePodsOfAbsentNodes(ctx context.Context, client *kube.Client, pods []kube.NodePod) (reason string, err error) {
	for _, p := range pods {
		n, err := client.Node(ctx, p.Node)
		if err != nil {
			return "", err
		}
		if n.Ready {
			return "node " + p.Node + " does not report, and Kubernetes has not noticed it yet", nil
		}
		if err := kube.ForceDeletePod(ctx, client, p); err != nil {
			return "", err
		}
		reason = "replacing " + p.String()
	}
	return reason, nil
}

// absentNodes returns those of the other nodes whose kubelet has not reported since the restore.
func (o restore) absentNodes(ctx context.Context, client *kube.Client) (absent []string, err error) {
	since, err := o.restoredAt()
	if err != nil {
		return nil, err
	}
	for _, name := range o.SkipNodes {
		at, err := client.NodeHeartbeat(ctx, name)
		if err != nil {
			return nil, err
		}
		if at.Before(since) {
			absent = append(absent, name)
		}
	}
	return absent, nil
}

// ownNamespaces returns the namespaces of k0s and of Plinth's add-ons.
func (c Cluster) ownNamespaces() []string {
	all := []string{systemNamespace}
	for _, a := range c.AddOns {
		if !a.External {
			all = append(all, a.Namespace)
		}
	}
	return all
}

// lostControllers are the controllers in the records of a restored cluster: all of them are lost, also one that had the
// name of this host.
type lostControllers struct{ Cluster }

// Names returns the names of the controllers whose admission is not that of this host.
func (l lostControllers) Names(ctx context.Context) (names []string, err error) {
	client, err := l.kubeClient(ctx)
	if err != nil {
		return nil, err
	}
	return l.namesIn(ctx, client)
}

func (l lostControllers) namesIn(ctx context.Context, client *kube.Client) (names []string, err error) {
	self, err := clusterIdentity(l).record()
	if err != nil {
		return nil, err
	}
	records, err := client.NodeRecords(ctx)
	for _, r := range records.Sorted() {
		if r.Role == token.Controller && r.UID != self.UID {
			names = append(names, r.Node)
		}
	}
	return names, err
}

// Remove removes a lost controller, and names the volumes that are lost with it. The Node object of one with the name of
// this host stays: the kubelet on this host may have taken it over already, and would not create another one.
func (l lostControllers) Remove(ctx context.Context, name string) error {
	client, err := l.kubeClient(ctx)
	if err != nil {
		return err
	}
	return l.removeFrom(ctx, client, name)
}

func (l lostControllers) removeFrom(ctx context.Context, client *kube.Client, name string) (err error) {
	if err := l.releaseLost(ctx, client, name); err != nil {
		return err
	}
	d := LeavingNode{Name: name, NotReady: true, Kube: client, RemovedBy: "a restore on " + l.NodeName}
	if name == l.NodeName {
		err = kube.DeletePods(ctx, client, name)
	} else {
		err = applyNeeded(ctx, d.deleteObjects())
	}
	if err != nil {
		return err
	}
	return applyNeeded(ctx, d.deleteRecord()) // last: it is what Names finds
}

// releaseLost deletes the claims of the volumes that only the lost controller name had, as far as something creates them
// again: a StatefulSet, or a step of Install. Each whose data is not used any more is named, before it is deleted.
func (l lostControllers) releaseLost(ctx context.Context, client *kube.Client, name string) error {
	claims, err := kube.LocalPVCs(ctx, client, name)
	if err != nil {
		return err
	}
	console := false
	for i, c := range claims {
		console = console || c.Namespace == l.Console.Namespace && strings.HasPrefix(c.Name, kots.DatastoreName+"-")
		claims[i].Recreated = c.Recreated || slices.ContainsFunc(l.AddOns, func(a addons.AddOn) bool { return !a.External && a.Namespace == c.Namespace })
		if text := lostVolume(claims[i], l.findFiles(claims[i])); text != "" && l.Warn != nil {
			l.Warn(text)
		}
	}
	if console {
		if err := kots.ForgetData(ctx, client, l.Console.Namespace); err != nil {
			return err
		}
	}
	return kube.ReleasePVCs(ctx, client, slices.DeleteFunc(claims, func(c kube.PVC) bool { return !c.Recreated }))
}

// volumeFiles is what this host has of a volume of a lost controller.
type volumeFiles struct {
	here  bool // its folder is on this host, with files
	store bool // it is that of the object store in a folder, which uses the same folder on this host
}

// findFiles returns what this host has of the volume of claim c.
func (l lostControllers) findFiles(c kube.PVC) (f volumeFiles) {
	f.store = c.Name == velero.StoreName && slices.ContainsFunc(l.AddOns, func(a addons.AddOn) bool {
		s := snapshotStore(a)
		return s != nil && s.Folder != "" && s.Folder == c.Path && a.Namespace == c.Namespace
	})
	dir := c.Path
	if f.store {
		dir = velero.BucketDir(c.Path)
	}
	if dir == "" {
		return f
	}
	entries, err := l.Host.ReadDir(dir)
	f.here = err == nil && len(entries) > 0
	return f
}

// lostVolume returns the message about the volume of claim c, which only a lost controller had; "" if nothing is lost.
func lostVolume(c kube.PVC, f volumeFiles) string {
	switch {
	case f.store && f.here:
		return ""
	case f.store:
		return fmt.Sprintf("the snapshots in %[1]s of the lost controller %[2]s are not on this host: the object store is empty. If a share or a disk has them, mount it at %[1]s, or copy them there; "+
			"then run: sudo plinth kubectl rollout restart -n %[3]s deployment/%[4]s", c.Path, c.Node, c.Namespace, velero.StoreName)
	}
	text, data := fmt.Sprintf("the volume of claim %s was on the lost controller %s: ", c, c.Node), "its data is lost"
	if f.here {
		data = "its files are in " + c.Path + " on this host, which nothing uses any more"
	}
	if c.Recreated {
		return text + data + ", and an empty volume replaces it"
	}
	return text + data + "; its pods wait until you delete the claim and create it again"
}
