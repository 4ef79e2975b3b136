package support

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/supportspec"
)

// copyItems returns the files at a path: one, those in a folder, or those whose names match its last element. What is there
// and is not collected is an item that fails, so that the bundle names it.
func (p packer) copyItems(ctx context.Context, c supportspec.Collector) (items []item) {
	folder := folderCollectors + cmp.Or(c.CollectorName, "copy") + "/"
	source := path.Clean(c.Path)
	dir, pattern := path.Dir(source), path.Base(source)
	if info, err := readInTime(ctx, func() (fs.FileInfo, error) { return p.env.Host.Lstat(source) }); err == nil && info.IsDir() {
		dir, pattern = source, "*"
		folder += path.Base(source) + "/"
	}
	link, err := readInTime(ctx, func() (string, error) { return findLink(p.env.Host, dir), nil })
	if err == nil && link != "" {
		err = fmt.Errorf("%s %s", link, notFollowed)
	}
	var infos []fs.FileInfo
	if err == nil {
		infos, err = p.listFolder(ctx, dir)
	}
	if err != nil {
		return []item{failedItem(folder+pattern, err)}
	}
	for _, info := range infos {
		if ok, _ := path.Match(pattern, info.Name()); !ok {
			continue
		}
		if reason := notCopiedReason(info.Mode()); reason != "" {
			items = append(items, failedItem(folder+info.Name(), errors.New(reason)))
			continue
		}
		items = append(items, p.copyItem(folder+info.Name(), path.Join(dir, info.Name()), info))
	}
	if len(items) == 0 {
		return []item{failedItem(folder+pattern, fmt.Errorf("no file is at %s", source))}
	}
	return limitItems(items, maxSpecFiles, "files", folder+pattern)
}

// notFollowed is why nothing behind a symbolic link is copied. A pod that has a folder of the host could let one lead to any
// file of it.
const notFollowed = "is a symbolic link, which is not followed: name the path that `realpath` prints in the spec"

// notCopiedReason returns why a file with a mode is not copied; "" if it is.
func notCopiedReason(mode fs.FileMode) string {
	switch {
	case mode.IsRegular():
		return ""
	case mode.Type() == fs.ModeSymlink:
		return "it " + notFollowed
	case mode.IsDir():
		return "it is a folder: name its files in the spec"
	}
	return "it is not a file, but a device, a pipe or a socket"
}

// findLink returns the first part of the path of a folder that is a symbolic link; "" if none is.
func findLink(files host.Files, dir string) string {
	at := ""
	for _, name := range strings.Split(strings.Trim(dir, "/"), "/") {
		at += "/" + name
		if info, err := files.Lstat(at); err == nil && info.Mode().Type() == fs.ModeSymlink {
			return at
		}
	}
	return ""
}

// copyItem is an item with the content of a file that was listed.
func (p packer) copyItem(name, source string, listed fs.FileInfo) item {
	return item{name: name, collect: func(context.Context) ([]byte, error) {
		return host.ReadTail(listedFile{p.env.Host, listed}, source, maxItemBytes+1)
	}}
}

// listedFile opens a file only if it is the one that was listed: after that, a pod could have put a link in its place.
type listedFile struct {
	host.Streams
	listed fs.FileInfo
}

func (l listedFile) OpenFile(path string) (io.ReadCloser, error) {
	r, err := l.Streams.OpenFile(path)
	if err != nil {
		return nil, err
	}
	file, ok := r.(interface{ Stat() (fs.FileInfo, error) })
	if !ok {
		return r, nil
	}
	info, err := file.Stat()
	if err == nil && !os.SameFile(info, l.listed) {
		err = errors.New("it was replaced while the bundle was created")
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}
