package host

import "golang.org/x/sys/unix"

// Kernel errors for a disk that cannot be written to, as errors.Is compares them.
const (
	ErrNoSpace = unix.ENOSPC // the disk is full
	ErrDiskIO  = unix.EIO    // the disk fails
)
