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
	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

// randomContent returns content that does not compress, the same for the same seed.
func randomContent(seed uint64, n int) string {
	random, out := rand.New(rand.NewPCG(seed, 1)), make([]byte, n)
	for i := range out {
		out[i] = byte(random.Uint32())
	}
	return string(out)
}

// buildRelease creates the bundle of an application in a version, with one large
// program, and returns its path.
func buildRelease(t testing.TB, version, program string) string {
	t.Helper()
	images := []airgaptest.Image{
		{Ref: "example.com/big:1", Files: []string{randomContent(7, 400<<10)}},
		{Ref: "example.com/addon:" + version, Files: []string{"base", program}},
		{Ref: "example.com/gzip:" + version, Files: []string{program[:20<<10]}, Gzip: true},
	}
	req := airgaptest.NewRequest(t)
	req.Sign = func([]byte) ([]byte, error) { return []byte("signed " + version), nil }
	req.Layout, req.Images = airgaptest.WriteLayout(t, images, airgaptest.HostFiles()), nil
	for _, img := range images {
		req.Images = append(req.Images, img.Ref)
	}
	return airgaptest.WriteBundle(t, req)
}

// programs returns the large program of buildRelease in two versions: some bytes
// are changed, inserted and removed.
func programs() (before, after string) {
	before = randomContent(9, 600<<10)
	after = before[:100_000] + "changed" + before[100_007:300_000] + strings.Repeat("inserted", 1000) + before[300_000:400_000] + before[440_000:]
	return before, after
}

