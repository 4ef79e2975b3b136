package host

import (
	"os"
	"strings"
	"unsafe"
)

// HideArgument overwrites arg in the command line of this process as the kernel shows it, in
// /proc/PID/cmdline and so in ps, and returns a copy of arg. The strings in os.Args that equal arg
// become "xxx…". It cannot hide an argument from the command line of a program that started this
// one, such as sudo.
func HideArgument(arg string) string {
	kept := strings.Clone(arg)
	for _, a := range os.Args[1:] {
		if a != kept || a == "" {
			continue
		}
		// The strings in os.Args are the kernel's own bytes, which a process may write.
		own := unsafe.Slice(unsafe.StringData(a), len(a))
		for i := range own {
			own[i] = 'x'
		}
	}
	return kept
}
