package images

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/containerd"
	introspectionapi "github.com/containerd/containerd/api/services/introspection/v1"
	"github.com/containerd/containerd/content"
	"github.com/containerd/containerd/services/introspection"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// useSharedStore gives m a content store with a directory at root. Like
// containerd's, it does not know blobs that are placed there until they are
// registered.
func (m *fakeContainerd) useSharedStore(t *testing.T, shared bool) (root string, s *sharedStore) {
	t.Helper()
	root = t.TempDir()
	s = &sharedStore{Store: localStore(t, root, m), shared: shared, known: map[digest.Digest]bool{}}
	m.content = s
	m.connect(t, containerd.WithIntrospectionService(fakeIntrospection{root: root}))
	m.placer = fakePlacer{m}
	return root, s
}

type fakeIntrospection struct {
	introspection.Service
	root string
}

func (p fakeIntrospection) Plugins(context.Context, []string) (*introspectionapi.PluginsResponse, error) {
	return &introspectionapi.PluginsResponse{Plugins: []*introspectionapi.Plugin{{Exports: map[string]string{"root": p.root}}}}, nil
}

// fakePlacer writes files like a host, or fails.
type fakePlacer struct{ *fakeContainerd }

func (s fakePlacer) Place(path string, r io.Reader, perm fs.FileMode) error {
	if s.full {
		_, _ = io.CopyN(io.Discard, r, 3)
		return errors.New("no space left on device")
	}
	if _, err := os.Stat(path); err == nil {
		return fs.ErrExist
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, perm)
}

// sharedStore imitates the relevant part of containerd's metadata store: a
// namespace knows what was committed in it, and may commit content that exists
// without reading it.
type sharedStore struct {
	content.Store
	shared  bool
	mu      sync.Mutex
	known   map[digest.Digest]bool
	written int // blobs that were written through the API
}

func (s *sharedStore) Info(ctx context.Context, d digest.Digest) (content.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.known[d] {
		return content.Info{}, errdefs.ErrNotFound
	}
	return s.Store.Info(ctx, d)
}

func (s *sharedStore) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	var o content.WriterOpts
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return nil, err
		}
	}
	if info, err := s.Store.Info(ctx, o.Desc.Digest); err == nil && s.shared && info.Size == o.Desc.Size {
		return &sharedWriter{nil, s, o.Desc}, nil
	}
	w, err := s.Store.Writer(ctx, content.WithRef(o.Ref))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written++
	return &sharedWriter{w, s, o.Desc}, nil
}

type sharedWriter struct {
	content.Writer // nil for content that exists
	store          *sharedStore
	desc           ocispec.Descriptor
}

func (e *sharedWriter) Status() (content.Status, error) {
	if e.Writer == nil {
		return content.Status{Offset: e.desc.Size}, nil
	}
	return e.Writer.Status()
}

func (e *sharedWriter) Close() error {
	if e.Writer == nil {
		return nil
	}
	return e.Writer.Close()
}

func (e *sharedWriter) Commit(ctx context.Context, size int64, expected digest.Digest, opts ...content.Opt) error {
	if e.Writer != nil {
		if err := e.Writer.Commit(ctx, size, expected, opts...); err != nil && !errdefs.IsAlreadyExists(err) {
			return err
		}
	}
	e.store.mu.Lock()
	defer e.store.mu.Unlock()
	e.store.known[expected] = true
	return nil
}

func TestImport_PlacesBlobsAndFallsBackToAPI(t *testing.T) {
	for name, c := range map[string]struct {
		set     func(*fakeContainerd, *sharedStore)
		reads   int // blobs opened; 10 are wanted
		written int // through the API
	}{
		"shared store":                      {func(*fakeContainerd, *sharedStore) {}, 10, 0},
		"store that does not share content": {func(_ *fakeContainerd, s *sharedStore) { s.shared = false }, 20, 10},
		"full disk":                         {func(m *fakeContainerd, _ *sharedStore) { m.full = true }, 20, 10},
		"no access to the directory":        {func(m *fakeContainerd, _ *sharedStore) { m.placer = nil }, 10, 10},
		"killed import":                     {func(m *fakeContainerd, s *sharedStore) { leaveUnregisteredBlobs(t, m, s) }, 10, 0},
		"faster garbage collector":          {func(m *fakeContainerd, s *sharedStore) { m.placer = forgettingPlacer{} }, 20, 10},
	} {
		t.Run(name, func(t *testing.T) {
			m := newFakeContainerd(t)
			root, s := m.useSharedStore(t, true)
			c.set(m, s)
			src, want := threeImages(t)
			done, total := int64(0), int64(0)
			report := func(_ string, bytes, of int64) {
				if bytes < done || bytes > of {
					t.Errorf("%d bytes after %d, of %d", bytes, done, of)
				}
				done, total = bytes, of
			}
			if err := m.Import(t.Context(), src, want, 1, report); err != nil {
				t.Fatal(err)
			}
			if reads := src.reads(); reads != c.reads || s.written != c.written || done != total {
				t.Errorf("%d blobs were opened, %d were written through the API, %d of %d bytes", reads, s.written, done, total)
			}
			if missing, err := m.MissingImages(t.Context(), want); err != nil || len(missing) != 0 {
				t.Errorf("missing %v, %v", refsOf(missing), err)
			}
			left, err := filepath.Glob(filepath.Join(root, "blobs/sha256/*"))
			if err != nil || len(left) != 10 {
				t.Errorf("the store has %v, %v", left, err)
			}
		})
	}
}

// leaveUnregisteredBlobs places the files of an import that was killed before
// it registered them.
func leaveUnregisteredBlobs(t *testing.T, m *fakeContainerd, s *sharedStore) {
	src, want := threeImages(t)
	for _, d := range append(want[0].Blobs, want[0].Manifest) {
		r, err := src.Open(t.Context(), d)
		if err == nil {
			err = m.placer.Place(filepath.Join(m.contentRoot(t.Context()), "blobs/sha256", d.Digest.Encoded()), r, 0o444)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// forgettingPlacer places files that disappear at once.
type forgettingPlacer struct{}

func (forgettingPlacer) Place(_ string, r io.Reader, _ fs.FileMode) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func TestImport_DoesNotPlaceWrongContent(t *testing.T) {
	for name, data := range map[string]string{"shorter": "kot", "other": "kotsadx", "longer": "kotsadm and more"} {
		t.Run(name, func(t *testing.T) {
			m := newFakeContainerd(t)
			root, s := m.useSharedStore(t, true)
			src, want := threeImages(t)
			src.blobs[want[2].Blobs[0].Digest] = []byte(data)
			err := m.Import(t.Context(), src, want[2:], 1, ignoreProgress)
			if err == nil || !strings.Contains(err.Error(), "not match its digest") || s.written != 0 {
				t.Errorf("%s: %v", name, err)
			}
			if left, err := filepath.Glob(filepath.Join(root, "blobs/sha256/*")); err != nil || len(left) != 0 {
				t.Errorf("%s: the store has %v, %v", name, left, err)
			}
		})
	}
}
