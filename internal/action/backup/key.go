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
	raw, err := action.ReadSecret(k.In, k.IdentityFile, action.MaxKeyFile)
	if err == nil {
		key.Identities, err = agekey.ParseIdentities(string(raw))
	}
	if err != nil {
		err = secretProblem("read the private key in ", k.IdentityFile, err, "give the file that age-keygen has written")
	}
	return key, true, err
}

// RequireKey returns the key for a backup with the header h. It asks for a passphrase if no flag names one. Without a key
// that is needed, it returns a usage problem that names the flag.
func (k KeyFlags) RequireKey(ctx context.Context, h format.Header) (format.Key, error) {
	key, given, err := k.key()
	const doing, unchanged = "decrypt the backup", "; nothing was changed"
	switch {
	case err != nil || given || h.Encryption == format.Unencrypted:
		return key, err
	case h.Encryption == format.ToRecipients:
		return key, problem.New(problem.ExitUsage, doing, errors.New("it is encrypted to public keys, and no private key is given"),
			"name the file with the private key of one of them: --identity-file FILE"+unchanged)
	case h.Encryption == format.WithPassphrase && k.Ask == nil:
		return key, problem.New(problem.ExitUsage, doing, errors.New("it is encrypted with a passphrase, and there is no terminal to ask for it"),
			"name a file with it: --passphrase-file FILE, or - for standard input"+unchanged)
	case h.Encryption != format.WithPassphrase: // which the format refuses
		return key, nil
	}
	key.Passphrase, err = k.Ask(ctx, false)
	k.Secrets.Hide(key.Passphrase)
	return key, err
}

// readPassphrase reads the passphrase: the only line of its file.
func (k KeyFlags) readPassphrase() (string, error) {
	raw, err := action.ReadSecret(k.In, k.PassphraseFile, maxPassphraseFile)
	text, hint := "", "give a file whose only line is the passphrase"
	switch {
	case err != nil:
	case strings.Contains(strings.ToUpper(string(raw)), "AGE-SECRET-KEY-"):
		err = errors.New("it contains a private key of age, not a passphrase")
		hint = "give a private key with --identity-file, or, to encrypt, its public key with --recipient"
	default:
		text, err = onlyLine(string(raw))
	}
	if err != nil {
		return "", secretProblem("read the passphrase in ", k.PassphraseFile, err, hint)
	}
	k.Secrets.Hide(text)
	return text, nil
}

// onlyLine returns the first line of a text, which has to be its only one: that a file was confused with another one, whose
// first line can be guessed, must not go unnoticed.
func onlyLine(text string) (string, error) {
	line, rest, _ := strings.Cut(text, "\n")
	line = strings.TrimSuffix(line, "\r")
	switch {
	case line == "":
		return "", errors.New("its first line is empty")
	case strings.TrimSpace(rest) != "":
		return "", errors.New("it has several lines")
	}
	return line, nil
}

// secretProblem returns the problem of a file with a secret that cannot be used because of err.
func secretProblem(doing, path string, err error, hint string) error {
	if errors.Is(err, action.ErrReadableByOthers) {
		hint = "chmod 600 " + path
	}
	return problem.New(problem.ExitUsage, doing+path, err, hint)
}
