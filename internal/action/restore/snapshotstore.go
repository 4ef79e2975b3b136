package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"strings"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/objectstore"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/velero"
)

// snapshotStore is where snapshots are: a bucket, or the folder of an object store that Plinth has run.
type snapshotStore struct {
	name     string // URL or absolute path
	objects  velero.Objects
	folder   string           // "" for a bucket
	location *velero.Location // nil for a folder
}

// openSnapshotStore opens the store of --from. It does not contact it. check refuses what the cluster cannot use.
func openSnapshotStore(env *action.Env, from string, settings objectstore.Settings, check func(objectstore.Access) error) (s snapshotStore, err error) {
	refuse := func(err error, hint string) error {
		return problem.New(problem.ExitUsage, "use the store "+from, err, hint+"; nothing was changed")
	}
	if !objectstore.IsURL(from) {
		if strings.Contains(from, "://") {
			return s, refuse(errors.New("only s3://BUCKET/PREFIX and a folder are known"), "give the URL of the bucket with s3://, and that of the store with --s3-endpoint")
		}
		dir, err := filepath.Abs(from)
		if err != nil {
			return s, err
		}
		root := velero.BucketDir(dir)
		if _, err := env.Host.Lstat(path.Join(root, "backups")); err != nil {
			if errors.Is(err, fs.ErrPermission) {
				return s, refuse(fmt.Errorf("%s: %w", path.Join(root, "backups"), problem.PathCause(err)), host.AccessHint(dir)+", and the folders in it")
			}
			return s, refuse(problem.PathCause(err), "name the folder of spec.velero.objectStore.folder, or a copy of it, in which is objects/"+velero.Bucket+"/backups")
		}
		return snapshotStore{name: dir, folder: dir, objects: folderObjects{env.Host, root}}, nil
	}
	at, err := objectstore.ParseURL(from)
	if err != nil {
		return s, refuse(err, "give s3://BUCKET or s3://BUCKET/PREFIX")
	}
	access, err := settings.Access()
	if err != nil {
		return s, refuse(err, problem.Hint(err))
	}
	env.Secrets.Hide(access.SecretKey)
	env.Secrets.Hide(access.SessionToken)
	if err := check(access); err != nil {
		return s, refuse(err, "give an endpoint and credentials that the cluster can use, too")
	}
	store, err := objectstore.Open(at.Bucket, settings)
	if err != nil {
		return s, refuse(err, problem.Hint(err))
	}
	store.Notify(env.Note)
	return snapshotStore{name: at.String(), objects: bucketObjects{store, at.Key}, location: &velero.Location{URL: access.Endpoint, Region: access.Region, Bucket: at.Bucket,
		Prefix: at.Key, CA: access.CA, Cloud: velero.Credentials(access.AccessKey, access.SecretKey)}}, nil
}

// checkAccess refuses what works on this host, but not for Velero in the cluster, now or tomorrow.
func checkAccess(a objectstore.Access) error {
	if a.SessionToken != "" {
		return errors.New("its credentials have a session token: they expire, and the console needs them for new snapshots")
	}
	u, err := url.Parse(a.Endpoint)
	if err != nil {
		return err
	}
	name := u.Hostname()
	if ip, err := netip.ParseAddr(name); name == "localhost" || err == nil && ip.IsLoopback() {
		return errors.New("pods cannot reach " + net.JoinHostPort(name, u.Port()) + ": it is this host for a program on it, and the pod itself for a pod")
	}
	return nil
}

// bucketObjects are the objects below a prefix of a bucket.
type bucketObjects struct {
	*objectstore.Store
	prefix string
}

func (b bucketObjects) Keys(ctx context.Context, prefix string) (keys []string, err error) {
	root := ""
	if b.prefix != "" {
		root = b.prefix + "/"
	}
	all, err := b.List(ctx, root+prefix, true)
	for _, o := range all {
		keys = append(keys, strings.TrimPrefix(o.Key, root))
	}
	return keys, err
}

func (b bucketObjects) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	return b.Store.Open(ctx, path.Join(b.prefix, key))
}

// hostFolder is the part of a host that folderObjects needs.
type hostFolder interface {
	host.Files
	host.Streams
}

// folderObjects are the files of a bucket in the folder root: versitygw stores each object as a file.
type folderObjects struct {
	hostFolder
	root string
}

func (f folderObjects) Keys(ctx context.Context, prefix string) (keys []string, err error) {
	entries, err := f.ReadDir(path.Join(f.root, prefix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case e.IsDir():
			more, err := f.Keys(ctx, prefix+e.Name()+"/")
			if err != nil {
				return nil, err
			}
			keys = append(keys, more...)
		case e.Type().IsRegular():
			keys = append(keys, prefix+e.Name())
		}
	}
	return keys, err
}

func (f folderObjects) Open(_ context.Context, key string) (io.ReadCloser, error) {
	return f.OpenFile(path.Join(f.root, key))
}
