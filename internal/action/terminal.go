package action

import (
	"os"

	"github.com/plinthdev/plinth/internal/host"
)

// HideInput turns off that a terminal shows what is typed, as host.HideInput does.
func HideInput(terminal *os.File) (show func() error, err error) { return host.HideInput(terminal) }
