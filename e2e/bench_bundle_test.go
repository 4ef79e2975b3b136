//go:build bench

package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/e2e/lab"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/images"
)

const (
	rounds = 5 // the best one counts: disturbances only make a run slower
	ctr    = "/usr/local/bin/k0s ctr -n k8s.io "
)

// TestBenchBundle_SizeVerifyAndImport measures the cost of a bundle: its size against
// gzipped docker archives, its verification against sha256sum, its import against
// containerd's own import, k0s's image folder and the limits of the machine. Each
// figure is a ratio of one run on one host.
func TestBenchBundle_SizeVerifyAndImport(t *testing.T) {
	ctx := timeoutContext(t, 30)
	b, err := airgap.Open(ctx, requireEnv(t, "PLINTH_E2E_BUNDLE"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var out strings.Builder
	row := func(what string, value, against float64, unit, aim string) {
		fmt.Fprintf(&out, "| %s | %.0f %s | %.0f %s | %.2f | %s |\n", what, value, unit, against, unit, value/against, aim)
	}
	fmt.Fprint(&out, "| what | plinth | against | ratio | aim |\n| --- | --- | --- | --- | --- |\n")
	row("images in the bundle against gzipped docker archives", storedBytes(b)/1e6, dockerArchiveBytes(t, ctx, b)/1e6, "MB", "at most 0.60")
	verify, sum := measureVerify(t, ctx, b)
	row("verify against sha256sum", verify, sum, "MB/s", "at least 0.70")

	h := startHostWithPlinth(t, "import")
	r := prepareContainerd(t, ctx, h)
	ours, theirs := measureImports(t, ctx, r, b)
	row("import against ctr images import", ours, theirs, "MB/s", "at least 2.00")
	row("import against k0s's image folder, which does not unpack", ours, measureImageFolder(t, ctx, r, b), "MB/s", "")
	row("import against zstd decoding alone, on all processors", ours, measureDecode(t, ctx, b), "MB/s", "")
	row("import, unpacked bytes, against writing zeros to the same disk", ours*unpackedBytes(b)/storedBytes(b), measureDiskWrite(t, ctx, h), "MB/s", "")
	t.Logf("\n%s", out.String())
}

// storedBytes returns the size of the images in the bundle, in bytes. Blobs that several
// images share count once.
func storedBytes(b *airgap.Bundle) float64 { return float64(b.ContentSize().Stored) }

func unpackedBytes(b *airgap.Bundle) float64 { return float64(b.ContentSize().Unpacked) }

// dockerArchiveBytes returns the size of the images as kURL ships them: each one a tar
// of unpacked layers, compressed with gzip(1). Headers and manifest are left out, in
// favor of the archives.
func dockerArchiveBytes(t *testing.T, ctx context.Context, b *airgap.Bundle) float64 {
	sizes := make([]int64, len(b.Images()))
	group := errgroup.Group{}
	group.SetLimit(2)
	for i, img := range b.Images() {
		group.Go(func() error {
			gzip := exec.CommandContext(ctx, "gzip", "-c")
			gzip.Stdout = countingWriter{&sizes[i]}
			tar, err := gzip.StdinPipe()
			if err != nil {
				return err
			}
			if err := gzip.Start(); err != nil {
				return err
			}
			errs := []error{}
			for _, l := range img.Layers {
				errs = append(errs, unpackLayer(ctx, tar, b, l))
			}
			return errors.Join(append(errs, tar.Close(), gzip.Wait())...)
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	for _, n := range sizes {
		sum += n
	}
	return float64(sum)
}

type countingWriter struct{ n *int64 }

func (c countingWriter) Write(p []byte) (int, error) { *c.n += int64(len(p)); return len(p), nil }

func unpackLayer(ctx context.Context, w io.Writer, src blob.Source, d ocispec.Descriptor) error {
	packed, err := src.Open(ctx, d)
	if err != nil {
		return err
	}
	defer packed.Close()
	plain, err := blob.Unpack(packed, d.MediaType)
	if err != nil {
		return err
	}
	defer plain.Close()
	_, err = io.CopyBuffer(w, plain, make([]byte, 1<<20))
	return err
}

// measureVerify returns the throughput of Verify and of sha256sum on the same file, in
// MB/s.
func measureVerify(t *testing.T, ctx context.Context, b *airgap.Bundle) (verify, sum float64) {
	for range rounds {
		start := time.Now()
		if out, err := exec.CommandContext(ctx, "sha256sum", requireEnv(t, "PLINTH_E2E_BUNDLE")).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		sum = max(sum, float64(b.Size())/1e6/time.Since(start).Seconds())
		start = time.Now()
		if err := b.Verify(ctx, nil); err != nil {
			t.Fatal(err)
		}
		verify = max(verify, float64(b.Size())/1e6/time.Since(start).Seconds())
	}
	return verify, sum
}

// containerdHost is a host with the containerd of k0s alone. A running cluster would
// use CPUs at random moments.
type containerdHost struct {
	*lab.Host
	socket string // this machine's path of containerd's socket
	tar    string // on the host: the bundle's images as an OCI archive
}

func prepareContainerd(t *testing.T, ctx context.Context, h *lab.Host) containerdHost {
	t.Helper()
	h.Copy(extractK0s(t, ctx), "/usr/local/bin/k0s")
	h.MustRun(ctx, "k0s", "install", "controller", "--enable-worker", "--no-taints", "--kubelet-extra-args=--node-ip="+h.IP())
	h.MustRun(ctx, "k0s", "start")
	waitUntil(t, ctx, h, time.Now(), "test -S /run/k0s/containerd.sock && "+ctr+"version")
	h.MustRun(ctx, "systemctl", "stop", "k0scontroller")
	h.MustRun(ctx, "cp", "-r", "/var/lib/k0s/bin", "/srv/bin")
	r := containerdHost{h, h.Path("/run/k0s/containerd.sock"), "/srv/images.tar"}
	h.Copy(allImagesArchive(t, ctx), r.tar)
	return r
}

// restartEmpty starts containerd with an empty store.
func (r containerdHost) restartEmpty(t *testing.T, ctx context.Context) {
	t.Helper()
	r.MustRun(ctx, "sh", "-c", `systemctl stop bench-containerd 2>/dev/null; rm -rf /srv/containerd /run/k0s/containerd.sock; sync; mkdir -p /run/k0s
		PATH=/srv/bin:$PATH systemd-run -q --unit=bench-containerd --setenv=PATH=/srv/bin:$PATH /srv/bin/containerd --root=/srv/containerd --state=/run/bench --address=/run/k0s/containerd.sock`)
	waitUntil(t, ctx, r.Host, time.Now(), ctr+"version")
}

// measureImports returns the throughput of plinth and of ctr, in MB/s of stored bytes.
func measureImports(t *testing.T, ctx context.Context, r containerdHost, b *airgap.Bundle) (ours, theirs float64) {
	for range rounds {
		r.restartEmpty(t, ctx)
		start := time.Now()
		r.MustRun(ctx, "sh", "-c", ctr+"images import --all-platforms "+r.tar)
		theirs = max(theirs, storedBytes(b)/1e6/time.Since(start).Seconds())

		r.restartEmpty(t, ctx)
		start = time.Now()
		importWithPlinth(t, ctx, r, b)
		ours = max(ours, storedBytes(b)/1e6/time.Since(start).Seconds())
		t.Logf("so far: plinth %.0f MB/s, ctr %.0f MB/s", ours, theirs)
	}
	return ours, theirs
}

// importWithPlinth imports images as the two steps of an install do.
func importWithPlinth(t *testing.T, ctx context.Context, r containerdHost, b *airgap.Bundle) {
	t.Helper()
	store, err := images.Open(ctx, r.socket, host.Local(r.Path("/")), time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var boot, rest []images.Image
	for _, i := range b.Images() {
		img := images.Image{Ref: i.Ref, Manifest: i.Manifest, Blobs: append(slices.Clone(i.Layers), i.Config)}
		if strings.HasPrefix(i.Ref, "quay.io/k0sproject/") {
			boot = append(boot, img)
		} else {
			rest = append(rest, img)
		}
	}
	slices.SortStableFunc(rest, func(x, y images.Image) int { return cmp.Compare(y.Size(), x.Size()) })
	want := append(slices.Clone(boot), rest...)
	for _, part := range [][]images.Image{boot, rest} {
		if err := store.Import(ctx, airgap.Unverified{Bundle: b}, part, images.DefaultParallelism, func(string, int64, int64) {}); err != nil {
			t.Fatal(err)
		}
	}
	if missing, err := store.MissingImages(ctx, want); err != nil || len(missing) > 0 {
		t.Fatalf("%d images are missing, %v", len(missing), err)
	}
}

// measureImageFolder returns the throughput of k0s with an archive in its image
// folder, in MB/s, measured from the moment at which containerd answers.
func measureImageFolder(t *testing.T, ctx context.Context, r containerdHost, b *airgap.Bundle) float64 {
	r.MustRun(ctx, "sh", "-c", "systemctl stop bench-containerd; rm -rf /run/k0s/containerd.sock /var/lib/k0s/containerd; mkdir -p /var/lib/k0s/images; mv "+r.tar+" /var/lib/k0s/images/")
	r.MustRun(ctx, "k0s", "start")
	waitUntil(t, ctx, r.Host, time.Now(), ctr+"version")
	took := waitUntil(t, ctx, r.Host, time.Now(), fmt.Sprintf("test $(%s images ls -q | grep -vc @) -ge %d", ctr, len(b.Images())))
	r.MustRun(ctx, "systemctl", "stop", "k0scontroller")
	return storedBytes(b) / 1e6 / took.Seconds()
}

// measureDecode returns the throughput of unpacking the layers without writing them, in
// MB/s of stored bytes.
func measureDecode(t *testing.T, ctx context.Context, b *airgap.Bundle) float64 {
	start := time.Now()
	group, done := errgroup.Group{}, map[string]bool{}
	group.SetLimit(2)
	for _, img := range b.Images() {
		for _, l := range img.Layers {
			if !done[l.Digest.String()] {
				group.Go(func() error { return unpackLayer(ctx, io.Discard, b, l) })
			}
			done[l.Digest.String()] = true
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	return storedBytes(b) / 1e6 / time.Since(start).Seconds()
}

// measureDiskWrite returns the throughput of the host's disk, in MB/s.
func measureDiskWrite(t *testing.T, ctx context.Context, h *lab.Host) float64 {
	start := time.Now()
	h.MustRun(ctx, "dd", "if=/dev/zero", "of=/srv/zeros", "bs=1M", "count=1024", "conv=fsync")
	return 1024 * 1.048576 / time.Since(start).Seconds()
}

// allImagesArchive writes an OCI archive of the bundle's images and returns its path.
func allImagesArchive(t *testing.T, ctx context.Context) string {
	t.Helper()
	all, err := layout.ImageIndexFromPath(requireEnv(t, "PLINTH_E2E_PAYLOAD"))
	if err != nil {
		t.Fatal(err)
	}
	notImage := func(d v1.Descriptor) bool { return d.Annotations["dev.plinth.kind"] != "image" }
	return writeOCIArchive(t, ctx, mutate.RemoveManifests(all, match.Matcher(notImage)))
}
