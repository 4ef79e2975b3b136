package pull

import "testing"

func FuzzFindEntry(f *testing.F) {
	f.Add([]byte("entries: {hello: [{version: 1.0.0, urls: [a.tgz], digest: aa}]}"))
	f.Add([]byte("entries: {hello: [null, {urls: []}]}"))
	f.Add([]byte("entries: 1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := findEntry(data, "hello", "1.0.0")
		if err == nil && (e.Version != "1.0.0" || len(e.URLs) == 0) {
			t.Errorf("%+v", e)
		}
		if err == nil {
			_, _ = resolveURL("https://charts.example.com/stable", e.URLs[0])
		}
	})
}
