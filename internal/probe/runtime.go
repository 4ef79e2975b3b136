package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/plinthdev/plinth/internal/facts"
)

// The files from which k0s configures containerd (k0s 1.36.3, pkg/component/worker/containerd/component_other.go).
const (
	containerdConfigPath = "/etc/k0s/containerd.toml"
	containerdDropInDir  = "/etc/k0s/containerd.d"
)

func (pr prober) gatherRuntime(context.Context) partResult {
	c, err := readRuntimeConfig(pr.files)
	return newPartResult(facts.FactRuntime, err, func(f *facts.Facts) { f.Runtime = c })
}

// readRuntimeConfig returns the configuration of k0s's containerd. k0s reads what matches *.toml in the folder,
// hidden files included, and does not start if one of them cannot be read.
func readRuntimeConfig(f Files) (facts.RuntimeConfig, error) {
	c := facts.RuntimeConfig{Unmanaged: f.Exists(containerdConfigPath) && !isManagedByK0s(f.ReadText(containerdConfigPath))}
	entries, err := f.ReadDir(containerdDropInDir)
	if isMissing(err) {
		return c, nil
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".toml") {
			continue
		}
		c.DropIns = append(c.DropIns, readRuntimeDropIn(f, path.Join(containerdDropInDir, e.Name())))
	}
	return c, err
}

// readRuntimeDropIn returns the drop-in at p.
func readRuntimeDropIn(f Files, p string) facts.DropIn {
	text, err := f.ReadFile(p)
	var d facts.DropIn
	if err == nil {
		d, err = parseRuntimeDropIn(text)
	}
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
		err = fmt.Errorf("cannot be read: %w", failed.Err)
	}
	if err != nil {
		d.Error = err.Error()
	}
	d.Path = p
	return d
}

// isManagedByK0s reports whether k0s has written the main configuration of containerd, and replaces it (isK0sManagedConfig
// of k0s 1.33.8 and 1.36.3, without the digest of the file of k0s 1.26). text has no white space around it.
func isManagedByK0s(text string) bool {
	first, _, _ := strings.Cut(text, "\n")
	return strings.TrimSuffix(first, "\r") == "# k0s_managed=true"
}

// parseRuntimeDropIn returns the version and the plug-ins of a drop-in, without its path.
func parseRuntimeDropIn(text []byte) (d facts.DropIn, err error) {
	var file map[string]any
	if err := toml.Unmarshal(text, &file); err != nil {
		return d, fmt.Errorf("invalid TOML: %w", err)
	}
	switch v := file["version"].(type) {
	case nil:
	case int64:
		d.Version = fmt.Sprint(v)
	default: // k0s and containerd accept only an integer
		d.Version = fmt.Sprintf("%q", fmt.Sprint(v))
	}
	plugins, _ := file["plugins"].(map[string]any)
	for _, name := range slices.Concat([]string{facts.RuntimePlugin1}, facts.RuntimePlugins2()) {
		if _, ok := plugins[name]; ok {
			d.Plugins = append(d.Plugins, name)
		}
	}
	return d, nil
}
