package cache

import (
	"context"
	"os"
	"path/filepath"
	"sync"

	"github.com/plinthdev/plinth/distro/debian"
	"github.com/plinthdev/plinth/distro/oci"
	"github.com/plinthdev/plinth/distro/recipe"
)

// Cache is one distro folder's recipes and the folder where their results are kept.
type Cache struct {
	Dir  string
	Set  *recipe.Set
	Lock *debian.Lock

	keys    map[string]string // recipe name → hash of all that decides its output
	host    string            // versions of the builder and of Go
	finding sync.Mutex        // guards mirror
	mirror  *debian.Mirror    // nil until something from Debian is needed
}

// Open reads the recipes and the lock in distro and computes every part's key.
func Open(ctx context.Context, distro, dir string) (*Cache, error) {
	set, err := recipe.Load(distro)
	if err != nil {
		return nil, err
	}
	lock, err := debian.Load(filepath.Join(distro, debian.LockFile))
	if err != nil {
		return nil, err
	}
	c := &Cache{Dir: dir, Set: set, Lock: lock}
	return c, c.computeKeys(ctx)
}

// Layout is the folder of the layout that these recipes make.
func (c *Cache) Layout() string { return filepath.Join(c.Dir, "payload", c.layoutKey()) }

// CompleteMark is the file that stands in a layout that lacks nothing.
func (c *Cache) CompleteMark() string { return filepath.Join(c.Layout(), ".complete") }

// Complete tells whether the layout lacks nothing.
func (c *Cache) Complete() bool {
	_, err := os.Stat(c.CompleteMark())
	return err == nil
}

// PartDir is where a recipe's output stands once it is built.
func (c *Cache) PartDir(name string) string { return filepath.Join(c.Dir, "parts", name, c.keys[name]) }

// PartKey is the hash of all that decides a recipe's output.
func (c *Cache) PartKey(name string) string { return c.keys[name] }

// Built tells whether a recipe's output is there.
func (c *Cache) Built(name string) bool {
	_, err := os.Stat(c.PartDir(name))
	return err == nil
}

// Blobs is the store of everything that layouts hold.
func (c *Cache) Blobs() oci.Store { return oci.Store{Dir: filepath.Join(c.Dir, "blobs")} }

// Deb returns the file of an entry of debian.lock, downloaded if need be.
func (c *Cache) Deb(ctx context.Context, name string) (string, error) {
	entry, err := c.Lock.Get(name)
	if err != nil {
		return "", err
	}
	mirror, err := c.Mirror(ctx)
	if err != nil {
		return "", err
	}
	return mirror.Fetch(ctx, entry)
}

// Mirror finds Debian's mirror the first time that one is needed.
func (c *Cache) Mirror(ctx context.Context) (*debian.Mirror, error) {
	c.finding.Lock()
	defer c.finding.Unlock()
	if c.mirror != nil {
		return c.mirror, nil
	}
	var err error
	c.mirror, err = debian.NewMirror(ctx, filepath.Join(c.Dir, "downloads"))
	return c.mirror, err
}
