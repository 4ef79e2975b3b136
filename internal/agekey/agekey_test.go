package agekey

import (
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/plinthdev/plinth/internal/testkit"
)

func TestParseRecipients_NeverRepeatsAPrivateKey(t *testing.T) {
	identity, err := age.GenerateX25519Identity()
	testkit.Must(t, err)
	secret, public := identity.String(), identity.Recipient().String()
	for name, c := range map[string]struct{ text, err string }{
		"public key":      {"# backup key\n  " + public + "  \r\n", ""},
		"private key":     {secret, "private key"},
		"lower case":      {strings.ToLower(secret), "private key"},
		"something else":  {"ssh-ed25519 AAAA", "not a public key"},
		"nothing":         {"# nothing\n", "not a public key"},
		"truncated":       {public[:40], "not a public key"},
		"identity as key": {"# public key: " + public + "\n" + secret, "private key"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseRecipients(c.text)
			if (err == nil) != (c.err == "") || err != nil && (!strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), secret)) {
				t.Error(err)
			}
		})
	}
	if _, err := ParseIdentities("# created\n" + secret + "\n"); err != nil {
		t.Error(err)
	}
	if _, err := ParseIdentities(secret[:30]); err == nil || strings.Contains(err.Error(), secret[:20]) {
		t.Error(err)
	}
}
