package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/internal/facts"
)

// System contains the queries; tests replace single ones.
type System struct {
	Arch            string // of this program, as Go names it
	Now             func() time.Time
	BindPort        func(ctx context.Context, key facts.PortKey) error
	StatFilesystem  func(path string) (DiskSpace, error)
	ResolveName     func(ctx context.Context, name string) ([]netip.Addr, error)
	QueryNameserver func(ctx context.Context, server netip.Addr) error // any response counts as success
	RequestURL      func(ctx context.Context, url, proxy string) (status int, date time.Time, err error)
	ResolveAt       func(ctx context.Context, server, name string) ([]netip.Addr, error) // asks only server, host:port
	DialTCP         func(ctx context.Context, address string) error
	TestBalancer    func(ctx context.Context, key facts.BalancerKey) (status string)
	XFSFType        func(path string) string // "1", "0", or "" if it cannot be determined
	ListInterfaces  func() ([]facts.Interface, error)
	ClockSynced     func() (bool, error)
	Readlink        func(path string) (string, error)
}

// DiskSpace is the size of a file system in bytes and in inodes.
type DiskSpace struct {
	Size, Free, Available uint64
	Inodes, InodesFree    uint64
}

// localSystem returns the System that this process runs on.
func localSystem() System {
	// k0s resolves names this way, too: it does not link the C library's resolver.
	resolver := &net.Resolver{PreferGo: true}
	return System{
		Arch:           runtime.GOARCH,
		Now:            time.Now,
		BindPort:       bindPort,
		StatFilesystem: StatFilesystem,
		ResolveName: func(ctx context.Context, name string) ([]netip.Addr, error) {
			return resolver.LookupNetIP(ctx, "ip", name)
		},
		QueryNameserver: queryNameserver,
		RequestURL:      requestURL,
		ResolveAt:       resolveAt,
		DialTCP:         dialTCP,
		TestBalancer:    testBalancer,
		XFSFType:        xfsFType,
		ListInterfaces:  listInterfaces,
		ClockSynced:     clockSynced,
		Readlink:        os.Readlink,
	}
}

// errnoName returns the name of the error number in err, such as EADDRINUSE, or
// the text of err if it has none.
func errnoName(err error) string {
	var n unix.Errno
	var dns *net.DNSError
	switch {
	case errors.As(err, &n):
		return unix.ErrnoName(n)
	case errors.As(err, &dns):
		return dns.Err
	}
	return err.Error()
}

// bindPort binds the port and releases it at once. No list of sockets can
// replace this: a list does not show what another network namespace, a security
// module or a reserved range forbids.
func bindPort(ctx context.Context, key facts.PortKey) error {
	var lc net.ListenConfig
	addr := net.JoinHostPort(key.Address, strconv.Itoa(key.Number))
	if key.Protocol == "udp" {
		c, err := lc.ListenPacket(ctx, "udp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// StatFilesystem returns the size and free space of the file system that holds
// path.
func StatFilesystem(path string) (DiskSpace, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return DiskSpace{}, err
	}
	block := uint64(st.Bsize)
	return DiskSpace{Size: st.Blocks * block, Free: st.Bfree * block, Available: st.Bavail * block, Inodes: st.Files, InodesFree: st.Ffree}, nil
}

// listInterfaces returns the network interfaces with their addresses.
func listInterfaces() ([]facts.Interface, error) {
	devices, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	kinds := linkKinds()
	var all []facts.Interface
	for _, d := range devices {
		i := facts.Interface{Name: d.Name, Kind: kinds[d.Name], MTU: d.MTU, Up: d.Flags&net.FlagUp != 0, Loopback: d.Flags&net.FlagLoopback != 0}
		addrs, err := d.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				i.Addresses = append(i.Addresses, p)
			}
		}
		all = append(all, i)
	}
	return all, nil
}

// linkKinds returns the kinds of the virtual interfaces by their names; none if the
// kernel does not tell.
func linkKinds() map[string]string {
	links, err := netlink.LinkList()
	if err != nil {
		return nil
	}
	kinds := map[string]string{}
	for _, l := range links {
		if kind := l.Type(); kind != "device" { // netlink's name for a link without a kind
			kinds[l.Attrs().Name] = kind
		}
	}
	return kinds
}

// clockSynced calls adjtimex(2), as timedatectl does: the kernel marks its
// clock as unsynchronized if nothing has adjusted it for a while.
func clockSynced() (bool, error) {
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	if err != nil {
		return false, err
	}
	return state != unix.TIME_ERROR && tx.Status&unix.STA_UNSYNC == 0, nil
}
