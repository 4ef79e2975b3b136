package delta_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/delta"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

// large is content that does not compress, the same for the same seed.
func large(seed uint64, n int) string {
	random, out := rand.New(rand.NewPCG(seed, 1)), make([]byte, n)
	for i := range out {
		out[i] = byte(random.Uint32())
	}
	return string(out)
}

// release makes the bundle of an application in some version.
func release(t testing.TB, version, program string) string {
	t.Helper()
	images := []airgaptest.Image{
		{Ref: "example.com/big:1", Files: []string{large(7, 400<<10)}},
		{Ref: "example.com/addon:" + version, Files: []string{"base", program}},
		{Ref: "example.com/gzip:" + version, Files: []string{program[:20<<10]}, Gzip: true},
	}
	req := airgaptest.Request(t)
	req.Sign = func([]byte) ([]byte, error) { return []byte("signed " + version), nil }
	req.Layout, req.Images = airgaptest.Layout(t, images, airgaptest.HostFiles()), nil
	for _, img := range images {
		req.Images = append(req.Images, img.Ref)
	}
	return airgaptest.Bundle(t, req)
}

// programs are the large program of release in two versions: a little is
// changed, inserted and taken out.
func programs() (before, after string) {
	before = large(9, 600<<10)
	after = before[:100_000] + "changed" + before[100_007:300_000] + strings.Repeat("inserted", 1000) + before[300_000:400_000] + before[440_000:]
	return before, after
}

