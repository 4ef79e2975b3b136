package cli

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/plinthdev/plinth/internal/action/join"
	"github.com/plinthdev/plinth/internal/ui"
)

// userinfo matches the password in a URL, also in one that cannot be parsed.
var userinfo = regexp.MustCompile(`://[^/@]*?:([^/@]*)@`)

// privateKeyPrefix is the beginning of the private keys of age, also of those after quantum computers.
const privateKeyPrefix = "AGE-SECRET-KEY-"

// hideSecretArgs adds the passwords of URLs, the join tokens and the private keys on a command line to
// secrets, so that no message, answer or log shows them, whatever a command does
// with its arguments.
func hideSecretArgs(secrets *ui.Secrets, args []string) {
	for _, arg := range args {
		arg = strings.Clone(arg) // a join overwrites its token in the memory of the arguments
		for _, m := range userinfo.FindAllStringSubmatch(arg, -1) {
			secrets.Hide(m[1])
			secrets.Hide(url.PathEscape(m[1]))
			if plain, err := url.PathUnescape(m[1]); err == nil {
				secrets.Hide(plain)
			}
		}
		if i := strings.Index(strings.ToUpper(arg), privateKeyPrefix); i >= 0 {
			secrets.Hide(arg[i:])
		}
		if i := strings.Index(arg, join.TokenPrefix); i >= 0 {
			secrets.Hide(arg[i:])
		}
	}
}
