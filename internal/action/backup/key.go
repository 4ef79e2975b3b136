package backup

import (
	"context"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/agekey"
	format "github.com/plinthdev/plinth/internal/backup"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/ui"
)

// KeyFlags are the flags that choose how a backup is encrypted or decrypted.
type KeyFlags struct {
	Recipients     []string // public keys, or files with public keys
	IdentityFile   string   // file with private keys; "" for none
	PassphraseFile string   // "" for none, - for In
	Unencrypted    bool
	In             io.Reader
	Secrets        *ui.Secrets // gets the passphrase, so that no message shows it
	// Ask asks for the passphrase on a terminal: twice, if it is a new one. nil without a terminal.
	Ask func(ctx context.Context, isNew bool) (string, error)
}

// minPassphrase is the least number of characters of a new passphrase: users of a backup can try passphrases offline.
const minPassphrase = 12

// maxPassphraseFile is the size limit of a file with a passphrase, in bytes.
const maxPassphraseFile = 4 << 10

// lock returns to what a new backup is encrypted. Without any flag it asks for a passphrase.
func (k KeyFlags) lock(ctx context.Context) (l format.Lock, err error) {
	const doing = "encrypt the backup"
	if l.Recipients, err = action.ReadRecipients(k.Recipients); err != nil {
		return l, err
	}
	l.Unencrypted = k.Unencrypted
	switch {
	case k.PassphraseFile != "":
		l.Passphrase, err = k.readPassphrase()
	case len(k.Recipients) == 0 && !k.Unencrypted && k.Ask != nil:
		l.Passphrase, err = k.Ask(ctx, true)
		k.Secrets.Hide(l.Passphrase)
	}
	if err == nil && l.Passphrase != "" && utf8.RuneCountInString(l.Passphrase) < minPassphrase {
		err = problem.Newf(problem.ExitUsage, doing, "use a longer one, such as five random words; nothing was changed",
			"the passphrase has fewer than %d characters", minPassphrase)
	}
	if err != nil {
		return l, err
	}
	if _, err := l.Encryption(); err != nil {
		return l, problem.New(problem.ExitUsage, doing, err, "give one of --recipient age1…, --passphrase-file FILE, and --unencrypted; nothing was changed")
	}
	return l, nil
}

// key returns the key of a backup; given is false if no flag names one.
func (k KeyFlags) key() (key format.Key, given bool, err error) {
	if k.PassphraseFile != "" {
		key.Passphrase, err = k.readPassphrase()
		return key, true, err
	}
	if k.IdentityFile == "" {
		return key, false, nil
	}
	raw, err := action.ReadInput(k.In, k.IdentityFile, action.MaxKeyFile)
	if err == nil {
		key.Identities, err = agekey.ParseIdentities(string(raw))
	}
	if err != nil {
		err = problem.New(problem.ExitUsage, "read the private key in "+k.IdentityFile, err, "give the file that age-keygen has written")
	}
	return key, true, err
}

// RequireKey returns the key for a backup with the header h. It asks for a passphrase if no flag names one.
func (k KeyFlags) RequireKey(ctx context.Context, h format.Header) (format.Key, error) {
	key, given, err := k.key()
	if err != nil || given || h.Encryption != format.WithPassphrase || k.Ask == nil {
		return key, err
	}
	key.Passphrase, err = k.Ask(ctx, false)
	k.Secrets.Hide(key.Passphrase)
	return key, err
}

// readPassphrase reads the passphrase: the first line of its file.
func (k KeyFlags) readPassphrase() (string, error) {
	raw, err := action.ReadInput(k.In, k.PassphraseFile, maxPassphraseFile)
	text, _, _ := strings.Cut(string(raw), "\n")
	text = strings.TrimSuffix(text, "\r")
	if err == nil && text == "" {
		err = errors.New("its first line is empty")
	}
	if err != nil {
		return "", problem.New(problem.ExitUsage, "read the passphrase in "+k.PassphraseFile, err, "give a file whose first line is the passphrase")
	}
	k.Secrets.Hide(text)
	return text, nil
}
