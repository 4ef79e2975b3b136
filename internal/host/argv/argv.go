// Package argv owns what others see of this process's command line. It refuses to
// read one.
package argv

import (
	"os"
	"strings"
	"unsafe"
)

// Hide overwrites an argument of this process where the kernel shows it, in
// /proc/PID/cmdline and so in ps, and gives a copy of it. What the caller holds of
// os.Args becomes as many x. It cannot hide what a program in between, such as sudo,
// was called with.
func Hide(arg string) string {
	kept := strings.Clone(arg)
	for _, a := range os.Args[1:] {
		if a != kept || a == "" {
			continue
		}
		// Go's os.Args are the kernel's own bytes, which a process may write.
		own := unsafe.Slice(unsafe.StringData(a), len(a))
		for i := range own {
			own[i] = 'x'
		}
	}
	return kept
}
