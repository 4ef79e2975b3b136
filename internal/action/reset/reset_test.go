package reset

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/testkit"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/firewall"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

// newOperation returns a reset of a fake host whose data folder is dir.
func newOperation(t *testing.T, dir string) (resetHost, *hosttest.Fake) {
	t.Helper()
	f := hosttest.New(t)
	testkit.Must(t, os.MkdirAll(filepath.Join(f.Root, "/proc/self"), 0o755))
	testkit.Must(t, os.WriteFile(filepath.Join(f.Root, "/proc/self/mountinfo"), []byte("24 1 254:1 / / rw - ext4 /dev/vda1 rw\n"), 0o600))
	return resetHost{&action.Env{Host: f.Host(), GlobalOptions: action.GlobalOptions{DataDir: dir, Now: time.Now, Note: func(string) {}, Events: func(step.Event) {},
		Confirm: func(context.Context, string) error { return nil }}}}, f
}

// resetCluster is RunCluster without the lock and the check for root.
func (o resetHost) resetCluster(ctx context.Context, opts Options) (Result, error) {
	r := operation{verb: "reset cluster", opts: opts}
	out, err := action.ExecuteLocked(ctx, o.Env, r.engineOperation())
	return r.result(ctx, o.Env, out), err
}

// resetNode is RunNode without the lock and the check for root.
func (o resetHost) resetNode(ctx context.Context, opts NodeOptions) (Result, error) {
	r := operation{verb: resetNodeVerb, opts: opts.Options, node: &opts}
	out, err := action.ExecuteLocked(ctx, o.Env, r.engineOperation())
	return r.result(ctx, o.Env, out), err
}

func TestResetCluster_RestoresTheDataFolder(t *testing.T) {
	for name, mode := range map[string]os.FileMode{"there was none": 0, "the administrator's": 0o750} {
		t.Run(name, func(t *testing.T) {
			o, f := newOperation(t, "/data/plinth")
			dir, pointer := filepath.Join(f.Root, "/data/plinth"), filepath.Join(f.Root, journal.PointerFile)
			testkit.Must(t, os.MkdirAll(filepath.Dir(dir), 0o755))
			testkit.Must(t, os.MkdirAll(filepath.Dir(pointer), 0o755))
			if mode != 0 {
				testkit.Must(t, os.Mkdir(dir, mode))
			}
			j, err := o.OpenJournal()
			testkit.Must(t, err)
			testkit.Must(t, j.BeginRun("install", journal.Args{}))
			testkit.Must(t, os.WriteFile(filepath.Join(dir, "receipt.json"), nil, 0o600))
			testkit.Must(t, os.Mkdir(filepath.Join(dir, node.BeforeDir), 0o700))
			testkit.Must(t, os.WriteFile(pointer, []byte("/data/plinth\n"), 0o600))
			if got := journal.FindDir(o.Host); got != "/data/plinth" {
				t.Fatalf("other commands look in %s", got)
			}
			res, err := o.resetCluster(t.Context(), Options{})
			testkit.Must(t, err)
			info, err := os.Stat(dir)
			if there := err == nil; !res.Changed || there != (mode != 0) || there && info.Mode().Perm() != mode {
				t.Errorf("%+v: %v %v", res, info, err)
			}
			if _, err := os.Stat(pointer); err == nil {
				t.Error("the pointer is still there")
			}
		})
	}
}

