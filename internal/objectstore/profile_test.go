package objectstore

import (
	"bytes"
	"strings"
	"testing"
)

func FuzzReadProfile(f *testing.F) {
	f.Add([]byte("[default]\naws_access_key_id = a\n"), "default")
	f.Add([]byte("[a]\n=\n#x=y\n[[b]]\n"), "b")
	f.Fuzz(func(t *testing.T, raw []byte, profile string) {
		for key, value := range readProfile(raw, profile) {
			if !bytes.Contains(raw, []byte(value)) || strings.TrimSpace(key) != key || strings.ContainsAny(key+value, "\n") {
				t.Errorf("%q %q", key, value)
			}
		}
	})
}
