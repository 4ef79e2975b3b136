package objectstore

import "testing"

func FuzzReadProfile(f *testing.F) {
	f.Add([]byte("[default]\naws_access_key_id = a\n"), "default")
	f.Add([]byte("[a]\n=\n#x=y\n[[b]]\n"), "b")
	f.Fuzz(func(t *testing.T, raw []byte, profile string) {
		for key, value := range readProfile(raw, profile) {
			if len(key)+len(value) > len(raw)*4 { // lower case can be longer
				t.Errorf("%q %q", key, value)
			}
		}
	})
}
