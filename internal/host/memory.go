package host

import "golang.org/x/sys/unix"

// PeakMemory is the most resident memory that this process has had, in bytes;
// 0 when the kernel does not tell.
func PeakMemory() int64 {
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		return 0
	}
	return use.Maxrss * 1024
}
