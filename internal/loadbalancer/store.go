package loadbalancer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"strings"
)

// ControllersFile is a ControllerStore in a file of a host.
type ControllersFile struct {
	Files FileAccess
	Path  string
}

// FileAccess is the access to a host's files that a ControllersFile needs.
type FileAccess interface {
	ReadFile(path string) ([]byte, error)
	Write(path string, r io.Reader, perm fs.FileMode) error
}

var _ ControllerStore = ControllersFile{}

// controllersDoc is the format of the file.
type controllersDoc struct {
	Version     int              `json:"version"`
	Controllers []netip.AddrPort `json:"controllers"`
}

const controllersVersion = 1

// Load reads the list. A missing file is an empty list.
func (f ControllersFile) Load() ([]netip.AddrPort, error) {
	raw, err := f.Files.ReadFile(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var k controllersDoc
	if err == nil {
		err = json.Unmarshal(raw, &k)
	}
	if err == nil && k.Version != controllersVersion {
		err = fmt.Errorf("its version is %d, but this version of plinth reads version %d", k.Version, controllersVersion)
	}
	for _, a := range k.Controllers {
		if err == nil && !a.IsValid() {
			err = errors.New("it contains an empty address")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the list of controllers %s: %w", f.Path, err)
	}
	return k.Controllers, nil
}

// Save writes the list.
func (f ControllersFile) Save(list []netip.AddrPort) error {
	raw, err := json.Marshal(controllersDoc{Version: controllersVersion, Controllers: list})
	if err != nil {
		return err
	}
	return f.Files.Write(f.Path, strings.NewReader(string(raw)+"\n"), 0o600)
}
