package builder

import (
	"archive/zip"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/distro/recipe"
)

// writeProxy writes a module proxy in a folder with one module version, and makes go commands use it.
func writeProxy(t *testing.T, path, version string, withInfo bool) {
	t.Helper()
	proxy, cache := t.TempDir(), t.TempDir()
	base := filepath.Join(proxy, filepath.FromSlash(escapeModule(path)), "@v", version)
	if err := os.MkdirAll(filepath.Dir(base), 0o700); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{".mod": "module " + path + "\n\ngo 1.21\n"}
	if withInfo {
		files[".info"] = `{"Version":"` + version + `","Time":"2026-05-13T16:31:41Z"}`
	}
	for ext, content := range files {
		if err := os.WriteFile(base+ext, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	archive, err := os.Create(base + ".zip")
	if err != nil {
		t.Fatal(err)
	}
	w := zip.NewWriter(archive)
	for name, content := range map[string]string{"go.mod": files[".mod"], "main.go": "package main\n\nimport _ \"example.com/not/there\"\n\nfunc main() {}\n"} {
		f, err := w.Create(path + "@" + version + "/" + name)
		if err == nil {
			_, err = f.Write([]byte(content))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOPROXY", "file://"+proxy)
	t.Setenv("GOMODCACHE", cache)
	t.Cleanup(func() { // its folders cannot be written
		_ = filepath.WalkDir(cache, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				err = os.Chmod(p, 0o700)
			}
			return err
		})
	})
}

func TestModuleDir(t *testing.T) {
	const path, version = "example.com/Upper/mod", "v1.2.3-0.20260513163141-fd5b560f3acb"
	for name, withInfo := range map[string]bool{"complete proxy": true, "proxy without .info": false} {
		t.Run(name, func(t *testing.T) {
			writeProxy(t, path, version, withInfo)
			r := recipe.Recipe{Module: path + "@" + version, Sum: "h1:unknown"}
			_, err := ModuleDir(t.Context(), r)
			if err == nil || !strings.Contains(err.Error(), "its sum is h1:") {
				t.Fatalf("wrong sum: %v", err)
			}
			_, sum, _ := strings.Cut(err.Error(), "its sum is ")
			r.Sum, _, _ = strings.Cut(sum, ",")
			dir, err := ModuleDir(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(dir, "main.go")); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("no such version", func(t *testing.T) {
		writeProxy(t, path, version, false)
		_, err := ModuleDir(t.Context(), recipe.Recipe{Module: path + "@v1.2.4"})
		if err == nil || !strings.Contains(err.Error(), "v1.2.4") {
			t.Errorf("%v", err)
		}
	})
}
