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

// Cache holds the recipes of one distro folder and the folder in which their
// outputs are kept.
type Cache struct {
	Dir  string
	Set  *recipe.Set
	Lock *debian.Lock

	keys      map[string]string // recipe name → hash of everything that determines its output
	toolchain string            // versions of the builder and of Go
	mirrorMu  sync.Mutex        // guards mirror
	mirror    *debian.Mirror    // nil until a file from Debian is needed
}

// Open returns the cache in the folder dir for the recipes in the folder distro, or
// for a variant of them. It reads the recipes and the lock file and computes the key
// of every part.
func Open(ctx context.Context, distro, variant, dir string) (*Cache, error) {
	set, err := recipe.Load(distro, variant)
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

// LayoutDir returns the folder of the OCI layout that is built from these recipes.
func (c *Cache) LayoutDir() string { return filepath.Join(c.Dir, "payload", c.layoutKey()) }

// CompleteMarker returns the path of the file that marks the layout as complete.
func (c *Cache) CompleteMarker() string { return filepath.Join(c.LayoutDir(), ".complete") }

// IsComplete reports whether the layout has every part.
func (c *Cache) IsComplete() bool {
	_, err := os.Stat(c.CompleteMarker())
	return err == nil
}

// PartDir returns the folder that holds a recipe's output once it is built.
func (c *Cache) PartDir(name string) string { return filepath.Join(c.Dir, "parts", name, c.keys[name]) }

// PartKey returns the hash of everything that determines a recipe's output.
func (c *Cache) PartKey(name string) string { return c.keys[name] }

// IsBuilt reports whether a recipe's output exists.
func (c *Cache) IsBuilt(name string) bool {
	_, err := os.Stat(c.PartDir(name))
	return err == nil
}

// BlobStore returns the store of the blobs of all layouts.
func (c *Cache) BlobStore() oci.Store { return oci.Store{Dir: filepath.Join(c.Dir, "blobs")} }

// FetchDeb returns the path of the file that an entry of debian.lock pins. It
// downloads the file if it is missing.
func (c *Cache) FetchDeb(ctx context.Context, name string) (string, error) {
	entry, err := c.Lock.Get(name)
	if err != nil {
		return "", err
	}
	mirror, err := c.OpenMirror(ctx)
	if err != nil {
		return "", err
	}
	return mirror.Fetch(ctx, entry)
}

// OpenMirror returns the Debian mirror. The first call asks apt for it.
func (c *Cache) OpenMirror(ctx context.Context) (*debian.Mirror, error) {
	c.mirrorMu.Lock()
	defer c.mirrorMu.Unlock()
	if c.mirror != nil {
		return c.mirror, nil
	}
	var err error
	c.mirror, err = debian.NewMirror(ctx, filepath.Join(c.Dir, "downloads"))
	return c.mirror, err
}
