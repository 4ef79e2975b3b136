package host

import "os"

// NewTempDir creates a folder for temporary files, which only this user can read, and returns its absolute path. The caller
// removes it.
func NewTempDir() (string, error) { return os.MkdirTemp("", "plinth-") }
