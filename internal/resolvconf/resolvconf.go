// Package resolvconf decides which name servers the pods of a node get, from the
// resolver configuration of the host.
package resolvconf

import (
	"net/netip"
	"slices"
	"strings"
)

// HostFile is the resolver configuration of the host's own programs.
const HostFile = "/etc/resolv.conf"

// resolvedFile lists the servers that systemd-resolved asks. k0s gives it to kubelet
// when HostFile names resolved's stub, 127.0.0.53, and nothing else (k0s 1.33.8,
// pkg/component/worker/kubelet.go).
const resolvedFile = "/run/systemd/resolve/resolv.conf"

// Paths returns the files that may name the servers of the host, the first one first.
// The last is NetworkManager's, for a host whose own file names a local cache.
func Paths() []string {
	return []string{HostFile, resolvedFile, "/run/NetworkManager/no-stub-resolv.conf"}
}

// File is the content of one resolv.conf(5).
type File struct {
	Path    string   `json:"path"`
	Servers []string `json:"servers,omitempty"` // as written; not always addresses
	Search  []string `json:"search,omitempty"`
	Options []string `json:"options,omitempty"`
}

// Parse returns the content of the file path, as kubelet reads it.
func Parse(path string, text []byte) File {
	f := File{Path: path}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			f.Servers = append(f.Servers, words[1])
		case "search":
			f.Search = words[1:] // the last line counts
		case "options":
			f.Options = words[1:]
		}
	}
	return f
}

// Text returns f as the content of a resolv.conf, below comment.
func (f File) Text(comment string) string {
	var b strings.Builder
	b.WriteString("# " + comment + "\n")
	for _, s := range f.Servers {
		b.WriteString("nameserver " + s + "\n")
	}
	for _, words := range [][]string{append([]string{"search"}, f.Search...), append([]string{"options"}, f.Options...)} {
		if len(words) > 1 {
			b.WriteString(strings.Join(words, " ") + "\n")
		}
	}
	return b.String()
}

// maxServers is how many name servers kubelet gives a pod: the first ones.
const maxServers = 3

// ForPods returns the configuration for pods, given the files of Paths that exist.
// direct reports that k0s chooses that file by itself and that pods can use a server
// that they get from it, and are not harmed by the others. Otherwise only servers that
// work in a pod are in the result; there may be none. A loopback address in a pod is
// the pod itself: CoreDNS, which asks these servers, finds that it asks itself and ends.
func ForPods(files []File) (chosen File, direct bool) {
	own := find(files, HostFile)
	if slices.Equal(addresses(own), []string{"127.0.0.53"}) {
		own = find(files, resolvedFile)
	}
	got := own.Servers[:min(maxServers, len(own.Servers))]
	if slices.ContainsFunc(got, worksInPod) && !slices.ContainsFunc(got, func(s string) bool { return !worksInPod(s) && !isIPv6(s) }) {
		return own, true
	}
	for _, f := range append([]File{own}, files...) {
		f.Servers = slices.DeleteFunc(slices.Clone(f.Servers), func(s string) bool { return !worksInPod(s) })
		if len(f.Servers) > 0 {
			f.Servers = f.Servers[:min(maxServers, len(f.Servers))]
			return f, false
		}
	}
	return File{}, false
}

// HasLocalServer reports whether the host's own file names a name server on the host
// other than the stub of systemd-resolved, which answers only what resolved's own
// servers know.
func HasLocalServer(files []File) bool {
	return slices.ContainsFunc(find(files, HostFile).Servers, func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && a.Unmap().IsLoopback() && s != "127.0.0.53" && s != "127.0.0.54"
	})
}

// find returns the file of files with the given path.
func find(files []File, path string) File {
	if i := slices.IndexFunc(files, func(f File) bool { return f.Path == path }); i >= 0 {
		return files[i]
	}
	return File{Path: path}
}

// addresses returns the servers of f that are IP addresses.
func addresses(f File) []string {
	return slices.DeleteFunc(slices.Clone(f.Servers), func(s string) bool {
		_, err := netip.ParseAddr(s)
		return err != nil
	})
}

// worksInPod reports whether the name server s can be reached from the network
// namespace of a pod, which has IPv4 addresses only.
func worksInPod(s string) bool {
	a, err := netip.ParseAddr(s)
	a = a.Unmap()
	return err == nil && a.Is4() && !a.IsLoopback() && a.IsGlobalUnicast()
}

// isIPv6 reports whether s is a name server with an IPv6 address in the network. A pod
// has no route to it, and asks the next server at once.
func isIPv6(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Unmap().Is6() && a.Zone() == "" && a.IsGlobalUnicast()
}

// IPv6Servers returns the name servers in files that only the host can reach, because
// they have IPv6 addresses.
func IPv6Servers(files []File) (all []string) {
	for _, f := range files {
		for _, s := range f.Servers {
			if isIPv6(s) && !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	return all
}
