package k0s

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/plinthdev/plinth/internal/resolvconf"
)

// resolvConfPath is the resolver configuration of the pods on a host whose own does
// not work in pods.
const resolvConfPath = "/etc/k0s/plinth-resolv.conf"

// resolvConfFlag makes kubelet give pods resolvConfPath. kubelet prefers it to the
// file in its configuration, which k0s chooses.
const resolvConfFlag = "--resolv-conf=" + resolvConfPath

// resolvConf returns the content of resolvConfPath, or "" when pods can use the file
// that k0s chooses by itself. Once kubelet runs with the flag, the file stays and
// follows the host's name servers: kubelet reads it for each new pod, so no restart
// is needed.
//
// Without any name server, it names the node itself. CoreDNS does not start without
// one; port 53 of the node refuses at once where an address elsewhere would let each
// lookup wait for seconds, and a server that listens there gets the queries.
func (s Service) resolvConf() (string, error) {
	var files []resolvconf.File
	for _, path := range resolvconf.Paths() {
		text, err := s.Host.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		files = append(files, resolvconf.Parse(path, text))
	}
	chosen, direct := resolvconf.ForPods(files)
	if unit, err := s.registeredUnit(); direct && (err != nil || !strings.Contains(unit, resolvConfFlag)) {
		return "", err
	}
	if len(chosen.Servers) == 0 {
		chosen.Servers = []string{s.Settings.Address}
	}
	return chosen.Text("The name servers of pods on this host. `plinth install` and `plinth join` write this file."), nil
}

// usesResolvConf reports whether kubelet is to read resolvConfPath.
func (s Service) usesResolvConf() bool {
	_, err := s.Host.Lstat(resolvConfPath)
	return err == nil
}

// registeredUnit returns the systemd unit of the service without the quoting that
// k0s adds to the arguments, or "" if there is none.
func (s Service) registeredUnit() (string, error) {
	unit, err := s.Host.ReadFile(s.UnitPath())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.NewReplacer(`"`, "", `\x2d`, "-", `\x20`, " ").Replace(string(unit)), err
}
