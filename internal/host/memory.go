package host

import "golang.org/x/sys/unix"

// PeakMemory returns the maximum resident memory of this process so far, in bytes. It returns 0 if
// the kernel does not report it.
func PeakMemory() int64 {
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		return 0
	}
	return use.Maxrss * 1024
}
