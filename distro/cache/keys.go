// Package cache locates everything that is built, by its key: the outputs of
// parts, the layout and the files downloaded from Debian. It builds nothing.
package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/plinthdev/plinth/distro/recipe"
	"github.com/plinthdev/plinth/internal/problem"
)

// builderVersion is part of every key. Increase it when a change of the code
// makes other bytes from the same recipe.
const builderVersion = "1"

// computeKeys computes for every recipe the hash of everything that determines
// its output: the files in its folders, the Debian pins and tool versions that it
// uses, and the keys of the recipes that it needs.
func (c *Cache) computeKeys(ctx context.Context) error {
	tools := toolVersions(ctx)
	goVersion, err := tools("go")
	if err != nil {
		return err
	}
	c.toolchain = builderVersion + " " + goVersion
	c.keys = map[string]string{}
	for _, name := range c.Set.Order {
		r := c.Set.Recipes[name]
		h := sha256.New()
		fmt.Fprintln(h, c.toolchain)
		for _, tool := range r.Tools {
			v, err := tools(tool)
			if err != nil {
				return err
			}
			fmt.Fprintln(h, v)
		}
		for _, deb := range r.Debs {
			entry, err := c.Lock.Get(deb)
			if err != nil {
				return err
			}
			fmt.Fprintln(h, entry)
		}
		for _, need := range r.Needs {
			fmt.Fprintln(h, need, c.keys[need])
		}
		for _, dir := range r.Dirs {
			if err := hashFolder(h, dir); err != nil {
				return err
			}
		}
		c.keys[name] = hex.EncodeToString(h.Sum(nil))[:20]
	}
	return nil
}

// layoutKey returns the hash of every part's key, of payload.yaml and of the
// Debian pins. It is computed from JSON: a renamed field of a type in Payload or
// of debian.Entry changes it, unless a json tag keeps the old name.
func (c *Cache) layoutKey() string {
	return c.HashKey(c.keys, c.Set.Payload, c.Lock.Entries)
}

// TreeKey returns the hash of everything that determines a layer's bytes. As in
// layoutKey, the names of recipe.Tree's fields are part of it.
func (c *Cache) TreeKey(t recipe.Tree, epoch int64) (string, error) {
	parts, pins := map[string]string{}, []string{}
	for _, f := range t.Files {
		if p := f.From.Part(); p != "" {
			parts[p] = c.keys[p]
		}
	}
	for _, name := range t.DebNames() {
		entry, err := c.Lock.Get(name)
		if err != nil {
			return "", err
		}
		pins = append(pins, entry.String())
	}
	return c.HashKey(t, epoch, parts, pins), nil
}

// HashKey returns the key of any other result that docs and the builder determine.
func (c *Cache) HashKey(docs ...any) string {
	h := sha256.New()
	fmt.Fprintln(h, c.toolchain)
	for _, d := range docs {
		b, _ := json.Marshal(d) // maps come out sorted; none of these types can fail
		h.Write(append(b, '\n'))
	}
	return hex.EncodeToString(h.Sum(nil))[:20]
}

// hashFolder writes the name and content of every file below dir to h, in
// lexical order.
func hashFolder(h interface{ Write([]byte) (int, error) }, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		fmt.Fprintf(h, "%s %d\n", rel, len(b))
		_, err = h.Write(b)
		return err
	})
}

// toolVersions returns a function that returns the first line of a tool's version
// output. It runs each tool once.
func toolVersions(ctx context.Context) func(string) (string, error) {
	var mu sync.Mutex
	known := map[string]string{}
	return func(tool string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if v, ok := known[tool]; ok {
			return v, nil
		}
		arg := "--version"
		if tool == "go" {
			arg = "version"
		}
		cmd := exec.CommandContext(ctx, tool, arg)
		cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local")
		out, err := cmd.Output()
		if err != nil {
			return "", problem.New(problem.ExitUsage, "read the version of "+tool, err, "install "+tool)
		}
		first, _, _ := strings.Cut(string(out), "\n")
		known[tool] = first
		return first, nil
	}
}
