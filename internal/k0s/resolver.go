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

// noServer is the address of no name server. The kernel refuses to connect to a
// link-local address without an interface (EINVAL), so lookups fail at once and send
// nothing. Any other address that nothing answers at lets each of them wait for two
// seconds or more (CoreDNS 1.12; the kernel limits the errors that it sends instead).
const noServer = "fe80::1"

// resolvConf returns the content of resolvConfPath, or "" when pods can use the file
// that k0s chooses by itself. Once kubelet runs with the flag, the file stays and
// follows the host's name servers: kubelet reads it for each new pod, so no restart
// is needed.
//
// CoreDNS does not start without a name server. If the host has only a local one, the
// file names the node's address, where that server may listen too. Without any, it
// names noServer.
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
	switch {
	case len(chosen.Servers) > 0:
	case resolvconf.HasLocalServer(files):
		chosen.Servers = []string{s.Settings.Address}
	default:
		chosen.Servers = []string{noServer}
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
