package action

import (
	"strings"

	"filippo.io/age"

	"github.com/plinthdev/plinth/internal/agekey"
	"github.com/plinthdev/plinth/internal/problem"
)

// MaxKeyFile is the size limit of a file with keys, in bytes.
const MaxKeyFile = 64 << 10

// ReadRecipients returns the public keys in the values of --recipient: each is a key, or the path of a file with keys, one
// a line. It returns nil for no values.
func ReadRecipients(values []string) (all []age.Recipient, err error) {
	for _, v := range values {
		text := v
		if !isKey(v) {
			raw, err := ReadInput(nil, v, MaxKeyFile)
			if err != nil {
				return nil, problem.New(problem.ExitUsage, "read the public keys in "+v, err,
					"give a public key of age, which begins with age1, or a file with such keys")
			}
			text = string(raw)
		}
		keys, err := agekey.ParseRecipients(text)
		if err != nil {
			return nil, problem.New(problem.ExitUsage, "use the value of --recipient", err,
				"create a key pair with `age-keygen`, and keep the private key away from this cluster")
		}
		all = append(all, keys...)
	}
	return all, nil
}

// isKey reports whether the value of --recipient is a key, and not the path of a file. A private key is one that
// agekey.ParseRecipients refuses.
func isKey(text string) bool {
	lower := strings.ToLower(text)
	return strings.HasPrefix(lower, "age1") || strings.HasPrefix(lower, "age-secret-key-")
}
