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

	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/ui"
)

// volumesDir is the folder in the data folder where volumes are.
const volumesDir = "volumes"

// agree asks for the name of the cluster, or takes it from the request: a
// cluster must not go because somebody was on the wrong host.
func (a job) agree(ctx context.Context, j *journal.Journal, req Request) error {
	const doing = "reset cluster"
	name := run.ClusterName(j)
	if r, ok, err := journal.ReadReceipt(a.Host, a.DataDir); err == nil && ok {
		name = r.Name
	}
	what := "with its volumes"
	if !req.DeleteData {
		what = "and keep its volumes"
	}
	instead := "--yes --cluster NAME"
	switch {
	case name == "" && req.Yes:
		return nil
	case name == "":
		return a.Confirm(ctx, "Take off this host what an install without a name left, "+what+"?")
	case req.Cluster != "" && req.Cluster != name:
		return problem.Newf(problem.ExitUsage, doing, "nothing was changed; are you on the right host?", "the cluster of this host is %s, not %s", name, req.Cluster)
	case req.Cluster != "" && req.Yes:
		return nil
	case req.Yes:
		return problem.Newf(problem.ExitUsage, doing, "add --cluster "+name+" if that is the one you mean; nothing was changed", "--yes alone does not say which cluster is to go")
	}
	return a.Type(ctx, "This removes the cluster "+name+" from this host, "+what+". Type its name to agree:", name, instead)
}

// keeping names the entries of the data folder that stay.
func (a job) keeping(deleteData bool) []string {
	list, err := a.Host.ReadDir(filepath.Join(a.DataDir, volumesDir))
	if deleteData || err != nil || len(list) == 0 {
		return nil
	}
	return []string{volumesDir, journal.KeptFile}
}

// markKept says in the data folder what was kept there, so that the next
// install may use the folder, and the next reset finds it.
func (a job) markKept(keep []string, cluster string) error {
	path := filepath.Join(a.DataDir, journal.KeptFile)
	if _, err := a.Host.Lstat(path); err == nil || len(keep) == 0 {
		return nil
	}
	raw, err := json.Marshal(map[string]any{"version": 1, "cluster": cluster, "kept": []string{volumesDir}, "when": a.Now().UTC().Format(time.RFC3339)})
	if err != nil {
		return err
	}
	return a.Host.Write(path, bytes.NewReader(append(raw, '\n')), 0o600)
}

// kept lists for a person what a reset leaves on purpose.
func (a job) kept(j *journal.Journal, keep []string) []string {
	var all []string
	if slices.Contains(keep, volumesDir) {
		dir := filepath.Join(a.DataDir, volumesDir)
		list, _ := a.Host.ReadDir(dir) // keeping has just read it
		all = append(all, fmt.Sprintf("%s: data of %d volumes, %s; --delete-data removes it", dir, len(list), ui.Bytes(a.size(dir))))
	}
	if list, err := a.Host.ReadDir(run.LogDir); err == nil && len(list) > 0 {
		all = append(all, fmt.Sprintf("%s: logs of %d runs, %s", run.LogDir, len(list), ui.Bytes(a.size(run.LogDir))))
	}
	foreign, _ := node.Foreign(a.Host, a.cluster(j)) // a look that fails shows in the steps
	for _, p := range foreign {
		all = append(all, p+": put there by somebody else")
	}
	return all
}

// sized adds to each path how large it is, where that is worth a word, and
// counts all.
func (a job) sized(found []string) (said []string, total int64) {
	const worth = 1 << 20
	for _, what := range found {
		if strings.HasPrefix(what, "/") {
			n := a.size(what)
			if total += n; n >= worth {
				what += " (" + ui.Bytes(n) + ")"
			}
		}
		said = append(said, what)
	}
	return said, total
}

// size is the bytes in the files at and below a path; links are not followed.
func (a job) size(path string) (total int64) {
	info, err := a.Host.Lstat(path)
	if err != nil || !info.IsDir() {
		if err == nil && info.Mode().IsRegular() {
			total = info.Size()
		}
		return total
	}
	list, _ := a.Host.ReadDir(path) // what cannot be read is not counted
	for _, e := range list {
		total += a.size(filepath.Join(path, e.Name()))
	}
	return total
}
