package probe

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/facts"
)

func TestReadRuntimeConfig_FindsWhatK0sReads(t *testing.T) {
	const dir = "/etc/k0s/containerd.d/"
	old, images, runtime := []string{"io.containerd.grpc.v1.cri"}, []string{"io.containerd.cri.v1.images"}, []string{"io.containerd.cri.v1.runtime"}
	for name, c := range map[string]struct {
		files map[string]string
		want  facts.RuntimeConfig
	}{
		"nothing":         {},
		"an empty folder": {files: map[string]string{dir + "certs.d/docker.io/hosts.toml": "x ="}},
		"other endings":   {files: map[string]string{dir + "a.toml.v2": "version = 2", dir + "a.conf": "version = 2"}},
		"an empty file":   {map[string]string{dir + "a.toml": ""}, facts.RuntimeConfig{DropIns: []facts.DropIn{{Path: dir + "a.toml"}}}},
		"tables": {map[string]string{dir + "b.toml": "version = 3\n[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"/x\"\n", dir + ".a.toml": "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\n"},
			facts.RuntimeConfig{DropIns: []facts.DropIn{{Path: dir + ".a.toml", Version: "2", Plugins: old}, {Path: dir + "b.toml", Version: "3", Plugins: images}}}},
		"inline":          {map[string]string{dir + "a.toml": "plugins = {\"io.containerd.cri.v1.runtime\" = {}}"}, facts.RuntimeConfig{DropIns: []facts.DropIn{{Path: dir + "a.toml", Plugins: runtime}}}},
		"dotted":          {map[string]string{dir + "a.toml": "plugins.\"io.containerd.grpc.v1.cri\".restrict_oom_score_adj = true"}, facts.RuntimeConfig{DropIns: []facts.DropIn{{Path: dir + "a.toml", Plugins: old}}}},
		"only in a text":  {map[string]string{dir + "a.toml": "# version = 2\nroot = 'io.containerd.grpc.v1.cri'\n[x]\nversion = 2\n"}, facts.RuntimeConfig{DropIns: []facts.DropIn{{Path: dir + "a.toml"}}}},
		"no number":       {map[string]string{dir + "a.toml": "version = \"3\""}, facts.RuntimeConfig{DropIns: []facts.DropIn{{Path: dir + "a.toml", Version: `"3"`}}}},
		"another type":    {map[string]string{dir + "a.toml": "version = 3.0"}, facts.RuntimeConfig{DropIns: []facts.DropIn{{Path: dir + "a.toml", Version: `"3"`}}}},
		"managed by k0s":  {files: map[string]string{"/etc/k0s/containerd.toml": "\n# k0s_managed=true\nversion = 2\n"}},
		"an own main one": {map[string]string{"/etc/k0s/containerd.toml": "version = 2\n# k0s_managed=true\n"}, facts.RuntimeConfig{Unmanaged: true}},
	} {
		t.Run(name, func(t *testing.T) {
			f := gatherFrom(t, c.files, fakeSystem(), facts.Request{})
			if reason := f.UnknownReason(facts.FactRuntime); reason != "" || !reflect.DeepEqual(f.Runtime, c.want) {
				t.Errorf("%s %+v, want %+v", reason, f.Runtime, c.want)
			}
		})
	}
}

func TestReadRuntimeConfig_ReportsWhatCannotBeRead(t *testing.T) {
	fake := newFakeHost(t, map[string]string{"/etc/k0s/containerd.d/b.toml": "a =\n", "/etc/k0s/containerd.d/folder.toml/x": ""})
	if err := os.Symlink("nothing", filepath.Join(fake.Root, "etc/k0s/containerd.d/a.toml")); err != nil {
		t.Fatal(err)
	}
	f := gatherFacts(t.Context(), newProber(fake.Host(), fakeSystem(), facts.Request{}), time.Minute)
	want := map[string]string{"a": "cannot be read: no such file or directory", "b": "invalid TOML: toml: line 1", "folder": "cannot be read: is a directory"}
	for _, d := range f.Runtime.DropIns {
		name := strings.TrimSuffix(filepath.Base(d.Path), ".toml")
		if !strings.HasPrefix(d.Error, want[name]) || d.Version != "" {
			t.Errorf("%+v, want %s", d, want[name])
		}
	}
	if len(f.Runtime.DropIns) != len(want) {
		t.Errorf("%+v", f.Runtime)
	}
}

func FuzzRuntimeDropIn(f *testing.F) {
	f.Add([]byte("version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = '/x'\n"))
	f.Add([]byte("plugins = [{}, 1]\nversion = [[]]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if d, err := parseRuntimeDropIn(text); err != nil && (d.Version != "" || d.Plugins != nil) {
			t.Errorf("%+v with %v", d, err)
		}
	})
}
