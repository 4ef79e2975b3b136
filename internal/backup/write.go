package backup

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// Write writes a backup with the manifest m to w, encrypted to lock. open opens a file of the manifest; one
// whose content differs from the manifest is an error. Write returns the SHA-256 of all that it has written.
func Write(w io.Writer, m Manifest, lock Lock, open func(File) (io.ReadCloser, error)) (digest.Digest, error) {
	var err error
	if m.Encryption, err = lock.Encryption(); err != nil {
		return "", err
	}
	m.TakenAt, m.ReceiptAt = m.TakenAt.UTC(), m.ReceiptAt.UTC()
	header, err := m.Header.encode()
	if err != nil {
		return "", err
	}
	whole, body := sha256.New(), sha256.New()
	file := io.MultiWriter(w, whole)
	out := io.MultiWriter(file, body)
	if _, err := out.Write(header); err != nil {
		return "", err
	}
	if err := writeArchive(out, m, lock, open); err != nil {
		return "", err
	}
	_, err = io.WriteString(file, trailerPrefix+hex.EncodeToString(body.Sum(nil)))
	return digest.NewDigest(digest.SHA256, whole), err
}

// writeArchive writes the encrypted archive.
func writeArchive(w io.Writer, m Manifest, lock Lock, open func(File) (io.ReadCloser, error)) error {
	raw, err := m.encode()
	if err != nil {
		return err
	}
	sealed, err := lock.encrypt(w)
	if err != nil {
		return err
	}
	packed, err := zstd.NewWriter(sealed, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(maxWindow))
	if err != nil {
		return err
	}
	archive := tar.NewWriter(packed)
	manifest := File{Name: manifestName, Mode: 0o600, Size: int64(len(raw))}
	if err := archive.WriteHeader(manifest.tarHeader()); err != nil {
		return err
	}
	if _, err := archive.Write(raw); err != nil {
		return err
	}
	for _, f := range m.Files {
		if err := writeFile(archive, f, open); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return errors.Join(archive.Close(), packed.Close(), sealed.Close())
}

// tarHeader returns the header of the file in the archive, in the PAX format for sizes and names of any length.
func (f File) tarHeader() *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Mode: int64(f.Mode), Size: f.Size, Format: tar.FormatPAX}
}

// writeFile writes the file f to the archive.
func writeFile(archive *tar.Writer, f File, open func(File) (io.ReadCloser, error)) (err error) {
	r, err := open(f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := archive.WriteHeader(f.tarHeader()); err != nil {
		return err
	}
	verifier := f.Digest.Verifier()
	n, err := io.Copy(io.MultiWriter(archive, verifier), r)
	switch {
	case errors.Is(err, tar.ErrWriteTooLong), err == nil && (n != f.Size || !verifier.Verified()):
		return errors.New("it was changed while it was read; run the command again")
	case err != nil:
		return err
	}
	return nil
}