// openBundle opens a bundle until the end of the test.
func openBundle(t testing.TB, path string) *airgap.Bundle {
	t.Helper()
	b, err := airgap.Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// writeDelta writes the delta between two bundles and returns its path.
func writeDelta(t testing.TB, old, next string) string {
	t.Helper()
	d, err := delta.Compare(context.Background(), openBundle(t, old), openBundle(t, next), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	return writeArchive(t, d.Archive)
}

// writeArchive writes an archive and returns its path.
func writeArchive(t testing.TB, a build.Archive) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive")
	if err := a.WriteFile(context.Background(), path); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func newFolder(t testing.TB) blob.Folder {
	t.Helper()
	f, err := blob.CreateFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// applyDelta applies the delta in path to the bundle old and returns the resulting
// bundle.
func applyDelta(t testing.TB, path, old string) (*airgap.Bundle, error) {
	t.Helper()
	b, err := airgap.Open(context.Background(), path)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = b.Close() })
	base, parts := delta.Base{Old: openBundle(t, old), Folder: newFolder(t)}, ""
	if err := delta.CheckBase(b, base.Old); err != nil {
		return nil, err
	}
	src, err := base.Apply(context.Background(), b, b.Missing())
	for _, hidden := range []string{".*", "blobs/sha256/.*"} {
		left, _ := filepath.Glob(filepath.Join(base.Folder.Dir(), hidden))
		parts += strings.Join(left, " ")
	}
	if parts != "" {
		t.Errorf("temporary files are left: %s", parts)
	}
	if err != nil {
		return nil, err
	}
	whole := b.WithBlobSource(src, b.Missing())
	return whole, whole.Verify(context.Background(), nil)
}

func TestApply_GivesTheNewBundleByteForByte(t *testing.T) {
	before, after := programs()
	old, next := buildRelease(t, "1", before), buildRelease(t, "2", after)
	d := writeDelta(t, old, next)
	if small, full := len(readFile(t, d)), len(readFile(t, next)); small*10 > full {
		t.Errorf("the delta has %d bytes, the full bundle %d", small, full)
	}
	b, err := applyDelta(t, d, old)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(b.Delta().Patches); n != 1 {
		t.Errorf("%d blobs are patched, want only that of the add-on", n)
	}
	if !bytes.Equal(readFile(t, writeArchive(t, build.FullArchive(b))), readFile(t, next)) {
		t.Error("the merged bundle differs from the new one")
	}
}

func TestCompare_CreatesBundleThatCanBeInspected(t *testing.T) {
	before, after := programs()
	old, next := buildRelease(t, "1", before), buildRelease(t, "2", after)
	d, full := openBundle(t, writeDelta(t, old, next)), openBundle(t, next)
	if in, err := d.Installer(t.Context()); err != nil || string(in) != airgaptest.Installer {
		t.Errorf("%q, %v", in, err)
	}
	if d.Digest() != full.Digest() || !bytes.Equal(d.Signature(), full.Signature()) || d.ContentSize() != full.ContentSize() || d.Delta().Base != openBundle(t, old).Digest() {
		t.Errorf("the delta is %s, created from %s", d.Digest(), d.Delta().Base)
	}
	if err := d.Verify(t.Context(), nil); err != nil { // verifies what the delta contains
		t.Error(err)
	}
	_, err := d.OpenHostFile(t.Context(), "k0s")
	if problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(problem.Hint(err), "--base") {
		t.Errorf("open a program that only the older bundle has: %v", err)
	}
}

func TestCompare_FindsNoPatchesBetweenEqualBundles(t *testing.T) {
	before, _ := programs()
	old := buildRelease(t, "1", before)
	b, err := applyDelta(t, writeDelta(t, old, old), old)
	if err != nil || len(b.Delta().Patches) != 0 {
		t.Errorf("%v", err)
	}
}

func TestCheckBase_RejectsOtherBases(t *testing.T) {
	before, after := programs()
	old, next := buildRelease(t, "1", before), buildRelease(t, "2", after)
	d := writeDelta(t, old, next)
	for name, c := range map[string]struct{ delta, base, want string }{
		"the new bundle as base": {d, next, "was created from the bundle"},
		"another release":        {d, buildRelease(t, "3", before), "was created from the bundle"},
		"not a delta":            {next, old, "is not a delta"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := applyDelta(t, c.delta, c.base)
			if err == nil || problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestApply_NeverGivesAnotherBundleForDamagedDelta(t *testing.T) {
	before, after := programs()
	old, next := buildRelease(t, "1", before), buildRelease(t, "2", after)
	good, want := readFile(t, writeDelta(t, old, next)), readFile(t, next)
	bad := map[string][]byte{"one byte": good[:1], "half": good[:len(good)/2], "all but the last byte": good[:len(good)-1]}
	random := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		at := random.IntN(len(good))
		flipped := slices.Clone(good)
		flipped[at] ^= 1 << random.IntN(8)
		bad[fmt.Sprintf("byte %d changed", at)] = flipped
	}
	for name, data := range bad {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "bad")
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			b, err := applyDelta(t, path, old)
			if err == nil && !bytes.Equal(readFile(t, writeArchive(t, build.FullArchive(b))), want) || err != nil && (problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestApply_DetectsDamagedBase(t *testing.T) {
	before, after := programs()
	old, next := buildRelease(t, "1", before), buildRelease(t, "2", after)
	d, data := writeDelta(t, old, next), readFile(t, old)
	for i := len(data) - 8192; i > len(data)-600<<10; i -= 16 << 10 { // in the layers of images
		data[i] ^= 1
	}
	path := filepath.Join(t.TempDir(), "old")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := applyDelta(t, d, path); problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" {
		t.Errorf("%v", err)
	}
}

func TestApply_RejectsFalseDeltas(t *testing.T) {
	before, after := programs()
	old, next := buildRelease(t, "1", before), buildRelease(t, "2", after)
	d, err := delta.Compare(t.Context(), openBundle(t, old), openBundle(t, next), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	good, err := format.ParseDelta(d.Delta)
	if err != nil {
		t.Fatal(err)
	}
	base := openBundle(t, old)
	for name, c := range map[string]struct {
		change func(*format.Delta)
		want   string
	}{
		"no patches":          {func(p *format.Delta) { p.Patches = nil }, "not referenced by the index"},
		"patch is missing":    {func(p *format.Delta) { p.Patches[0].Patch.Digest = p.Base }, "is missing"},
		"patch of other size": {func(p *format.Delta) { p.Patches[0].Patch.Size++ }, "instead of the declared"},
		"from unknown blob":   {func(p *format.Delta) { p.Patches[0].From.Digest = p.Base }, "not a suitable blob of the older bundle"},
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
			_, err := applyDelta(t, writeArchive(t, a), old)
			if err == nil || problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(err.Error()+problem.Hint(err), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestApply_ReturnsErrorOfCancelledContext(t *testing.T) {
	before, after := programs()
	old, next := buildRelease(t, "1", before), buildRelease(t, "2", after)
	b, base := openBundle(t, writeDelta(t, old, next)), delta.Base{Old: openBundle(t, old), Folder: newFolder(t)}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := base.Apply(ctx, b, b.Missing()); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestApply_NamesFolderOnFullDisk(t *testing.T) {
	before, after := programs()
	old, next := buildRelease(t, "1", before), buildRelease(t, "2", after)
	b := openBundle(t, writeDelta(t, old, next))
	for name, size := range map[string]int{"too small for unpacked blobs": 300 << 10, "too small for rebuilt blobs": 700 << 10} {
		t.Run(name, func(t *testing.T) {
			disk := testkit.SmallDisk(t, size)
			if _, err := delta.Compare(t.Context(), openBundle(t, old), openBundle(t, next), disk); size < 600<<10 && !strings.Contains(fmt.Sprint(err), "no space left") {
				t.Errorf("compare: %v", err)
			}
			folder, err := blob.CreateFolder(filepath.Join(disk, "parts"))
			if err != nil {
				t.Fatal(err)
			}
			_, err = delta.Base{Old: openBundle(t, old), Folder: folder}.Apply(t.Context(), b, b.Missing())
			if problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(fmt.Sprint(err), "no space left") || !strings.Contains(problem.Hint(err), "free some space in "+folder.Dir()) {
				t.Errorf("exit %d: %v; %s", problem.ExitCode(err), err, problem.Hint(err))
			}
			if left, err := filepath.Glob(filepath.Join(folder.Dir(), "blobs/sha256/*")); err != nil || len(left) > 0 {
				t.Errorf("left are %v, %v", left, err)
			}
		})
	}
}

// A small delta can declare any number of patches that give much.
func TestApply_BoundsWorkByTheOlderFile(t *testing.T) {
	release := func(program string, others ...airgaptest.Image) *airgap.Bundle {
		images := append(others, airgaptest.Image{Ref: "example.com/program:1", Files: []string{program}})
		req := airgaptest.NewRequest(t)
		req.Layout, req.Images = airgaptest.WriteLayout(t, images, airgaptest.HostFiles()), nil
		for _, img := range images {
			req.Images = append(req.Images, img.Ref)
		}
		return openBundle(t, airgaptest.WriteBundle(t, req))
	}
	compare := func(old, next *airgap.Bundle) *delta.Diff {
		d, err := delta.Compare(t.Context(), old, next, t.TempDir())
		testkit.Must(t, err)
		t.Cleanup(func() { _ = d.Close() })
		return d
	}
	// The program compresses to 100 KiB, and unpacks to three quarters of limit.DeltaMargin.
	program := randomContent(9, 100<<10) + strings.Repeat("\x00", limit.DeltaMargin*3/4)
	large := airgaptest.Image{Ref: "example.com/large:1", Files: []string{randomContent(7, 4<<20)}}
	small, old, next := release(program), release(program, large), release(program+"new", large)
	if n := compare(small, next).PatchCount(); n != 0 {
		t.Errorf("%d patches above the limit are created", n)
	}
	d := compare(old, next)
	if d.PatchCount() != 1 {
		t.Fatalf("%d patches are created, want 1", d.PatchCount())
	}
	b := openBundle(t, writeArchive(t, d.Archive))
	for name, c := range map[string]struct {
		old  *airgap.Bundle
		want string
	}{"large": {old, ""}, "small": {small, "more than a delta of the older bundle may"}} {
		_, err := delta.Base{Old: c.old, Folder: newFolder(t)}.Apply(t.Context(), b, next.Images()[1].Layers)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s older bundle: %v, want %q", name, err, c.want)
		}
	}
}
