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

// beside makes m a machine whose content store has its folder at root, and
// knows nothing of what was put there until it is told, as containerd's does.
func (m *machine) beside(t *testing.T, shared bool) (root string, s *sharing) {
	t.Helper()
	root = t.TempDir()
	s = &sharing{Store: localStore(t, root, m), shared: shared, known: map[digest.Digest]bool{}}
	m.content = s
	m.connect(t, containerd.WithIntrospectionService(plugins{root: root}))
	m.shelf = shelf{m}
	return root, s
}

type plugins struct {
	introspection.Service
	root string
}

func (p plugins) Plugins(context.Context, []string) (*introspectionapi.PluginsResponse, error) {
	return &introspectionapi.PluginsResponse{Plugins: []*introspectionapi.Plugin{{Exports: map[string]string{"root": p.root}}}}, nil
}

// shelf is a host's, or fails.
type shelf struct{ *machine }

func (s shelf) Place(path string, r io.Reader, perm fs.FileMode) error {
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

// sharing is the part of containerd's metadata store that matters: a namespace
// knows what was committed in it, and may commit unread what is there.
type sharing struct {
	content.Store
	shared  bool
	mu      sync.Mutex
	known   map[digest.Digest]bool
	written int // blobs that came through the API
}

func (s *sharing) Info(ctx context.Context, d digest.Digest) (content.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.known[d] {
		return content.Info{}, errdefs.ErrNotFound
	}
	return s.Store.Info(ctx, d)
}

func (s *sharing) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	var o content.WriterOpts
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return nil, err
		}
	}
	if info, err := s.Store.Info(ctx, o.Desc.Digest); err == nil && s.shared && info.Size == o.Desc.Size {
		return &entering{nil, s, o.Desc}, nil
	}
	w, err := s.Store.Writer(ctx, content.WithRef(o.Ref))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written++
	return &entering{w, s, o.Desc}, nil
}

type entering struct {
	content.Writer // nil for what is there
	store          *sharing
	desc           ocispec.Descriptor
}

func (e *entering) Status() (content.Status, error) {
	if e.Writer == nil {
		return content.Status{Offset: e.desc.Size}, nil
	}
	return e.Writer.Status()
}

func (e *entering) Close() error {
	if e.Writer == nil {
		return nil
	}
	return e.Writer.Close()
}

func (e *entering) Commit(ctx context.Context, size int64, expected digest.Digest, opts ...content.Opt) error {
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

func TestBlobsArePlacedBesideTheAPIAndWrittenThroughItWhereThatFails(t *testing.T) {
	for name, c := range map[string]struct {
		set     func(*machine, *sharing)
		reads   int // blobs opened; 10 are wanted
		written int // through the API
	}{
		"a store that shares":     {func(*machine, *sharing) {}, 10, 0},
		"one that does not":       {func(_ *machine, s *sharing) { s.shared = false }, 20, 10},
		"a disk that takes none":  {func(m *machine, _ *sharing) { m.full = true }, 20, 10},
		"no way to its folder":    {func(m *machine, _ *sharing) { m.shelf = nil }, 10, 10},
		"a run that was killed":   {func(m *machine, s *sharing) { killed(t, m, s) }, 10, 0},
		"a collector was quicker": {func(m *machine, s *sharing) { m.shelf = forgetful{} }, 20, 10},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			root, s := m.beside(t, true)
			c.set(m, s)
			src, want := three(t)
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
				t.Errorf("%d blobs were opened, %d went through the API, %d of %d bytes", reads, s.written, done, total)
			}
			if missing, err := m.Missing(t.Context(), want); err != nil || len(missing) != 0 {
				t.Errorf("missing %v, %v", refs(missing), err)
			}
			left, err := filepath.Glob(filepath.Join(root, "blobs/sha256/*"))
			if err != nil || len(left) != 10 {
				t.Errorf("the store has %v, %v", left, err)
			}
		})
	}
}

// killed leaves the files of a run that ended before it told the store.
func killed(t *testing.T, m *machine, s *sharing) {
	src, want := three(t)
	for _, d := range append(want[0].Blobs, want[0].Manifest) {
		r, err := src.Open(t.Context(), d)
		if err == nil {
			err = m.shelf.Place(filepath.Join(m.folder(t.Context()), "blobs/sha256", d.Digest.Encoded()), r, 0o444)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// forgetful places files that are gone at once.
type forgetful struct{}

func (forgetful) Place(_ string, r io.Reader, _ fs.FileMode) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func TestWrongContentIsNotPlaced(t *testing.T) {
	for name, data := range map[string]string{"shorter": "kot", "other": "kotsadx", "longer": "kotsadm and more"} {
		m := newMachine(t)
		root, s := m.beside(t, true)
		src, want := three(t)
		src.blobs[want[2].Blobs[0].Digest] = []byte(data)
		err := m.Import(t.Context(), src, want[2:], 1, silent)
		if err == nil || !strings.Contains(err.Error(), "not what its digest") || s.written != 0 {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := filepath.Glob(filepath.Join(root, "blobs/sha256/*")); err != nil || len(left) != 0 {
			t.Errorf("%s: the store has %v, %v", name, left, err)
		}
	}
}
