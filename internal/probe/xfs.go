package probe

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// XFS reports its geometry to every user (xfs_fs.h, XFS_IOC_FSGEOMETRY_V4): 112
// bytes with the flags at offset 92. One flag reports whether directory entries
// contain the file type (ftype), without which overlayfs does not work.
const (
	xfsGeometry  = 0x8070587c // _IOR('X', 124, 112 bytes)
	xfsFlags     = 92
	xfsFlagFType = 1 << 16
)

// xfsFType returns "1" if the XFS file system that holds path has ftype
// enabled, "0" if not, and "" if it cannot be determined.
func xfsFType(path string) string {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer func() { _ = unix.Close(fd) }()
	var geometry [112]byte
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), xfsGeometry, uintptr(unsafe.Pointer(&geometry))); errno != 0 {
		return ""
	}
	if binary.NativeEndian.Uint32(geometry[xfsFlags:])&xfsFlagFType == 0 {
		return "0"
	}
	return "1"
}
