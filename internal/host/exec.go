package host

import (
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// Exec replaces this process with the program argv[0], which is looked up in PATH, and adds env to
// the environment. It returns only on failure.
func Exec(argv, env []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return unix.Exec(path, argv, append(os.Environ(), env...))
}
