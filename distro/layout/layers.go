package layout

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/distro/debian"
	"github.com/plinthdev/plinth/distro/oci"
	"github.com/plinthdev/plinth/distro/recipe"
)

// buildLayer returns the blob of a tree. It packs the tree unless the cache has
// the blob. All parts that the tree uses must be built.
func (a *Writer) buildLayer(ctx context.Context, t recipe.Tree, epoch int64) (oci.Blob, error) {
	key, err := a.Cache.TreeKey(t, epoch)
	if err != nil {
		return oci.Blob{}, err
	}
	return a.cachedBlob("layers", key, func() (oci.Blob, error) {
		tree, err := a.buildTree(ctx, t)
		if err != nil {
			return oci.Blob{}, err
		}
		return a.Cache.BlobStore().PutLayer(tree, time.Unix(epoch, 0))
	})
}

// cachedBlob returns the blob that the cache holds under kind and key. If there is
// none, it calls create and stores the result.
func (a *Writer) cachedBlob(kind, key string, create func() (oci.Blob, error)) (oci.Blob, error) {
	file := filepath.Join(a.Cache.Dir, kind, key+".json")
	var b oci.Blob
	if doc, err := os.ReadFile(file); err == nil && json.Unmarshal(doc, &b) == nil && a.Cache.BlobStore().HasBlob(b.Digest, b.Size) {
		return b, nil
	}
	b, err := create()
	if err != nil {
		return oci.Blob{}, err
	}
	doc, err := json.Marshal(b)
	if err != nil {
		return oci.Blob{}, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return oci.Blob{}, err
	}
	return b, oci.ReplaceFile(file, doc)
}

// buildTree returns the content of a layer.
func (a *Writer) buildTree(ctx context.Context, t recipe.Tree) (oci.Tree, error) {
	out := oci.Tree{}
	var faults []error
	add := func(name string, entry oci.Entry) { faults = append(faults, out.Add(name, entry)) }
	for name, d := range t.Dirs {
		add(name, oci.Entry{Dir: true, Mode: d.Mode, Owner: d.Owner})
	}
	for name, target := range t.Links {
		add(name, oci.Entry{Link: target})
	}
	for _, name := range t.Applets.Names {
		add(t.Applets.Dir+"/"+name, oci.Entry{Link: t.Applets.Target})
	}
	for deb, keep := range t.Debs {
		faults = append(faults, a.addDeb(ctx, out, deb, keep))
	}
	for name, f := range t.Files {
		faults = append(faults, a.addFile(ctx, out, name, f))
	}
	return out, errors.Join(faults...)
}

// addDeb adds the paths of a Debian package that match keep, and always its
// copyright file. A pattern without a match is an error.
func (a *Writer) addDeb(ctx context.Context, out oci.Tree, name string, keep []string) error {
	file, err := a.Cache.FetchDeb(ctx, name)
	if err != nil {
		return err
	}
	used := make([]bool, len(keep))
	err = debian.WalkFiles(ctx, file, func(h *tar.Header, r io.Reader) error {
		i := slices.IndexFunc(keep, func(want string) bool { return matchesPath(want, h.Name) })
		if i >= 0 {
			used[i] = true
		} else if !strings.HasPrefix(h.Name, "/usr/share/doc/") || path.Base(h.Name) != "copyright" {
			return nil
		}
		return addTarEntry(out, h, r)
	})
	if i := slices.Index(used, false); err == nil && i >= 0 {
		return fmt.Errorf("package %s has no file that matches %s", name, keep[i])
	}
	return err
}

// matchesPath reports whether the path name matches want: a path, a pattern, or a
// folder that ends in a slash.
func matchesPath(want, name string) bool {
	if dir, ok := strings.CutSuffix(want, "/"); ok {
		return strings.HasPrefix(name, dir+"/")
	}
	match, err := path.Match(want, name)
	return err == nil && match
}

func addTarEntry(out oci.Tree, h *tar.Header, r io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		return nil // parent folders are added when the layer is written
	case tar.TypeSymlink:
		return out.Add(h.Name, oci.Entry{Link: h.Linkname})
	case tar.TypeReg:
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		return out.Add(h.Name, oci.Entry{Data: b, Mode: uint32(h.Mode) & 0o755})
	}
	return fmt.Errorf("%s: tar entries of type %q are not supported", h.Name, h.Typeflag)
}

func (a *Writer) addFile(ctx context.Context, out oci.Tree, name string, f recipe.File) error {
	switch {
	case f.Concat != nil:
		b, err := a.concatFiles(ctx, *f.Concat)
		if err != nil {
			return err
		}
		return out.Add(name, oci.Entry{Data: b, Mode: modeOr(f.Mode, 0o644)})
	case f.From == "":
		return out.Add(name, oci.Entry{Data: []byte(f.Text), Mode: modeOr(f.Mode, 0o644)})
	}
	from := filepath.Join(a.Cache.PartDir(f.From.Part()), f.From.Path())
	return filepath.WalkDir(from, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := uint32(0o644)
		if info.Mode()&0o111 != 0 {
			mode = 0o755
		}
		return out.Add(name+strings.TrimPrefix(file, from), oci.Entry{File: file, Mode: modeOr(f.Mode, mode), NetBindService: f.NetBindService})
	})
}

// concatFiles returns the concatenated files below a path prefix of a package, in
// the order of their names.
func (a *Writer) concatFiles(ctx context.Context, c recipe.Concat) ([]byte, error) {
	file, err := a.Cache.FetchDeb(ctx, c.Deb)
	if err != nil {
		return nil, err
	}
	found := oci.Tree{}
	err = debian.WalkFiles(ctx, file, func(h *tar.Header, r io.Reader) error {
		if h.Typeflag != tar.TypeReg || !strings.HasPrefix(h.Name, c.Prefix) {
			return nil
		}
		return addTarEntry(found, h, r)
	})
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("package %s has no files below %s", c.Deb, c.Prefix)
	}
	var all []byte
	for _, name := range slices.Sorted(maps.Keys(found)) {
		all = append(all, found[name].Data...)
	}
	return all, err
}

func modeOr(mode, other uint32) uint32 {
	if mode != 0 {
		return mode
	}
	return other
}
