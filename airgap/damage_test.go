package airgap_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/internal/problem"
)

// entry is one file in the tar of a bundle.
type entry struct {
	name string
	data []byte
}

// readEntries returns all files in the tar at path.
func readEntries(t testing.TB, path string) []entry {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var all []entry
	for r := tar.NewReader(file); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, entry{h.Name, data})
	}
}

// extract unpacks the tar at path and returns the folder.
func extract(t testing.TB, path string) string {
	t.Helper()
	dir := t.TempDir()
	for _, e := range readEntries(t, path) {
		name := filepath.Join(dir, e.name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, e.data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// packEntries returns the bytes of a bundle with the given entries.
func packEntries(t testing.TB, all []entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	for _, e := range all {
		head, err := format.TarHeader(e.name, int64(len(e.data)))
		if err != nil {
			t.Fatal(err)
		}
		buf.Write(head)
		buf.Write(e.data)
		buf.Write(make([]byte, format.Padding(int64(len(e.data)))))
	}
	buf.Write(make([]byte, 1024))
	return buf.Bytes()
}

// withIndex changes the index and updates its checksum.
func withIndex(t testing.TB, all []entry, change func(*ocispec.Index)) []entry {
	t.Helper()
	var index ocispec.Index
	if err := json.Unmarshal(all[1].data, &index); err != nil {
		t.Fatal(err)
	}
	change(&index)
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	all[1].data, all[2].data = raw, []byte(format.Checksum(raw))
	return all
}

// openAndVerify opens and verifies a bundle; a damaged one must fail one of the two.
func openAndVerify(t testing.TB, data []byte) error {
	t.Helper()
	b, err := airgap.OpenAt(t.Context(), bytes.NewReader(data), int64(len(data)), "test")
	if err != nil {
		return err
	}
	return b.Verify(t.Context(), nil)
}

// wantRefused checks the exit code and the cause, and that there is a hint.
func wantRefused(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" || !strings.Contains(err.Error(), part) {
		t.Errorf("want a refusal (exit 6, hint) with %q, got %v (exit %d, hint %q)", part, err, problem.ExitCode(err), problem.Hint(err))
	}
}

// pipePath returns the path of a pipe, like the standard input of `cat bundle | plinth …`.
func pipePath(t *testing.T) func() string {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(r.Close(), w.Close()) })
	return func() string { return fmt.Sprintf("/proc/self/fd/%d", r.Fd()) }
}