func open(t testing.TB, path string) *airgap.Bundle {
	t.Helper()
	b, err := airgap.Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// diff writes the delta between two bundles.
func diff(t testing.TB, old, next string) string {
	t.Helper()
	d, err := delta.New(context.Background(), open(t, old), open(t, next), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	return archive(t, d.Archive)
}

func archive(t testing.TB, a build.Archive) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive")
	if err := a.File(context.Background(), path); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func folder(t testing.TB) blob.Folder {
	t.Helper()
	f, err := blob.CreateFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// merge applies a delta and gives the bundle that comes out.
func merge(t testing.TB, path, old string) (*airgap.Bundle, error) {
	t.Helper()
	b, err := airgap.Open(context.Background(), path)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = b.Close() })
	base, parts := delta.Base{Old: open(t, old), Folder: folder(t)}, ""
	if err := delta.Check(b, base.Old); err != nil {
		return nil, err
	}
	src, err := base.Apply(context.Background(), b, b.Absent())
	for _, hidden := range []string{".*", "blobs/sha256/.*"} {
		left, _ := filepath.Glob(filepath.Join(base.Folder.Dir(), hidden))
		parts += strings.Join(left, " ")
	}
	if parts != "" {
		t.Errorf("work files are left: %s", parts)
	}
	if err != nil {
		return nil, err
	}
	whole := b.With(src, b.Absent())
	return whole, whole.Verify(context.Background(), nil)
}

func TestAMergedDeltaIsTheNewBundleByteForByte(t *testing.T) {
	before, after := programs()
	old, next := release(t, "1", before), release(t, "2", after)
	d := diff(t, old, next)
	if small, full := len(read(t, d)), len(read(t, next)); small*10 > full {
		t.Errorf("the delta has %d bytes, the full bundle %d", small, full)
	}
	b, err := merge(t, d, old)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(b.Delta().Patches); n != 1 {
		t.Errorf("%d blobs are patched, want that of the add-on alone", n)
	}
	if !bytes.Equal(read(t, archive(t, build.Full(b))), read(t, next)) {
		t.Error("the merged bundle differs from the new one")
	}
}

func TestADeltaIsABundleThatCanBeLookedInto(t *testing.T) {
	before, after := programs()
	old, next := release(t, "1", before), release(t, "2", after)
	d, full := open(t, diff(t, old, next)), open(t, next)
	if in, err := d.Installer(t.Context()); err != nil || string(in) != airgaptest.Installer {
		t.Errorf("%q, %v", in, err)
	}
	if d.Digest() != full.Digest() || !bytes.Equal(d.Signature(), full.Signature()) || d.ContentSize() != full.ContentSize() || d.Delta().Base != open(t, old).Digest() {
		t.Errorf("it is %s, made from %s", d.Digest(), d.Delta().Base)
	}
	if err := d.Verify(t.Context(), nil); err != nil { // of what is there
		t.Error(err)
	}
	_, err := d.OpenHostFile(t.Context(), "k0s")
	if problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(problem.Hint(err), "--base") {
		t.Errorf("its program, which the older bundle has: %v", err)
	}
}

func TestADeltaBetweenEqualBundlesIsNextToNothing(t *testing.T) {
	before, _ := programs()
	old := release(t, "1", before)
	b, err := merge(t, diff(t, old, old), old)
	if err != nil || len(b.Delta().Patches) != 0 {
		t.Errorf("%v", err)
	}
}

func TestADeltaFitsItsBaseOnly(t *testing.T) {
	before, after := programs()
	old, next := release(t, "1", before), release(t, "2", after)
	d := diff(t, old, next)
	for name, c := range map[string]struct{ delta, base, want string }{
		"the new bundle as base": {d, next, "was made from the bundle"},
		"another release":        {d, release(t, "3", before), "was made from the bundle"},
		"no delta":               {next, old, "is no delta"},
	} {
		_, err := merge(t, c.delta, c.base)
		if err == nil || problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestADamagedDeltaNeverMakesAnotherBundle(t *testing.T) {
	before, after := programs()
	old, next := release(t, "1", before), release(t, "2", after)
	good, want := read(t, diff(t, old, next)), read(t, next)
	bad := map[string][]byte{"one byte": good[:1], "half": good[:len(good)/2], "all but the last byte": good[:len(good)-1]}
	random := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		at := random.IntN(len(good))
		flipped := slices.Clone(good)
		flipped[at] ^= 1 << random.IntN(8)
		bad[fmt.Sprintf("byte %d changed", at)] = flipped
	}
	for name, data := range bad {
		path := filepath.Join(t.TempDir(), "bad")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := merge(t, path, old)
		if err == nil && !bytes.Equal(read(t, archive(t, build.Full(b))), want) || err != nil && (problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestABaseThatIsDamagedIsFound(t *testing.T) {
	before, after := programs()
	old, next := release(t, "1", before), release(t, "2", after)
	d, data := diff(t, old, next), read(t, old)
	for i := len(data) - 8192; i > len(data)-600<<10; i -= 16 << 10 { // in the layers of images
		data[i] ^= 1
	}
	path := filepath.Join(t.TempDir(), "old")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := merge(t, d, path); problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" {
		t.Errorf("%v", err)
	}
}

func TestDeltasThatLieAreRefused(t *testing.T) {
	before, after := programs()
	old, next := release(t, "1", before), release(t, "2", after)
	d, err := delta.New(t.Context(), open(t, old), open(t, next), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	good, err := format.ParseDelta(d.Delta)
	if err != nil {
		t.Fatal(err)
	}
	base := open(t, old)
	for name, c := range map[string]struct {
		change func(*format.Delta)
		want   string
	}{
		"no patches":          {func(p *format.Delta) { p.Patches = nil }, "not referenced by the index"},
		"patch not there":     {func(p *format.Delta) { p.Patches[0].Patch.Digest = p.Base }, "is missing"},
		"patch of other size": {func(p *format.Delta) { p.Patches[0].Patch.Size++ }, "instead of the declared"},
		"from a stranger":     {func(p *format.Delta) { p.Patches[0].From.Digest = p.Base }, "not one of the older bundle"},
		"from another blob":   {func(p *format.Delta) { p.Patches[0].From = base.Images()[0].Layers[0] }, "is damaged"},
		"for another blob":    {func(p *format.Delta) { p.Patches[0].Blob = base.Digest() }, "neither in the delta"},
		"other compression":   {func(p *format.Delta) { p.Patches[0].Packed = "lzma" }, `"lzma"`},
		"not a digest":        {func(p *format.Delta) { p.Base = "sha256:x" }, "not a sha256 digest"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := *good
			bad.Patches = slices.Clone(good.Patches)
			c.change(&bad)
			a := d.Archive
			if a.Delta, err = bad.JSON(); err != nil {
				t.Fatal(err)
			}
			_, err := merge(t, archive(t, a), old)
			if err == nil || problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(err.Error()+problem.Hint(err), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestAMergeThatIsStoppedSaysSo(t *testing.T) {
	before, after := programs()
	old, next := release(t, "1", before), release(t, "2", after)
	b, base := open(t, diff(t, old, next)), delta.Base{Old: open(t, old), Folder: folder(t)}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := base.Apply(ctx, b, b.Absent()); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestADiskThatFillsUnderTheWorkFilesIsNamed(t *testing.T) {
	before, after := programs()
	old, next := release(t, "1", before), release(t, "2", after)
	b := open(t, diff(t, old, next))
	for name, room := range map[string]int{"for what is unpacked": 300 << 10, "for what is made of it": 700 << 10} {
		disk := testkit.SmallDisk(t, room)
		if _, err := delta.New(t.Context(), open(t, old), open(t, next), disk); room < 600<<10 && !strings.Contains(fmt.Sprint(err), "no space left") {
			t.Errorf("room %s: comparing: %v", name, err)
		}
		folder, err := blob.CreateFolder(filepath.Join(disk, "parts"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = delta.Base{Old: open(t, old), Folder: folder}.Apply(t.Context(), b, b.Absent())
		if problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(fmt.Sprint(err), "no space left") || !strings.Contains(problem.Hint(err), "make room in "+folder.Dir()) {
			t.Errorf("room %s: exit %d: %v; %s", name, problem.ExitCode(err), err, problem.Hint(err))
		}
		if left, err := filepath.Glob(filepath.Join(folder.Dir(), "blobs/sha256/*")); err != nil || len(left) > 0 {
			t.Errorf("room %s: left are %v, %v", name, left, err)
		}
	}
}
