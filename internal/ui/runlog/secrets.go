package runlog

import (
	"encoding/base64"
	"slices"
	"strings"
	"sync"
)

// shortest is the length below which a text is no secret worth the name, and
// masking it would only garble what is shown.
const shortest = 4

// Secrets are texts that must not be shown. The zero value and nil hold none.
type Secrets struct {
	mu    sync.RWMutex
	texts []string // longest first: one may hold another
}

// Hide masks text from now on, also line by line and in base64, the form in
// which Kubernetes shows it. Texts shorter than four bytes are not masked.
func (s *Secrets) Hide(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, part := range append(strings.Split(text, "\n"), text, base64.StdEncoding.EncodeToString([]byte(text))) {
		part = strings.TrimSpace(part)
		if len(text) >= shortest && len(part) >= shortest && !slices.Contains(s.texts, part) {
			s.texts = append(s.texts, part)
		}
	}
	slices.SortStableFunc(s.texts, func(a, b string) int { return len(b) - len(a) })
}

// Clean is text with every secret in it replaced by "***".
func (s *Secrets) Clean(text string) string {
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
