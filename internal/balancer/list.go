package balancer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"strings"
)

// File is a List in a file of a host.
type File struct {
	Files Files
	Path  string
}

// Files is what a list needs of a host.
type Files interface {
	ReadFile(path string) ([]byte, error)
	Write(path string, r io.Reader, perm fs.FileMode) error
}

var _ List = File{}

// kept is the form of the file.
type kept struct {
	Version     int              `json:"version"`
	Controllers []netip.AddrPort `json:"controllers"`
}

const version = 1

// Load reads the list; a file that is not there is an empty list.
func (f File) Load() ([]netip.AddrPort, error) {
	raw, err := f.Files.ReadFile(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var k kept
	if err == nil {
		err = json.Unmarshal(raw, &k)
	}
	if err == nil && k.Version != version {
		err = fmt.Errorf("its version is %d, this Plinth reads %d", k.Version, version)
	}
	for _, a := range k.Controllers {
		if err == nil && !a.IsValid() {
			err = errors.New("it holds an empty address")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the list of controllers %s cannot be read: %w", f.Path, err)
	}
	return k.Controllers, nil
}

// Save writes the list.
func (f File) Save(list []netip.AddrPort) error {
	raw, err := json.Marshal(kept{Version: version, Controllers: list})
	if err != nil {
		return err
	}
	return f.Files.Write(f.Path, strings.NewReader(string(raw)+"\n"), 0o600)
}
