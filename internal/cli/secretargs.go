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

// bucketSecrets match what a URL of a bucket does not have, but somebody could write: credentials, with any character of a
// secret key, and a query. An @ after the name of the bucket is part of the name of an object.
var bucketSecrets = []*regexp.Regexp{regexp.MustCompile(`(?is)s3://([^/?#:@]*:[^?#]*)@`), regexp.MustCompile(`(?is)s3://([^/?#]*)@`),
	regexp.MustCompile(`(?is)s3://[^?#]*[?#](.*)`)}

// privateKeyPrefix is the beginning of the private keys of age, also of those after quantum computers.
const privateKeyPrefix = "AGE-SECRET-KEY-"

// hideInURL adds a part of a URL to secrets, as it is, escaped and without escapes.
func hideInURL(secrets *ui.Secrets, part string) {
	secrets.Hide(part)
	secrets.Hide(url.PathEscape(part))
	if plain, err := url.PathUnescape(part); err == nil {
		secrets.Hide(plain)
	}
}

// hideSecretArgs adds the passwords of URLs, credentials and queries in URLs of buckets, the join tokens and the private keys on a command line to
// secrets, so that no message, answer or log shows them, whatever a command does
// with its arguments.
func hideSecretArgs(secrets *ui.Secrets, args []string) {
	for _, arg := range args {
		arg = strings.Clone(arg) // a join overwrites its token in the memory of the arguments
		for _, m := range userinfo.FindAllStringSubmatch(arg, -1) {
			hideInURL(secrets, m[1])
		}
		for _, pattern := range bucketSecrets {
			if m := pattern.FindStringSubmatch(arg); m != nil {
				hideInURL(secrets, m[1])
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
