package assembly

import "testing"

func TestWantedPaths(t *testing.T) {
	for _, c := range []struct {
		want, name string
		ok         bool
	}{
		{"/bin/busybox", "/bin/busybox", true},
		{"/bin/busybox", "/bin/busybox2", false},
		{"/lib/*.so*", "/lib/x.so.1", true},
		{"/lib/*.so*", "/lib/gconv/x.so", false},
		{"/etc/a/", "/etc/a/b/c", true},
		{"/etc/a/", "/etc/ab", false},
	} {
		if got := wanted(c.want, c.name); got != c.ok {
			t.Errorf("wanted(%q, %q) = %v", c.want, c.name, got)
		}
	}
}
