package images

import (
	"context"
	"maps"
	"sync"
	"testing"

	"github.com/containerd/containerd"
	"github.com/containerd/containerd/content"
	"github.com/containerd/containerd/content/local"
	"github.com/containerd/containerd/diff"
	cimages "github.com/containerd/containerd/images"
	"github.com/containerd/containerd/leases"
	"github.com/containerd/containerd/mount"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// fakeContainerd is a containerd in memory: its client and its content store
// are real, the services behind them are minimal.
type fakeContainerd struct {
	*Store
	content content.Store
	mu      sync.Mutex
	images  map[string]cimages.Image
	labels  map[digest.Digest]map[string]string
	snaps   map[string]snapshots.Kind
	applied int  // layers that were unpacked
	leases  int  // leases that are held
	full    bool // the disk is full for placed files
}

func newFakeContainerd(t *testing.T) *fakeContainerd {
	t.Helper()
	m := &fakeContainerd{images: map[string]cimages.Image{}, labels: map[digest.Digest]map[string]string{}, snaps: map[string]snapshots.Kind{}}
	m.content = localStore(t, t.TempDir(), m)
	m.connect(t)
	return m
}

func localStore(t *testing.T, root string, m *fakeContainerd) content.Store {
	t.Helper()
	s, err := local.NewLabeledStore(root, labelStore{m})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// connect creates the client of the fake.
func (m *fakeContainerd) connect(t *testing.T, more ...containerd.ServicesOpt) {
	t.Helper()
	services := append(more, containerd.WithContentStore(m.content), containerd.WithImageStore(imageStore{m}),
		containerd.WithSnapshotters(map[string]snapshots.Snapshotter{containerd.DefaultSnapshotter: snapshotter{fakeContainerd: m}}),
		containerd.WithDiffService(fakeDiffer{fakeContainerd: m}), containerd.WithLeasesService(leaseManager{fakeContainerd: m}))
	client, err := containerd.New("", containerd.WithServices(services...))
	if err != nil {
		t.Fatal(err)
	}
	m.Store = &Store{client: client}
}

type labelStore struct{ *fakeContainerd }

func (s labelStore) Get(d digest.Digest) (map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.labels[d]), nil
}

func (s labelStore) Set(d digest.Digest, l map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.labels[d] = l
	return nil
}

func (s labelStore) Update(d digest.Digest, l map[string]string) (map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := maps.Clone(s.labels[d])
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, l)
	s.labels[d] = all
	return all, nil
}

type imageStore struct{ *fakeContainerd }

func (s imageStore) Get(_ context.Context, name string) (cimages.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	img, ok := s.images[name]
	if !ok {
		return img, errdefs.ErrNotFound
	}
	return img, nil
}

func (s imageStore) Create(_ context.Context, img cimages.Image) (cimages.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.images[img.Name]; ok {
		return img, errdefs.ErrAlreadyExists
	}
	s.images[img.Name] = img
	return img, nil
}

func (s imageStore) Update(_ context.Context, img cimages.Image, _ ...string) (cimages.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.images[img.Name] = img
	return img, nil
}

// List knows one filter: that for pinned images.
func (s imageStore) List(context.Context, ...string) (all []cimages.Image, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, img := range s.images {
		if img.Labels[pinnedLabel] == "pinned" {
			all = append(all, img)
		}
	}
	return all, nil
}

func (s imageStore) Delete(context.Context, string, ...cimages.DeleteOpt) error { return nil }

type snapshotter struct {
	snapshots.Snapshotter // panics for unused methods
	*fakeContainerd
}

func (s snapshotter) Stat(_ context.Context, key string) (snapshots.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind, ok := s.snaps[key]
	if !ok {
		return snapshots.Info{}, errdefs.ErrNotFound
	}
	return snapshots.Info{Name: key, Kind: kind}, nil
}

func (s snapshotter) Prepare(_ context.Context, key, _ string, _ ...snapshots.Opt) ([]mount.Mount, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snaps[key] = snapshots.KindActive
	return nil, nil
}

func (s snapshotter) Commit(_ context.Context, name, key string, _ ...snapshots.Opt) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.snaps[name]; ok {
		return errdefs.ErrAlreadyExists
	}
	delete(s.snaps, key)
	s.snaps[name] = snapshots.KindCommitted
	return nil
}

func (s snapshotter) Remove(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.snaps, key)
	return nil
}

type fakeDiffer struct {
	containerd.DiffService
	*fakeContainerd
}

// Apply treats a layer as unpacked if the store has its whole content.
func (d fakeDiffer) Apply(ctx context.Context, desc ocispec.Descriptor, _ []mount.Mount, _ ...diff.ApplyOpt) (ocispec.Descriptor, error) {
	raw, err := content.ReadBlob(ctx, d.content, desc)
	if err != nil {
		return desc, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.applied++
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, nil
}

type leaseManager struct {
	leases.Manager
	*fakeContainerd
}

func (m leaseManager) Create(context.Context, ...leases.Opt) (leases.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leases++
	return leases.Lease{ID: "one"}, nil
}

func (m leaseManager) Delete(context.Context, leases.Lease, ...leases.DeleteOpt) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leases--
	return nil
}
