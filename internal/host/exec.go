package host

import (
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// Become replaces this process by the program argv[0], found in PATH, with env
// added to the environment. It returns only when that fails.
func Become(argv, env []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return unix.Exec(path, argv, append(os.Environ(), env...))
}
