// Package agekey parses public and private keys of age. Its errors never contain the text of a key.
package agekey

import (
	"errors"
	"strings"

	"filippo.io/age"
)

// ParseRecipients returns the public keys in text, one a line; empty lines and those that begin with # are
// skipped. Errors do not contain the text: it may be a private key, given by mistake.
func ParseRecipients(text string) ([]age.Recipient, error) {
	if strings.Contains(strings.ToUpper(text), "AGE-SECRET-KEY") {
		return nil, errors.New("it is a private key: give the public key, which begins with age1")
	}
	all, err := age.ParseRecipients(strings.NewReader(trimLines(text)))
	if err != nil {
		return nil, errors.New("it is not a public key of age, which begins with age1")
	}
	return all, nil
}

// ParseIdentities returns the private keys in text, as age-keygen writes them.
func ParseIdentities(text string) ([]age.Identity, error) {
	all, err := age.ParseIdentities(strings.NewReader(trimLines(text)))
	if err != nil {
		return nil, errors.New("it contains no private key of age, which begins with AGE-SECRET-KEY-")
	}
	return all, nil
}

// trimLines returns text with the white space around its lines removed.
func trimLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "\n")
}