func TestJournalCluster_ARollbackCreatesNoFiles(t *testing.T) {
	o, _ := newOperation(t, "/data/plinth")
	j, err := o.OpenJournal()
	testkit.Must(t, err)
	for verb, affects := range map[string][]string{"k0s-config": {"/etc/k0s/k0s.yaml"}, plan.RollbackFilesID: {"/etc/k0s/k0s.yaml", "/etc/k0s/containerd.d/mine.toml", "/etc/k0s/containerd.d"}} {
		testkit.Must(t, j.BeginRun("install", journal.Args{}))
		testkit.Must(t, j.BeginStep(verb, affects))
	}
	if got, want := o.journalCluster(j).WrittenPaths, []string{k0s.ContainerdConfigPath, "/etc/k0s/k0s.yaml"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLeftoverKinds_IncludeTheRulesOfFirewalls(t *testing.T) {
	for name, c := range map[string]struct {
		rules []firewall.Rules
		want  []string
	}{
		"not configured": {nil, nil},
		"firewalld":      {[]firewall.Rules{{Kind: firewall.Firewalld}}, []string{"processes", "host-firewall", "files"}},
	} {
		t.Run(name, func(t *testing.T) {
			o, _ := newOperation(t, "/data/plinth")
			j, err := o.OpenJournal()
			testkit.Must(t, err)
			testkit.Must(t, j.BeginRun("install", journal.Args{}))
			testkit.Must(t, j.BeginStep(plan.RecordHostStateID, nil))
			testkit.Must(t, j.SaveState(plan.RecordHostStateID, cleanup.HostState{}))
			if c.rules != nil {
				testkit.Must(t, j.BeginStep(plan.FirewallID, nil))
				testkit.Must(t, j.SaveState(plan.FirewallID, plan.FirewallState{Request: "auto", Rules: c.rules}))
			}
			kinds, err := o.leftoverKinds(j)
			testkit.Must(t, err)
			var ids []string
			for _, k := range kinds {
				if slices.Contains([]string{"processes", "host-firewall", "files"}, k.ID) {
					ids = append(ids, k.ID)
				}
			}
			if c.want == nil {
				c.want = []string{"processes", "files"}
			}
			if !slices.Equal(ids, c.want) {
				t.Errorf("%q, want %q", ids, c.want)
			}
		})
	}
}

func TestResetCluster_RemovesOnlyItsOwnProgram(t *testing.T) {
	const own = "this plinth"
	for name, c := range map[string]struct {
		before  string // content before the install; "" for no file
		now     string // content at the end; "" for what the install left
		lost    bool   // the state of the host before the install is not recorded
		removed bool
	}{
		"as it was put there":     {"", "", false, true},
		"with its record missing": {"", "", true, true},
		"replaced by its owner":   {"", "a newer plinth", false, false},
		"replaced, record lost":   {"", "a newer plinth", true, false},
		"a copy of its owner":     {own, "", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			o, f := newOperation(t, "/data/plinth")
			testkit.Must(t, os.MkdirAll(filepath.Join(f.Root, "/data"), 0o755))
			j := installed(t, o, f)
			path := filepath.Join(f.Root, node.ProgramPath)
			testkit.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			if c.before != "" {
				testkit.Must(t, os.WriteFile(path, []byte(c.before), 0o750))
			}
			put := plan.Install(plan.Cluster{Host: o.Host, StateStore: j, ProgramFile: node.Artifact{Path: node.ProgramPath, Mode: 0o755, Size: int64(len(own)), Digest: digest.FromString(own),
				Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(own)), nil }}})[2:3]
			testkit.Must(t, j.BeginRun("install", journal.Args{}))
			_, err := o.StepRunner("install", j).Run(t.Context(), put)
			if c.now != "" {
				testkit.Must(t, os.WriteFile(path, []byte(c.now), 0o755))
			}
			testkit.Must(t, err, j.EndRun(nil))
			if before := "/data/plinth/" + node.BeforeDir; c.lost {
				testkit.Must(t, o.Host.RemoveAll(before))
			} else {
				testkit.Must(t, o.Host.MkdirAll(before, 0o700))
			}
			res, err := o.resetCluster(t.Context(), Options{Yes: true, Cluster: "my-app"})
			testkit.Must(t, err)
			if _, err := os.Stat(path); (err != nil) != c.removed || (res.Program == node.ProgramPath) != c.removed {
				t.Errorf("%v; %+v", err, res)
			}
		})
	}
}

// installed returns a journal with a finished install of my-app, and creates a volume.
func installed(t *testing.T, o resetHost, f *hosttest.Fake) *journal.Journal {
	t.Helper()
	j, err := o.OpenJournal()
	testkit.Must(t, err)
	testkit.Must(t, j.BeginRun("install", journal.Args{Cluster: "my-app"}))
	testkit.Must(t, j.EndRun(nil))
	volume := filepath.Join(f.Root, o.DataDir, "volumes/pvc-1")
	testkit.Must(t, os.MkdirAll(volume, 0o755))
	testkit.Must(t, os.WriteFile(filepath.Join(volume, "data"), []byte("precious"), 0o600))
	return j
}

