package backup

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// Source opens the file of a backup from its beginning.
type Source func() (io.ReadCloser, error)

// VerifyBytes reads a whole file and compares it with the digest at its end. It needs no key: it finds
// accidents, not a file that was replaced on purpose. It returns the header, and the digest of the file.
func VerifyBytes(open Source) (h Header, sum digest.Digest, err error) {
	r, err := open()
	if err != nil {
		return h, "", err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	whole := sha256.New()
	h, t, err := openFile(io.TeeReader(r, whole))
	if err != nil {
		return h, "", err
	}
	if _, err := io.Copy(io.Discard, t); err != nil {
		return h, "", err
	}
	return h, digest.NewDigest(digest.SHA256, whole), nil
}

// Visit is called for each file of an archive, in the order of the manifest. What it does not read is
// skipped. The reader returns an error at its end if the content differs from the manifest.
type Visit func(m Manifest, f File, content io.Reader) error

// Verify reads a whole file, decrypts it, and compares every file in it with the manifest. The errors tell
// damage (ErrDamaged) from a wrong key (ErrKey).
func Verify(open Source, key Key) (Manifest, error) {
	return Extract(open, key, func(Manifest, File, io.Reader) error { return nil })
}

// Extract is Verify, and calls visit for each file. What visit got must not be used before Extract has
// returned without an error: only then is the end of the file verified.
func Extract(open Source, key Key, visit Visit) (m Manifest, err error) {
	h, _, err := VerifyBytes(open) // first: a damaged header of age is like one for another key
	if err != nil {
		return m, err
	}
	if err := key.Check(h.Encryption); err != nil {
		return m, err
	}
	r, err := open()
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	h, t, err := openFile(r)
	if err != nil {
		return m, err
	}
	plain, err := key.decrypt(t, h.Encryption)
	if err != nil {
		return m, err
	}
	unpacked, err := zstd.NewReader(plain, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return m, damagedf("%w", err)
	}
	defer unpacked.Close()
	if m, err = readArchive(unpacked, h, visit); err != nil {
		return Manifest{}, err
	}
	for _, rest := range []io.Reader{unpacked, plain, t} { // each verifies its end
		if err := expectEnd(rest); err != nil {
			return Manifest{}, err
		}
	}
	return m, nil
}

// readArchive reads the manifest and then the files that it lists, in its order.
func readArchive(r io.Reader, h Header, visit Visit) (m Manifest, err error) {
	archive := tar.NewReader(r)
	entry, err := nextFile(archive, manifestName)
	if err != nil {
		return m, err
	}
	if entry.Size > maxManifest {
		return m, damagedf("its manifest has %d bytes, at most %d are allowed", entry.Size, maxManifest)
	}
	raw, err := io.ReadAll(archive)
	if err != nil {
		return m, damagedf("%w", err)
	}
	if m, err = decodeManifest(raw, h); err != nil {
		return m, err
	}
	for _, f := range m.Files {
		entry, err := nextFile(archive, f.Name)
		if err != nil {
			return m, err
		}
		if entry.Size != f.Size {
			return m, damagedf("%s has another size than in the manifest", f.Name)
		}
		content := &fileReader{r: archive, file: f, sum: f.Digest.Verifier()}
		if err := visit(m, f, content); err != nil {
			return m, err
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			return m, err
		}
	}
	if _, err := archive.Next(); !errors.Is(err, io.EOF) {
		return m, damagedf("it contains more than its manifest lists")
	}
	return m, nil
}

// nextFile returns the next entry of the archive, which has to be a file with this name.
func nextFile(archive *tar.Reader, name string) (*tar.Header, error) {
	entry, err := archive.Next()
	switch {
	case errors.Is(err, io.EOF):
		return nil, damagedf("%s is missing", name)
	case err != nil:
		return nil, damagedf("%w", err)
	case entry.Name != name || entry.Typeflag != tar.TypeReg:
		return nil, damagedf("it contains %.200q where %s is expected", entry.Name, name)
	}
	return entry, nil
}

// fileReader reads one file of the archive and verifies its content at its end.
type fileReader struct {
	r    io.Reader
	file File
	sum  digest.Verifier
	done bool
}

func (f *fileReader) Read(p []byte) (int, error) {
	if f.done {
		return 0, io.EOF
	}
	n, err := f.r.Read(p)
	_, _ = f.sum.Write(p[:n]) // never fails
	switch {
	case errors.Is(err, io.EOF) && !f.sum.Verified():
		return n, damagedf("%s has another content than in the manifest", f.file.Name)
	case errors.Is(err, io.EOF):
		f.done = true
	case err != nil:
		return n, damagedf("%s: %w", f.file.Name, err)
	}
	return n, err
}

// maxRest is how many bytes may follow the archive: the padding of tar.
const maxRest = 64 << 10

// expectEnd reads r to its end. Anything but zero bytes, and more of them than tar writes, is an error.
func expectEnd(r io.Reader) error {
	rest, err := io.ReadAll(io.LimitReader(r, maxRest+1))
	switch {
	case err != nil && errors.Is(err, ErrDamaged):
		return err
	case err != nil:
		return damagedf("%w", err)
	case len(rest) > maxRest || len(bytes.Trim(rest, "\x00")) > 0:
		return damagedf("it contains more than its archive")
	}
	return nil
}

// trailerReader reads what is between the header and the trailer of a file. At its end it compares the
// digest in the trailer with that of everything before it.
type trailerReader struct {
	r   *bufio.Reader
	sum hash.Hash
}

// openFile reads the header of a file and returns a reader of what follows it.
func openFile(r io.Reader) (Header, *trailerReader, error) {
	sum := sha256.New()
	h, err := ReadHeader(io.TeeReader(r, sum))
	return h, &trailerReader{r: bufio.NewReaderSize(r, 64<<10), sum: sum}, err
}

func (t *trailerReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	next, err := t.r.Peek(trailerSize + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if len(next) <= trailerSize {
		if want := trailerPrefix + hex.EncodeToString(t.sum.Sum(nil)); string(next) != want {
			return 0, damagedf("its digest does not match")
		}
		return 0, io.EOF
	}
	n, err := t.r.Read(p[:min(len(p), t.r.Buffered()-trailerSize)])
	t.sum.Write(p[:n])
	return n, err
}
