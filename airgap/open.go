package airgap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/internal/problem"
)

// Bundle is an open bundle. It is immutable and safe for concurrent readers.
type Bundle struct {
	name         string
	r            io.ReaderAt
	closer       io.Closer
	size         int64
	digest       digest.Digest
	index        ocispec.Index
	rawIndex     []byte // the index as stored in the file
	releaseInfo  releaseInfo
	signature    []byte // signature of the index, empty if not signed
	items        []format.Item
	layers       map[digest.Digest]format.Layer // of all items; the first of each digest
	blobs        map[digest.Digest]format.Span
	contentStore blob.Source // holds the content if it is not in r; nil for a bundle file
	missingBlobs missingBlobs
	delta        *format.Delta // nil if the bundle is not a delta
}

var _ blob.Source = (*Bundle)(nil)

// Open opens a bundle file and verifies everything except the content of the
// blobs: the tar is exactly as plinth writes it, the index and the manifests have
// their digests, and every referenced blob exists exactly once with its declared
// size, with no other blobs. Nothing is unpacked, and the file is not read as a
// whole. Every error is a problem with the exit code for a bad bundle.
func Open(ctx context.Context, path string) (*Bundle, error) {
	fail := func(err error) error { return format.OpenError(path, err, nil) }
	st, err := os.Stat(path)
	if err != nil {
		if near := similarBundle(path); near != "" && errors.Is(err, fs.ErrNotExist) {
			return nil, problem.New(problem.ExitBundle, "open bundle "+path, unix.ENOENT, "did you mean "+near+"?")
		}
		return nil, fail(err)
	}
	if st.IsDir() {
		return nil, fail(format.ErrIsFolder)
	}
	if !st.Mode().IsRegular() { // opening a pipe would block forever
		return nil, fail(format.ErrNotRegular)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fail(err)
	}
	b, err := OpenAt(ctx, file, st.Size(), path)
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	b.closer = file
	return b, nil
}

