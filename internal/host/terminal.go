package host

import (
	"os"

	"golang.org/x/sys/unix"
)

// HideInput turns off that a terminal shows what is typed; show turns it on again.
func HideInput(terminal *os.File) (show func() error, err error) {
	fd := int(terminal.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	hidden := *before
	hidden.Lflag = hidden.Lflag&^unix.ECHO | unix.ICANON | unix.ISIG
	hidden.Iflag |= unix.ICRNL
	show = func() error { return unix.IoctlSetTermios(fd, unix.TCSETS, before) }
	return show, unix.IoctlSetTermios(fd, unix.TCSETS, &hidden)
}
