package reset

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/ui"
)

// confirmByName asks the user to type the name of the cluster, or takes it from req, so
// that a cluster is not removed by a command on the wrong host.
func (o resetHost) confirmByName(ctx context.Context, j *journal.Journal, req Options) error {
	const doing = "reset cluster"
	name := action.ClusterName(j)
	if r, ok, err := journal.ReadReceipt(o.Host, o.DataDir); err == nil && ok {
		name = r.Name
	}
	instead := "--yes --cluster NAME"
	switch {
	case name == "" && req.Yes:
		return nil
	case name == "":
		return o.Confirm(ctx, "Remove from this host what an install without a name left?")
	case req.Cluster != "" && req.Cluster != name:
		return problem.Newf(problem.ExitUsage, doing, "nothing was changed; are you on the right host?", "the cluster of this host is %s, not %s", name, req.Cluster)
	case req.Cluster != "" && req.Yes:
		return nil
	case req.Yes:
		return problem.Newf(problem.ExitUsage, doing, "add --cluster "+name+" to confirm that cluster; nothing was changed", "--yes alone does not name the cluster to remove")
	}
	return o.ConfirmTyped(ctx, "This removes the cluster "+name+" from this host, with the application, the admin console and everything else that runs in it.\n"+
		o.describeVolumes(req.DeleteData)+"Type the name of the cluster to confirm:", name, instead)
}

// describeVolumes returns a line that says what happens to the data in volumes; "" when there
// is none.
func (o resetHost) describeVolumes(deleteData bool) string {
	dir := filepath.Join(o.DataDir, node.VolumesDir)
	list, err := o.Host.ReadDir(dir)
	if err != nil || len(list) == 0 {
		return ""
	}
	data := fmt.Sprintf("The data of %s (%s) in %s ", ui.FormatCount(len(list), "volume"), ui.FormatBytes(o.diskUsage(dir)), dir)
	if deleteData {
		return data + "is deleted for good.\n"
	}
	return data + "is kept; --delete-data would delete it.\n"
}

// countVolumes returns the number of volumes with data on this host.
func (o resetHost) countVolumes() int {
	list, _ := o.Host.ReadDir(filepath.Join(o.DataDir, node.VolumesDir)) // none if it cannot be read
	return len(list)
}

// DescribeRollBack returns a line that says which data RollBack deletes; "" for none.
func DescribeRollBack(env *action.Env, deleteData bool) string {
	if !deleteData {
		return ""
	}
	return resetHost{env}.describeVolumes(true)
}

// confirmDeletion asks before the data that an earlier reset kept is deleted.
func (o resetHost) confirmDeletion(ctx context.Context, req Options) error {
	what := o.describeVolumes(true)
	if !req.DeleteData || what == "" {
		return nil
	}
	name := o.retainedCluster()
	switch {
	case name != "" && req.Cluster != "" && req.Cluster != name:
		return problem.Newf(problem.ExitUsage, "reset cluster", "nothing was changed; are you on the right host?", "the volumes on this host are of the cluster %s, not of %s", name, req.Cluster)
	case name == "":
		name = "a cluster that was removed earlier"
	default:
		name = "the cluster " + name + ", which was removed earlier"
	}
	return o.Confirm(ctx, "This host has only volumes of "+name+".\n"+what+"Delete it?")
}

// retainedCluster returns the name of the cluster whose volumes an earlier reset kept; "" if it is
// not known.
func (o resetHost) retainedCluster() string {
	var marker struct{ Cluster string }
	raw, err := o.Host.ReadFile(filepath.Join(o.DataDir, journal.RetainedFile))
	if err != nil || json.Unmarshal(raw, &marker) != nil { // the answer does not depend on the name
		return ""
	}
	return marker.Cluster
}

// retainedEntries returns the names of the entries of the data folder that a reset
// retains: none when deleteData is set or there are no volumes.
func (o resetHost) retainedEntries(deleteData bool) []string {
	list, err := o.Host.ReadDir(filepath.Join(o.DataDir, node.VolumesDir))
	if deleteData || err != nil || len(list) == 0 {
		return nil
	}
	return []string{node.VolumesDir, journal.RetainedFile}
}

// writeRetainedMarker writes a file into the data folder that records what was retained
// there, so that the next install may use the folder and the next reset finds it.
func (o resetHost) writeRetainedMarker(keep []string, cluster string) error {
	path := filepath.Join(o.DataDir, journal.RetainedFile)
	if _, err := o.Host.Lstat(path); err == nil || len(keep) == 0 {
		return nil
	}
	raw, err := json.Marshal(map[string]any{"version": 1, "cluster": cluster, "kept": []string{node.VolumesDir}, "when": o.Now().UTC().Format(time.RFC3339)})
	if err != nil {
		return err
	}
	return o.Host.Write(path, bytes.NewReader(append(raw, '\n')), 0o600)
}

// listRetained returns a message for each thing that a reset retains on purpose.
func (o resetHost) listRetained(j *journal.Journal, keep []string) []string {
	var all []string
	if slices.Contains(keep, node.VolumesDir) {
		dir := filepath.Join(o.DataDir, node.VolumesDir)
		list, _ := o.Host.ReadDir(dir) // retainedEntries has just read it
		all = append(all, fmt.Sprintf("%s: data of %s, %s; --delete-data deletes it", dir, ui.FormatCount(len(list), "volume"), ui.FormatBytes(o.diskUsage(dir))))
	}
	if list, err := o.Host.ReadDir(action.LogDir); err == nil && len(list) > 0 {
		all = append(all, fmt.Sprintf("%s: logs of %s, %s", action.LogDir, ui.FormatCount(len(list), "run"), ui.FormatBytes(o.diskUsage(action.LogDir))))
	}
	foreign, _ := node.ForeignFiles(o.Host, o.journalCluster(j)) // an error shows in the steps
	for _, p := range foreign {
		all = append(all, p+": created by another program")
	}
	return all
}

// withSizes returns found with the size of each path of at least 1 MiB, and the total of
// all sizes in bytes.
func (o resetHost) withSizes(found []string) (texts []string, total int64) {
	const notable = 1 << 20
	for _, what := range found {
		if strings.HasPrefix(what, "/") {
			n := o.diskUsage(what)
			if total += n; n >= notable {
				what += " (" + ui.FormatBytes(n) + ")"
			}
		}
		texts = append(texts, what)
	}
	return texts, total
}

// diskUsage returns the size in bytes of the files at and below path; it does not follow
// links.
func (o resetHost) diskUsage(path string) (total int64) {
	info, err := o.Host.Lstat(path)
	if err != nil || !info.IsDir() {
		if err == nil && info.Mode().IsRegular() {
			total = info.Size()
		}
		return total
	}
	list, _ := o.Host.ReadDir(path) // what cannot be read is not counted
	for _, e := range list {
		total += o.diskUsage(filepath.Join(path, e.Name()))
	}
	return total
}
