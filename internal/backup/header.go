// Package backup writes and reads the file of a control-plane backup: a public header, an encrypted
// archive, and a digest.
package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Suffix is the end of the name of every file that Plinth names itself.
const Suffix = ".plinth-backup"

// HeaderSize is the size of the header, which is all that ReadHeader reads, in bytes.
const HeaderSize = 4096

// Layout of a file: a header of headerSize bytes, the archive (tar, zstd, age), a trailer of trailerSize
// bytes. Both sizes are fixed, so that the archive can also be unpacked with the tools head, tail, age,
// zstd and tar (docs/guide/backup.md).
const (
	formatVersion = 1
	magic         = "plinth-backup "
	headerSize    = HeaderSize
	trailerPrefix = "\nsha256:"
	trailerSize   = len(trailerPrefix) + 64 // the digest of everything before it, in hex
)

// Encryption says how the archive is encrypted.
type Encryption string

// The ways to encrypt an archive.
const (
	ToRecipients   Encryption = "recipients" // to public keys of age
	WithPassphrase Encryption = "passphrase"
	Unencrypted    Encryption = "none"
)

// Header identifies a backup. It is not encrypted, so that a folder can be listed and a backup of another
// cluster refused without a key. The encrypted manifest repeats it: a header that was changed is noticed
// once the archive is decrypted.
type Header struct {
	Cluster    string     `json:"cluster"`           // name of the cluster
	ClusterID  string     `json:"clusterId"`         // pin of the public key of the cluster's authority
	Node       string     `json:"node"`              // controller that wrote it
	TakenAt    time.Time  `json:"takenAt"`           // UTC; what was written to the cluster later is not in it
	Kubernetes string     `json:"kubernetes"`        // minor version: "1.33"
	K0s        string     `json:"k0s"`               // version
	Bundle     string     `json:"bundle"`            // digest of the installed bundle
	Release    int64      `json:"release,omitempty"` // release number of that bundle; 0 if it was not signed
	ReceiptAt  time.Time  `json:"receiptAt"`         // UTC; last change of the controller's receipt
	Encryption Encryption `json:"encryption"`
}

// Causes of a file that cannot be used. Errors of this package wrap one of them.
var (
	ErrNotBackup = errors.New("it is not a control-plane backup of Plinth")
	ErrNewer     = errors.New("a newer version of Plinth wrote it")
	ErrDamaged   = errors.New("it is damaged")
	ErrKey       = errors.New("it cannot be decrypted with this key")
	ErrPlain     = errors.New("it is not encrypted, and a key is given")
)

// damagedf returns an error that wraps ErrDamaged.
func damagedf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
}

// encode returns the header as the first headerSize bytes of a file.
func (h Header) encode() ([]byte, error) {
	raw, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	out := append(fmt.Appendf(nil, "%s%d\n", magic, formatVersion), raw...)
	if len(out) >= headerSize {
		return nil, fmt.Errorf("the names in the header are too long: %d bytes, at most %d", len(out), headerSize-1)
	}
	out = append(out, bytes.Repeat([]byte(" "), headerSize-1-len(out))...)
	return append(out, '\n'), nil
}

// IsBackup reports whether r begins like a backup.
func IsBackup(r io.Reader) bool {
	first := make([]byte, len(magic))
	_, err := io.ReadFull(r, first)
	return err == nil && string(first) == magic
}

// ReadHeader reads the header at the beginning of a file.
func ReadHeader(r io.Reader) (h Header, err error) {
	raw := make([]byte, headerSize)
	n, err := io.ReadFull(r, raw)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return h, err
	}
	raw = raw[:n]
	first, rest, ok := strings.Cut(string(raw), "\n")
	version, isBackup := strings.CutPrefix(first, magic)
	switch {
	case !isBackup:
		return h, ErrNotBackup
	case n < headerSize || !ok:
		return h, damagedf("it ends within its header")
	case version != fmt.Sprint(formatVersion):
		return h, fmt.Errorf("it has format version %.20q, this version of plinth supports %d: %w", version, formatVersion, ErrNewer)
	}
	if err := json.Unmarshal([]byte(rest), &h); err != nil {
		return Header{}, damagedf("its header cannot be read: %w", err)
	}
	return h, nil
}
