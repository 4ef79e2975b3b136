package format_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/format"
)

// sparse is a file of mostly zeros that is too large to be written in a test.
type sparse map[int64][]byte

func (s sparse) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	for at, data := range s {
		for i, b := range data {
			if j := at + int64(i) - off; j >= 0 && j < int64(len(p)) {
				p[j] = b
			}
		}
	}
	return len(p), nil
}

// put writes an entry's header at the offset at and returns the offset after its content.
func (s sparse) put(t *testing.T, at int64, name string, size int64) int64 {
	t.Helper()
	head, err := format.TarHeader(name, size)
	if err != nil {
		t.Fatal(err)
	}
	s[at] = head
	return at + int64(len(head)) + size + format.Padding(size)
}

func TestScan_AcceptsBlobLargerThanUSTARAllows(t *testing.T) {
	const huge = 9<<30 + 1
	file, first, second := sparse{}, digest.FromString("first"), digest.FromString("second")
	at := int64(0)
	for _, name := range []string{format.LayoutEntry, format.IndexEntry, format.ChecksumEntry} {
		at = file.put(t, at, name, 3)
	}
	at = file.put(t, at, format.BlobEntry(first), huge)
	at = file.put(t, at, format.BlobEntry(second), 0)
	table, err := format.Scan(file, at+1024)
	if err != nil {
		t.Fatal(err)
	}
	if got := table.Blobs[first]; got.Size != huge || got.Off <= 0 {
		t.Errorf("first is at %+v", got)
	}
	if got := table.Blobs[second]; got.Size != 0 || got.Off+1024 != at+1024 {
		t.Errorf("second is at %+v of %d", got, at)
	}
	if _, err := format.Scan(file, 8<<30); !errors.Is(err, format.ErrTruncated) {
		t.Errorf("truncated in the huge blob: %v", err)
	}
}

func TestScan_ReturnsReadError(t *testing.T) {
	broken := errors.New("input/output error")
	if _, err := format.Scan(failing{broken}, 4096); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

var _ io.ReaderAt = failing{}

func TestDescriptorKind_IsImageForNamedItemsOfOtherTools(t *testing.T) {
	for name, c := range map[string]struct {
		annotations map[string]string
		kind        format.Kind
		want        string
	}{
		"skopeo":     {map[string]string{ocispec.AnnotationRefName: "docker.io/a/b:1"}, format.KindImage, "docker.io/a/b:1"},
		"containerd": {map[string]string{ocispec.AnnotationRefName: "1", format.AnnotationImageName: "docker.io/a/b:1"}, format.KindImage, "docker.io/a/b:1"},
		"payload":    {map[string]string{format.AnnotationKind: "host", ocispec.AnnotationTitle: "k0s"}, format.KindHost, "k0s"},
		"bundle":     {map[string]string{format.AnnotationKind: "host", ocispec.AnnotationRefName: "host/k0s"}, format.KindHost, "k0s"},
	} {
		t.Run(name, func(t *testing.T) {
			desc := ocispec.Descriptor{Annotations: c.annotations}
			if kind, got := format.DescriptorKind(desc), format.DescriptorName(desc); kind != c.kind || got != c.want {
				t.Errorf("%s %s", kind, got)
			}
		})
	}
}

func TestParseItem_RefusesInvalidManifest(t *testing.T) {
	d := digest.FromString("x")
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: 1,
		Annotations: map[string]string{format.AnnotationKind: "host", ocispec.AnnotationRefName: "host/k0s"}}
	layer := `{"mediaType":"application/vnd.plinth.file.v1+zstd","digest":"` + d.String() + `","size":1,"annotations":{"dev.plinth.mode":"MODE","dev.plinth.uncompressed-size":"SIZE","dev.plinth.uncompressed-digest":"` + d.String() + `"}}`
	whole := func(layers ...string) string {
		return `{"schemaVersion":2,"config":{"digest":"` + d.String() + `","size":2},"layers":[` + strings.Join(layers, ",") + `]}`
	}
	valid := strings.NewReplacer("MODE", "0755", "SIZE", "5").Replace(layer)
	if it, err := format.ParseItem(desc, []byte(whole(valid))); err != nil || it.Unpacked() != 5 || it.Name != "k0s" {
		t.Errorf("%+v, %v", it, err)
	}
	for name, c := range map[string]struct{ manifest, part string }{
		"empty":           {"", "unexpected end"},
		"list":            {"[]", "cannot unmarshal"},
		"no version":      {"{}", "must have schema version 2"},
		"no layers":       {whole(), "exactly one layer"},
		"two layers":      {whole(valid, valid), "exactly one layer"},
		"setuid mode":     {whole(strings.NewReplacer("MODE", "4755", "SIZE", "5").Replace(layer)), "not a file mode"},
		"negative size":   {whole(strings.NewReplacer("MODE", "0755", "SIZE", "-5").Replace(layer)), "not an unpacked size"},
		"short digest":    {whole(strings.Replace(valid, d.String(), "sha256:0", 1)), "not a sha256 digest"},
		"negative layer":  {whole(strings.ReplaceAll(valid, `"size":1,`, `"size":-1,`)), "negative size"},
		"other algorithm": {strings.Replace(whole(valid), `"config":{"digest":"`+d.String(), `"config":{"digest":"md5:`, 1), "not a sha256 digest"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := format.ParseItem(desc, []byte(c.manifest)); err == nil || !strings.Contains(err.Error(), c.part) {
				t.Errorf("%.60s: want %q, got %v", c.manifest, c.part, err)
			}
		})
	}
}