// similarBundle returns the path of the bundle in the folder of path whose name is nearest to that of
// path; "" if there is none.
func similarBundle(path string) string {
	list, err := os.ReadDir(filepath.Dir(path))
	if err != nil || path == "" {
		return ""
	}
	var names []string
	for _, e := range list {
		if strings.HasSuffix(e.Name(), ".bundle") && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	near := problem.Nearest(filepath.Base(path), names)
	if near == "" {
		return ""
	}
	return filepath.Join(filepath.Dir(path), near)
}

// OpenAt opens a bundle of size bytes in r, which may be part of another file
// such as an executable. It verifies the same as Open. name identifies the
// bundle in errors.
func OpenAt(ctx context.Context, r io.ReaderAt, size int64, name string) (*Bundle, error) {
	t, err := format.Scan(r, size)
	if err != nil {
		var head [512]byte
		n, _ := r.ReadAt(head[:], 0)
		return nil, format.OpenError(name, err, head[:n])
	}
	b := &Bundle{name: name, r: r, size: size, blobs: t.Blobs}
	if err := b.readIndex(t.Docs); err != nil {
		return nil, format.OpenError(name, err, nil)
	}
	if err := b.readItems(ctx); err != nil {
		return nil, format.OpenError(name, err, nil)
	}
	return b, nil
}

// WithCloser returns b after making Close close c, such as the file that OpenAt
// reads from.
func (b *Bundle) WithCloser(c io.Closer) *Bundle {
	b.closer = c
	return b
}

// Close closes the bundle file. Readers that are still open fail afterwards.
func (b *Bundle) Close() error {
	if b.closer == nil {
		return nil
	}
	return b.closer.Close()
}

// readIndex verifies and parses the documents that precede the blobs.
func (b *Bundle) readIndex(docs map[string]format.Span) error {
	layout, err := b.readSpan(docs[format.LayoutEntry])
	if err != nil || string(layout) != blob.LayoutFile {
		return errors.Join(fmt.Errorf("its %s is not that of an OCI image layout 1.0.0", format.LayoutEntry), err)
	}
	raw, err := b.readSpan(docs[format.IndexEntry])
	if err != nil {
		return fmt.Errorf("%s: %w", format.IndexEntry, err)
	}
	sum, err := b.readSpan(docs[format.ChecksumEntry])
	if err != nil || string(sum) != format.Checksum(raw) {
		return errors.Join(fmt.Errorf("%s and %s do not match: one of them is damaged", format.IndexEntry, format.ChecksumEntry), err)
	}
	if s := docs[format.SignatureEntry]; s.Size > limit.Signature {
		return fmt.Errorf("its %s has %d bytes, a signature has at most %d", format.SignatureEntry, s.Size, limit.Signature)
	}
	if b.signature, err = b.readSpan(docs[format.SignatureEntry]); err != nil {
		return fmt.Errorf("%s: %w", format.SignatureEntry, err)
	}
	if s, ok := docs[format.DeltaEntry]; ok {
		text, err := b.readSpan(s)
		if err == nil {
			b.delta, err = format.ParseDelta(text)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", format.DeltaEntry, err)
		}
	}
	return b.parseIndex(raw)
}

func (b *Bundle) parseIndex(raw []byte) (err error) {
	b.rawIndex, b.digest = raw, digest.FromBytes(raw)
	if err := limit.UnmarshalJSON(raw, &b.index); err != nil {
		return fmt.Errorf("%s: %w", format.IndexEntry, err)
	}
	if got := b.index.Annotations[format.AnnotationBundle]; got != format.V1 {
		return fmt.Errorf("it has the format version %q, this version of plinth reads %q", got, format.V1)
	}
	b.releaseInfo, err = parseReleaseInfo(b.index.Annotations)
	return err
}

// readSpan returns the content of s. It fails if s is larger than limit.Document.
func (b *Bundle) readSpan(s format.Span) ([]byte, error) {
	if s.Size > limit.Document {
		return nil, fmt.Errorf("it has %d bytes, more than the maximum of %d for such a document", s.Size, limit.Document)
	}
	buf := make([]byte, s.Size)
	if _, err := b.r.ReadAt(buf, s.Off); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return buf, nil
}

// readItems parses every manifest and checks that index, manifests and blobs
// match each other. Its error lists all problems found.
func (b *Bundle) readItems(ctx context.Context) error {
	var errs findings
	b.layers = map[digest.Digest]format.Layer{}
	left := limit.Budget(limit.Manifests)
	for _, desc := range b.index.Manifests {
		if !left.Take(desc.Size) {
			return fmt.Errorf("its manifests have more than %d bytes", limit.Manifests)
		}
		manifest, err := blob.ReadAll(ctx, b, desc, limit.Document)
		if err != nil {
			errs.addError(problemCause(err))
			continue
		}
		it, err := format.ParseItem(desc, manifest)
		if err != nil {
			errs.addError(err)
			continue
		}
		b.items = append(b.items, it)
		for _, l := range it.Layers {
			if _, ok := b.layers[l.Digest]; !ok {
				b.layers[l.Digest] = l
			}
		}
	}
	if len(errs) == 0 {
		if b.contentStore == nil {
			b.checkBlobs(&errs)
		}
		b.checkItems(&errs)
	}
	return errs.toError()
}

// checkUnreferencedBlobs adds an error for every blob in the file that nothing references.
func (b *Bundle) checkUnreferencedBlobs(used map[digest.Digest]bool, errs *findings) {
	var stray []string
	for d := range b.blobs {
		if !used[d] {
			stray = append(stray, d.String())
		}
	}
	slices.Sort(stray)
	for _, d := range stray {
		errs.addError(fmt.Errorf("blob %s is not referenced by the index", d))
	}
}

// checkItems checks that the items together form a valid bundle.
func (b *Bundle) checkItems(errs *findings) {
	count, seen, platform := map[format.Kind]int{}, map[string]bool{}, b.Platform()
	for _, it := range b.items {
		count[it.Kind]++
		if seen[it.String()] {
			errs.addError(fmt.Errorf("%s appears twice", it))
		}
		seen[it.String()] = true
		for i, l := range it.Layers {
			if it.Kind == format.KindImage && l.Unpacked < 0 {
				errs.addError(fmt.Errorf("%s does not declare the unpacked size of layer %d", it, i+1))
			}
		}
		if p := it.Platform(); p != "" && p != platform {
			errs.addError(fmt.Errorf("%s is for %s, others are for %s", it, p, platform))
		}
	}
	if count[format.KindInstaller] != 1 {
		errs.addError(fmt.Errorf("it has %d installers, a bundle has exactly one", count[format.KindInstaller]))
	}
	for _, kind := range []format.Kind{format.KindApplication, format.KindSBOM, format.KindProvenance} {
		if count[kind] > 1 {
			errs.addError(fmt.Errorf("it has %d items of kind %s, a bundle has at most one", count[kind], kind))
		}
	}
	if b.Name() == "" {
		errs.addError(fmt.Errorf("its index has no name (annotation %s)", ocispec.AnnotationTitle))
	}
}

// errMissing marks a blob that is referenced but not in the file.
var errMissing = errors.New("is missing")

// findBlob returns where a blob is stored in the file. It fails if the blob does
// not have the size given in desc.
func (b *Bundle) findBlob(desc ocispec.Descriptor) (format.Span, error) {
	s, ok := b.blobs[desc.Digest]
	switch {
	case !ok:
		return s, fmt.Errorf("blob %s %w", desc.Digest, errMissing)
	case s.Size != desc.Size:
		return s, fmt.Errorf("blob %s has %d bytes instead of the declared %d", desc.Digest, s.Size, desc.Size)
	}
	return s, nil
}

// findings collects the problems found in one bundle, up to limit.Findings.
type findings []error

func (f *findings) addError(err error) {
	switch {
	case len(*f) < limit.Findings:
		*f = append(*f, err)
	case len(*f) == limit.Findings:
		*f = append(*f, errors.New("further problems are not listed"))
	}
}

// toError returns nil, the only finding, or all findings joined, one per line.
func (f findings) toError() error {
	if len(f) < 2 {
		return errors.Join(f...)
	}
	return fmt.Errorf("%d problems were found:\n%w", len(f), errors.Join(f...))
}