// TestOpen_AcceptsFileAsStandardInput opens the target of /dev/stdin in `plinth … <bundle`.
func TestOpen_AcceptsFileAsStandardInput(t *testing.T) {
	file, err := os.Open(airgaptest.WriteBundle(t, airgaptest.NewRequest(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := openBundle(t, fmt.Sprintf("/proc/self/fd/%d", file.Fd())).Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestOpen_NamesWhatIsNotABundle(t *testing.T) {
	dir := t.TempDir()
	write := func(content string) func() string {
		return func() string {
			path := filepath.Join(dir, fmt.Sprintf("f%x", digest.FromString(content).Encoded()[:8]))
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
	}
	for name, c := range map[string]struct {
		path func() string
		part string
	}{
		"missing":    {func() string { return filepath.Join(dir, "absent") }, "no such file"},
		"folder":     {func() string { return dir }, "it is a folder"},
		"device":     {func() string { return "/dev/null" }, "not a regular file"},
		"pipe":       {pipePath(t), "not a regular file"},
		"empty":      {write(""), "truncated"},
		"gzip":       {write("\x1f\x8b\x08" + strings.Repeat("x", 9000)), "compressed by gzip"},
		"short gzip": {write("\x1f\x8b\x08"), "compressed by gzip"},
		"zstd":       {write("\x28\xb5\x2f\xfd" + strings.Repeat("x", 9000)), "compressed by zstd"},
		"web page":   {write("<!DOCTYPE html><html>404" + strings.Repeat(" ", 900)), "web page"},
		"installer":  {write(airgaptest.Installer), "YAML"},
		"text":       {write(strings.Repeat("hello ", 2000)), "not a bundle"},
		"zeros":      {write(strings.Repeat("\x00", 1024)), "its first entry"},
		"other tar":  {write(string(airgaptest.Tar(t, "hello", "world"))), "its first entry"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := airgap.Open(t.Context(), c.path())
			wantRefused(t, err, c.part)
		})
	}
}

func TestOpenAt_RefusesEveryTruncation(t *testing.T) {
	data := packEntries(t, readEntries(t, airgaptest.WriteBundle(t, airgaptest.NewRequest(t))))
	if err := openAndVerify(t, data); err != nil {
		t.Fatal(err)
	}
	for n := range data {
		if n > 2100 && n < len(data)-1100 && n%251 != 0 { // every byte at both ends, some in between
			continue
		}
		b, err := airgap.OpenAt(t.Context(), bytes.NewReader(data[:n]), int64(n), "test")
		if err == nil {
			_ = b.Close()
			t.Fatalf("opened with %d of %d bytes", n, len(data))
		}
		if problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" {
			t.Fatalf("at %d: %v", n, err)
		}
	}
	_, err := airgap.OpenAt(t.Context(), bytes.NewReader(data[:len(data)/2]), int64(len(data)/2), "test")
	wantRefused(t, err, "truncated")
	_, err = airgap.OpenAt(t.Context(), bytes.NewReader(data[:1]), 1, "test")
	wantRefused(t, err, "truncated")
}

func TestVerify_FindsEveryFlippedBit(t *testing.T) {
	data := packEntries(t, readEntries(t, airgaptest.WriteBundle(t, airgaptest.NewRequest(t))))
	random := rand.New(rand.NewPCG(1, 2))
	for at := 0; at < len(data); at += 1 + random.IntN(32) {
		bit := byte(1) << random.IntN(8)
		data[at] ^= bit
		err := openAndVerify(t, data)
		data[at] ^= bit
		if problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" {
			t.Fatalf("byte %d of %d, bit %#x: %v", at, len(data), bit, err)
		}
	}
}

func TestOpenAt_NamesStructuralDamage(t *testing.T) {
	path := airgaptest.WriteBundle(t, airgaptest.NewRequest(t))
	raw := func(change func([]entry) []entry) func(t *testing.T) []byte {
		return func(t *testing.T) []byte { return packEntries(t, change(readEntries(t, path))) }
	}
	index := func(change func(*ocispec.Index)) func(t *testing.T) []byte {
		return func(t *testing.T) []byte { return packEntries(t, withIndex(t, readEntries(t, path), change)) }
	}
	special := func(h tar.Header) func(t *testing.T) []byte {
		return func(t *testing.T) []byte {
			whole := packEntries(t, readEntries(t, path))
			var buf bytes.Buffer
			w := tar.NewWriter(&buf)
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			return append(append(whole[:len(whole)-1024:len(whole)-1024], buf.Bytes()...), make([]byte, 1024)...)
		}
	}
	stranger := digest.FromString("a stranger")
	for name, c := range map[string]struct {
		make func(t *testing.T) []byte
		part string
	}{
		"blob missing":     {raw(func(e []entry) []entry { return e[:len(e)-1] }), "is missing"},
		"manifest missing": {raw(func(e []entry) []entry { return append(e[:3:3], e[4:]...) }), "is missing"},
		"blob twice":       {raw(func(e []entry) []entry { return append(e, e[len(e)-1]) }), "appears twice"},
		"stray blob":       {raw(func(e []entry) []entry { return append(e, entry{format.BlobEntry(stranger), []byte("a stranger")}) }), "not referenced by the index"},
		"other name":       {raw(func(e []entry) []entry { return append(e, entry{"blobs/sha256/README", nil}) }), "not allowed in a bundle"},
		"other algorithm":  {raw(func(e []entry) []entry { return append(e, entry{"blobs/sha512/" + stranger.Encoded(), nil}) }), "not allowed in a bundle"},
		"upper case":       {raw(func(e []entry) []entry { return append(e, entry{strings.ToUpper(e[4].name), nil}) }), "not allowed in a bundle"},
		"path escape":      {raw(func(e []entry) []entry { return append(e, entry{"../../etc/shadow", nil}) }), "points outside the archive"},
		"hidden escape":    {raw(func(e []entry) []entry { return append(e, entry{"blobs/../../x", nil}) }), "points outside the archive"},
		"absolute path":    {special(tar.Header{Typeflag: tar.TypeReg, Name: "/etc/shadow"}), "points outside the archive"},
		"symlink":          {special(tar.Header{Typeflag: tar.TypeSymlink, Name: format.BlobEntry(stranger), Linkname: "/etc/shadow"}), "is a link"},
		"hard link":        {special(tar.Header{Typeflag: tar.TypeLink, Name: format.BlobEntry(stranger), Linkname: "index.json"}), "is a link"},
		"device":           {special(tar.Header{Typeflag: tar.TypeBlock, Name: format.BlobEntry(stranger)}), "not a regular file"},
		"folder entry":     {special(tar.Header{Typeflag: tar.TypeDir, Name: "blobs/"}), "not a regular file"},
		"owner in header":  {special(tar.Header{Typeflag: tar.TypeReg, Name: format.BlobEntry(stranger), Uid: 1000}), "another tool"},
		"after the end":    {func(t *testing.T) []byte { return append(packEntries(t, readEntries(t, path)), 0) }, "continues after its end"},
		"index moved":      {raw(func(e []entry) []entry { e[0], e[1] = e[1], e[0]; return e }), "its first entry"},
		"other layout":     {raw(func(e []entry) []entry { e[0].data = []byte(`{"imageLayoutVersion":"2.0.0"}`); return e }), "OCI image layout"},
		"index too big":    {raw(func(e []entry) []entry { e[1].data = make([]byte, 5<<20); return e }), "more than the"},
		"index not json": {raw(func(e []entry) []entry {
			e[1].data = []byte("}")
			e[2].data = []byte(format.Checksum(e[1].data))
			return e
		}), "index.json"},
		"signature too long": {raw(func(e []entry) []entry { return slices.Insert(e, 3, entry{format.SignatureEntry, make([]byte, 129)}) }), "a signature has at most"},
		"signature twice": {raw(func(e []entry) []entry {
			return slices.Insert(e, 3, entry{format.SignatureEntry, nil}, entry{format.SignatureEntry, nil})
		}), "not allowed in a bundle"},
		"delta late":             {raw(func(e []entry) []entry { return append(e, entry{format.DeltaEntry, nil}) }), "not allowed in a bundle"},
		"delta without a base":   {raw(func(e []entry) []entry { return slices.Insert(e, 3, entry{format.DeltaEntry, []byte("{}")}) }), "not a sha256 digest"},
		"delta not json":         {raw(func(e []entry) []entry { return slices.Insert(e, 3, entry{format.DeltaEntry, []byte("{")}) }), "delta.json"},
		"delta of unknown words": {raw(func(e []entry) []entry { return slices.Insert(e, 3, entry{format.DeltaEntry, []byte(`{"x":1}`)}) }), "unknown field"},
		"signature late":         {raw(func(e []entry) []entry { return append(e, entry{format.SignatureEntry, nil}) }), "not allowed in a bundle"},
		"index altered": {raw(func(e []entry) []entry {
			e[1].data = bytes.Replace(e[1].data, []byte("my-app"), []byte("my-bpp"), 1)
			return e
		}), "do not match"},
		"format version":    {index(func(i *ocispec.Index) { i.Annotations[format.AnnotationBundle] = "v9" }), `"v9"`},
		"no name":           {index(func(i *ocispec.Index) { delete(i.Annotations, ocispec.AnnotationTitle) }), "no name"},
		"no installer":      {index(func(i *ocispec.Index) { i.Manifests = i.Manifests[1:] }), "0 installers"},
		"item twice":        {index(func(i *ocispec.Index) { i.Manifests = append(i.Manifests, i.Manifests[3]) }), "appears twice"},
		"unknown kind":      {index(func(i *ocispec.Index) { i.Manifests[0].Annotations[format.AnnotationKind] = "spell" }), "does not support"},
		"wrong kind":        {index(func(i *ocispec.Index) { i.Manifests[0].Annotations[format.AnnotationKind] = "application" }), "exactly one layer"},
		"wrong size":        {index(func(i *ocispec.Index) { i.Manifests[5].Size++ }), "instead of the declared"},
		"negative size":     {index(func(i *ocispec.Index) { i.Manifests[5].Size = -1 }), "manifests have"},
		"wrong digest":      {index(func(i *ocispec.Index) { i.Manifests[5].Digest = stranger }), "is missing"},
		"no digest":         {index(func(i *ocispec.Index) { i.Manifests[5].Digest = "sha256:../../etc" }), "not a sha256 digest"},
		"bad name":          {index(func(i *ocispec.Index) { i.Manifests[3].Annotations[ocispec.AnnotationRefName] = "host/../k0s" }), "invalid name"},
		"terminal escape":   {index(func(i *ocispec.Index) { i.Manifests[5].Annotations[format.AnnotationImageName] = "a/b\x1b[2J" }), "invalid name"},
		"short reference":   {index(func(i *ocispec.Index) { i.Manifests[5].Annotations[format.AnnotationImageName] = "pause" }), "full reference"},
		"no unpacked sizes": {index(func(i *ocispec.Index) { delete(i.Manifests[5].Annotations, format.AnnotationSizes) }), "unpacked size of layer 1"},
		"sizes miscounted":  {index(func(i *ocispec.Index) { i.Manifests[5].Annotations[format.AnnotationSizes] = "1" }), "1 unpacked sizes for 2 layers"},
		"sizes not numbers": {index(func(i *ocispec.Index) { i.Manifests[5].Annotations[format.AnnotationSizes] = "1,-2" }), "not an unpacked size"},
		"other media type":  {index(func(i *ocispec.Index) { i.Manifests[5].MediaType = ocispec.MediaTypeImageIndex }), "must have schema version 2"},
		"release no number": {index(func(i *ocispec.Index) { i.Annotations[format.AnnotationRelease] = "seven" }), "not a release number"},
		"release zero":      {index(func(i *ocispec.Index) { i.Annotations[format.AnnotationRelease] = "0" }), "not a release number"},
		"expires sometime":  {index(func(i *ocispec.Index) { i.Annotations[format.AnnotationExpires] = "sometime" }), "not an expiry time"},
		"two platforms":     {index(func(i *ocispec.Index) { i.Manifests[5].Platform.Architecture = "arm64" }), "linux/arm64"},
		"all other platform": {index(func(i *ocispec.Index) {
			for _, m := range i.Manifests {
				if m.Platform != nil {
					m.Platform.Architecture = "arm64"
				}
			}
		}), "the index says linux/arm64"},
	} {
		t.Run(name, func(t *testing.T) { wantRefused(t, openAndVerify(t, c.make(t)), c.part) })
	}
}

func TestVerify_NamesEveryDamagedBlobAndItsOwner(t *testing.T) {
	all := readEntries(t, airgaptest.WriteBundle(t, airgaptest.NewRequest(t)))
	for _, i := range []int{len(all) - 1, len(all) - 2} {
		all[i].data = bytes.Repeat([]byte{7}, len(all[i].data))
	}
	err := openAndVerify(t, packEntries(t, all))
	wantRefused(t, err, "2 problems were found")
	wantRefused(t, err, "docker.io/kotsadm/kotsadm:v1.131.2")
	wantRefused(t, err, "quay.io/k0sproject/coredns:1.12.2")
}

func TestVerify_RefusesDecompressionBomb(t *testing.T) {
	zeros := make([]byte, 64<<20)
	req := airgaptest.NewRequest(t)
	req.Layout = airgaptest.WriteLayout(t, []airgaptest.Image{{Ref: "example.com/bomb:1", Files: []string{string(zeros)}}, {Ref: "example.com/gzip:1", Files: []string{string(zeros)}, Gzip: true}}, airgaptest.HostFiles())
	req.Images = []string{"example.com/bomb:1", "example.com/gzip:1"}
	all := readEntries(t, airgaptest.WriteBundle(t, req))
	if err := openAndVerify(t, packEntries(t, all)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		item     int
		declared string
		part     string
	}{
		"zstd declares too little": {5, "4096", "unpacks to more than the 4096 bytes it declares"},
		"gzip declares too little": {6, "4096", "unpacks to more than the 4096 bytes it declares"},
		"zstd declares too much":   {5, "99999999999", "it declares 99999999999"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := withIndex(t, slices.Clone(all), func(x *ocispec.Index) { x.Manifests[c.item].Annotations[format.AnnotationSizes] = c.declared })
			wantRefused(t, openAndVerify(t, packEntries(t, changed)), c.part)
		})
	}
}

func TestOpenHostFile_VerifiesUnpackedDigestAndSize(t *testing.T) {
	path := airgaptest.WriteBundle(t, airgaptest.NewRequest(t))
	for name, c := range map[string]struct{ key, value, part string }{
		"digest":   {format.AnnotationDigest, digest.FromString("x").String(), "its content has the digest"},
		"too long": {format.AnnotationSize, "5", "it is longer than its 5 bytes"},
		"shorter":  {format.AnnotationSize, "20", "it ends after 19 of 20 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			all := readEntries(t, path)
			replaceManifest(t, all, 3, func(m *ocispec.Manifest) { m.Layers[0].Annotations[c.key] = c.value })
			data := packEntries(t, all)
			b, err := airgap.OpenAt(t.Context(), bytes.NewReader(data), int64(len(data)), "test")
			if err != nil {
				t.Fatal(err)
			}
			r, err := b.OpenHostFile(t.Context(), "k0s")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			_, err = io.ReadAll(r)
			wantRefused(t, err, c.part)
		})
	}
}

// replaceManifest changes the manifest of item i and updates its digest in the index.
func replaceManifest(t testing.TB, all []entry, i int, change func(*ocispec.Manifest)) {
	t.Helper()
	withIndex(t, all, func(x *ocispec.Index) {
		for j := range all {
			if all[j].name != format.BlobEntry(x.Manifests[i].Digest) {
				continue
			}
			var m ocispec.Manifest
			if err := json.Unmarshal(all[j].data, &m); err != nil {
				t.Fatal(err)
			}
			change(&m)
			raw, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			x.Manifests[i].Digest, x.Manifests[i].Size = digest.FromBytes(raw), int64(len(raw))
			all[j] = entry{format.BlobEntry(x.Manifests[i].Digest), raw}
		}
	})
}
