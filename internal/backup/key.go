package backup

import (
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// Work factors of scrypt, which turns a passphrase into a key: memory is 1 KiB · 2^factor. age itself
// writes 18 and reads up to 22, which are 256 MiB and 4 GiB.
const (
	scryptFactor    = 16
	maxScryptFactor = 18
)

// maxAgeHeader limits what is read before it is known that a key fits. A recipient of a post-quantum key
// has about 1.6 KB in it.
const maxAgeHeader = 64 << 10

// maxRecipients keeps the header of age below its limit.
const maxRecipients = 20

// Lock is to what an archive is encrypted: one of its fields is set.
type Lock struct {
	Recipients  []age.Recipient // public keys
	Passphrase  string
	Unencrypted bool
}

// Key decrypts an archive. It is zero for one that is not encrypted.
type Key struct {
	Identities []age.Identity // private keys
	Passphrase string
}

// Encryption returns how an archive with this lock is encrypted, or an error if not exactly one field is set.
func (l Lock) Encryption() (Encryption, error) {
	var all []Encryption
	if len(l.Recipients) > 0 {
		all = append(all, ToRecipients)
	}
	if l.Passphrase != "" {
		all = append(all, WithPassphrase)
	}
	if l.Unencrypted {
		all = append(all, Unencrypted)
	}
	switch {
	case len(all) != 1:
		return "", fmt.Errorf("%d ways to encrypt are given, one is needed", len(all))
	case len(l.Recipients) > maxRecipients:
		return "", fmt.Errorf("it has %d recipients, at most %d are possible", len(l.Recipients), maxRecipients)
	}
	return all[0], nil
}

// encrypt returns a writer that encrypts to w. Closing it ends the encryption, and leaves w open.
func (l Lock) encrypt(w io.Writer) (io.WriteCloser, error) {
	if l.Unencrypted {
		return plainWriter{w}, nil
	}
	recipients := l.Recipients
	if l.Passphrase != "" {
		r, err := age.NewScryptRecipient(l.Passphrase)
		if err != nil {
			return nil, err
		}
		r.SetWorkFactor(scryptFactor)
		recipients = []age.Recipient{r}
	}
	return age.Encrypt(w, recipients...)
}

type plainWriter struct{ io.Writer }

func (plainWriter) Close() error { return nil }

// Check returns an error if the key is not of the kind that decrypts e. A key for what is not encrypted is one: its
// owner expects a file that only owners of the key could have written or read, and another one may be in its place.
func (k Key) Check(e Encryption) error {
	switch {
	case e == Unencrypted && (len(k.Identities) > 0 || k.Passphrase != ""):
		return ErrPlain
	case e == Unencrypted:
		return nil
	case e == ToRecipients && len(k.Identities) == 0:
		return fmt.Errorf("%w: it is encrypted to public keys, and needs the private key of one of them", ErrKey)
	case e == WithPassphrase && k.Passphrase == "":
		return fmt.Errorf("%w: it is encrypted with a passphrase", ErrKey)
	case e != ToRecipients && e != WithPassphrase:
		return damagedf("it is encrypted in an unknown way: %.40q", e)
	}
	return nil
}

// decrypt returns a reader of the plain text of r. It reads at most maxAgeHeader bytes before it knows
// that the key fits.
func (k Key) decrypt(r io.Reader, e Encryption) (io.Reader, error) {
	if err := k.Check(e); err != nil || e == Unencrypted {
		return r, err
	}
	identities := k.Identities
	if e == WithPassphrase {
		i, err := age.NewScryptIdentity(k.Passphrase)
		if err != nil {
			return nil, err
		}
		i.SetMaxWorkFactor(maxScryptFactor)
		identities = []age.Identity{i}
	}
	limited := &io.LimitedReader{R: r, N: maxAgeHeader}
	plain, err := age.Decrypt(limited, identities...)
	limited.N = 1<<63 - 1
	var noMatch *age.NoIdentityMatchError
	switch {
	case errors.As(err, &noMatch) && e == WithPassphrase:
		return nil, fmt.Errorf("%w: the passphrase is another one", ErrKey)
	case errors.As(err, &noMatch):
		return nil, fmt.Errorf("%w: it was not encrypted to the public key of any of these private keys", ErrKey)
	case err != nil:
		return nil, damagedf("%w", err)
	}
	return plain, nil
}
