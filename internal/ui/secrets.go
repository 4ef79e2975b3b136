package ui

import (
	"encoding/base64"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// minSecretBytes is the length of the shortest text that is masked. Masking
// shorter texts would make other output unreadable.
const minSecretBytes = 4

// Secrets is a set of texts that must not be shown. The zero value and nil are
// empty sets. It is safe for concurrent use.
type Secrets struct {
	mu    sync.RWMutex
	texts []string // longest first, because one can contain another
}

// Hide adds text to the set, with each of its lines and its base64 encoding,
// which Kubernetes uses in manifests. It ignores texts shorter than four bytes.
func (s *Secrets) Hide(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, part := range append(strings.Split(text, "\n"), text, base64.StdEncoding.EncodeToString([]byte(text))) {
		part = strings.TrimSpace(part)
		if len(text) >= minSecretBytes && len(part) >= minSecretBytes && !slices.Contains(s.texts, part) {
			s.texts = append(s.texts, part)
		}
	}
	slices.SortStableFunc(s.texts, func(a, b string) int { return len(b) - len(a) })
}

// urlPassword matches the password in a URL. It needs no entry in the set, and can be short.
var urlPassword = regexp.MustCompile(`(://[^/@\s]*?:)[^/@\s]+@`)

// Mask returns text with every secret, and the password of every URL, replaced by "***".
func (s *Secrets) Mask(text string) string {
	if strings.Contains(text, "://") && strings.Contains(text, "@") {
		text = urlPassword.ReplaceAllString(text, "$1***@")
	}
	if s == nil {
		return text
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, t := range s.texts {
		text = strings.ReplaceAll(text, t, "***")
	}
	return text
}