// A link in the path of k0s's data hides what the cluster runs and mounts: a reset that removes only the
// link would say that it is done.
func TestResetCluster_RefusesLinkToDataDir(t *testing.T) {
	for link, hint := range map[string]string{"/var/lib/k0s": "target=$(readlink -f /var/lib/k0s); ", "/var/lib": "in a rescue system", "/var": "in a rescue system"} {
		t.Run(link, func(t *testing.T) {
			o, f := newOperation(t, "/data/plinth")
			j, err := o.OpenJournal()
			testkit.Must(t, err)
			testkit.Must(t, j.BeginRun("install", journal.Args{}))
			testkit.Must(t, os.MkdirAll(filepath.Join(f.Root, filepath.Dir(link)), 0o755))
			testkit.Must(t, os.Symlink("/data/none", filepath.Join(f.Root, link)))
			res, err := o.resetCluster(t.Context(), Options{})
			if problem.ExitCode(err) != problem.ExitUsage || res.Changed || !strings.Contains(err.Error(), link+" is a symbolic link") || !strings.Contains(problem.Hint(err), hint) {
				t.Errorf("%+v, %v: %s", res, err, problem.Hint(err))
			}
		})
	}
}

func TestConfirmByName_RequiresTheNameOfTheCluster(t *testing.T) {
	typed := errors.New("asked to type")
	for name, c := range map[string]struct {
		req  Options
		code int
		want string
	}{
		"prompted":             {Options{}, problem.ExitInternal, "asked to type"},
		"its name, yes":        {Options{Yes: true, Cluster: "my-app"}, 0, ""},
		"yes without its name": {Options{Yes: true}, problem.ExitUsage, "--yes alone"},
		"another name":         {Options{Yes: true, Cluster: "other"}, problem.ExitUsage, "the cluster of this host is my-app, not other"},
		"its name without yes": {Options{Cluster: "my-app"}, problem.ExitInternal, "asked to type"},
	} {
		t.Run(name, func(t *testing.T) {
			o, f := newOperation(t, "/data/plinth")
			o.ConfirmTyped = func(_ context.Context, _, word, instead string) error {
				if word != "my-app" || instead != "--yes --cluster NAME" {
					t.Errorf("prompted for %q, or %q", word, instead)
				}
				return typed
			}
			err := o.confirmByName(t.Context(), installed(t, o, f), c.req)
			if problem.ExitCode(err) != c.code || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestResetCluster_RetainsVolumesUnlessDeleteDataIsSet(t *testing.T) {
	o, f := newOperation(t, "/data/plinth")
	installed(t, o, f)
	yes := Options{Yes: true, Cluster: "my-app"}
	planned, err := o.resetCluster(t.Context(), Options{DryRun: true})
	if err != nil || len(planned.Retained) == 0 || !strings.HasPrefix(planned.Retained[0], "/data/plinth/volumes: data of 1 volume, 8 B") {
		t.Errorf("dry run: %+v, %v", planned, err)
	}
	res, err := o.resetCluster(t.Context(), yes)
	if err != nil || len(res.Retained) == 0 || !strings.HasPrefix(res.Retained[0], "/data/plinth/volumes: data of 1 volume, 8 B") {
		t.Errorf("%+v, %v", res, err)
	}
	left, err := os.ReadDir(filepath.Join(f.Root, o.DataDir))
	if err != nil || len(left) != 2 || left[0].Name() != journal.RetainedFile || left[1].Name() != "volumes" {
		t.Fatalf("the folder contains %v, %v", left, err)
	}
	if why := journal.UnusableReason(o.Host, o.DataDir); why != "" {
		t.Errorf("the next install may not use the folder: it %s", why)
	}
	if res, err := o.resetCluster(t.Context(), yes); err != nil || res.Changed || len(res.Retained) == 0 {
		t.Errorf("again: %+v, %v", res, err)
	}
	yes.DeleteData = true
	if res, err := o.resetCluster(t.Context(), yes); err != nil || !res.Changed || !res.DataOnly || res.DeletedVolumes != 1 {
		t.Errorf("with --delete-data: %+v, %v", res, err)
	}
	if _, err := os.Stat(filepath.Join(f.Root, o.DataDir)); err == nil {
		t.Error("the folder is still there")
	}
}

func TestReset_PromptsSayWhatIsDeleted(t *testing.T) {
	const removes = "This removes the cluster my-app from this host, with the application, the admin console and everything else that runs in it.\n"
	for name, c := range map[string]struct {
		before func(t *testing.T, o resetHost, f *hosttest.Fake) // what happened on the host
		opts   Options
		want   string // the prompt; "" for none
	}{
		"volumes are kept": {func(t *testing.T, o resetHost, f *hosttest.Fake) { installed(t, o, f) }, Options{},
			removes + "The data of 1 volume (8 B) in /data/plinth/volumes is kept; --delete-data would delete it.\nType the name of the cluster to confirm:"},
		"volumes are deleted": {func(t *testing.T, o resetHost, f *hosttest.Fake) { installed(t, o, f) }, Options{DeleteData: true},
			removes + "The data of 1 volume (8 B) in /data/plinth/volumes is deleted for good.\nType the name of the cluster to confirm:"},
		"no volumes": {func(t *testing.T, o resetHost, f *hosttest.Fake) {
			installed(t, o, f)
			testkit.Must(t, os.RemoveAll(filepath.Join(f.Root, o.DataDir, "volumes")))
		}, Options{DeleteData: true}, removes + "Type the name of the cluster to confirm:"},
		"kept volumes": {keptVolumes, Options{DeleteData: true},
			"This host has only volumes of the cluster my-app, which was removed earlier.\nThe data of 1 volume (8 B) in /data/plinth/volumes is deleted for good.\nDelete it?"},
		"kept volumes, not deleted": {keptVolumes, Options{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o, f := newOperation(t, "/data/plinth")
			c.before(t, o, f)
			var asked string
			o.Confirm = func(_ context.Context, question string) error { asked = question; return errors.New("no") }
			o.ConfirmTyped = func(ctx context.Context, question, _, _ string) error { return o.Confirm(ctx, question) }
			_, err := o.resetCluster(t.Context(), c.opts)
			if asked != c.want || (err != nil) != (c.want != "") {
				t.Errorf("%v; prompt:\n%s", err, asked)
			}
			data, err := os.ReadFile(filepath.Join(f.Root, o.DataDir, "volumes/pvc-1/data"))
			if name != "no volumes" && string(data) != "precious" {
				t.Errorf("the data is %q, %v", data, err)
			}
		})
	}
	t.Run("kept volumes of another cluster", func(t *testing.T) {
		o, f := newOperation(t, "/data/plinth")
		keptVolumes(t, o, f)
		if _, err := o.resetCluster(t.Context(), Options{Yes: true, Cluster: "other", DeleteData: true}); problem.ExitCode(err) != problem.ExitUsage {
			t.Errorf("%v", err)
		}
	})
}

// keptVolumes resets a host so that the volumes are kept.
func keptVolumes(t *testing.T, o resetHost, f *hosttest.Fake) {
	t.Helper()
	installed(t, o, f)
	_, err := o.resetCluster(t.Context(), Options{Yes: true, Cluster: "my-app"})
	testkit.Must(t, err)
}

func TestResetCluster_WorksWithDamagedReceipt(t *testing.T) {
	o, f := newOperation(t, "/data/plinth")
	installed(t, o, f)
	testkit.WriteFiles(t, f.Root, 0o600, map[string]string{"/data/plinth/receipt.json": "{"})
	res, err := o.resetCluster(t.Context(), Options{Yes: true, Cluster: "my-app", DeleteData: true})
	if _, left := os.Stat(filepath.Join(f.Root, o.DataDir)); err != nil || !res.Changed || left == nil {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestResetCluster_OfAWorkerProposesToRemoveTheNode(t *testing.T) {
	for role, want := range map[string]bool{"worker": true, "controller": false} {
		t.Run(role, func(t *testing.T) {
			o, f := newOperation(t, "/data/plinth")
			installed(t, o, f)
			testkit.Must(t, journal.WriteReceipt(o.Host, o.DataDir, journal.Receipt{Name: "my-app", Role: role}))
			if res, err := o.resetCluster(t.Context(), Options{DryRun: true}); err != nil || res.IsOneOfSeveral != want || res.DataOnly || res.DeletedVolumes != 0 {
				t.Errorf("%+v, %v", res, err)
			}
		})
	}
}
