package host

import "golang.org/x/sys/unix"

// What the kernel says of a disk on which nothing can be written, in the form
// that errors.Is compares with.
const (
	ErrNoSpace = unix.ENOSPC // it is full
	ErrBadDisk = unix.EIO    // it is broken
)
