// Package sys owns the questions that only the running kernel answers: may
// this port be bound, how full is this file system, what are the links, is the
// clock steered. Each is asked, and nothing stays behind. It refuses to
// interpret the answers.
package sys

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/internal/facts"
)

// Kernel is the questions. A test replaces single ones.
type Kernel struct {
	Arch      string // of this program, as Go names it
	Now       func() time.Time
	Bind      func(ctx context.Context, key facts.PortKey) error
	Statfs    func(path string) (Space, error)
	Resolve   func(ctx context.Context, name string) ([]netip.Addr, error)
	Ask       func(ctx context.Context, server netip.Addr) error // any answer is none
	Greet     func(ctx context.Context, url, proxy string) (status int, date time.Time, err error)
	Dial      func(ctx context.Context, address string) error
	FType     func(path string) string // of XFS: 1, 0, or "" when it cannot be told
	Links     func() ([]facts.Interface, error)
	Synced    func() (bool, error)
	Readlink  func(path string) (string, error)
	EvalLinks func(path string) (string, error)
}

// Space is a file system's size in bytes and its number of files.
type Space struct {
	Size, Free, Available uint64
	Inodes, InodesFree    uint64
}

// Running is the kernel that this process runs on.
func Running() Kernel {
	// As k0s resolves names: it is linked without the C library's look-ups.
	resolver := &net.Resolver{PreferGo: true}
	return Kernel{
		Arch:   runtime.GOARCH,
		Now:    time.Now,
		Bind:   bind,
		Statfs: statfs,
		Resolve: func(ctx context.Context, name string) ([]netip.Addr, error) {
			return resolver.LookupNetIP(ctx, "ip", name)
		},
		Ask:       ask,
		Greet:     greet,
		Dial:      dial,
		FType:     ftype,
		Links:     links,
		Synced:    synced,
		Readlink:  os.Readlink,
		EvalLinks: filepath.EvalSymlinks,
	}
}

// Errno is the name of the error number in err, or its words.
func Errno(err error) string {
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

// bind takes the port and lets go of it at once. No list of sockets can
// replace it: a list does not show what another name space, a security module
// or a reserved range forbids.
func bind(ctx context.Context, key facts.PortKey) error {
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

func statfs(path string) (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Space{}, err
	}
	block := uint64(st.Bsize)
	return Space{Size: st.Blocks * block, Free: st.Bfree * block, Available: st.Bavail * block, Inodes: st.Files, InodesFree: st.Ffree}, nil
}

func links() ([]facts.Interface, error) {
	devices, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var all []facts.Interface
	for _, d := range devices {
		i := facts.Interface{Name: d.Name, MTU: d.MTU, Up: d.Flags&net.FlagUp != 0, Loopback: d.Flags&net.FlagLoopback != 0}
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

// synced asks adjtimex(2), as timedatectl does: the kernel marks its clock
// unsynchronised when nothing has steered it for a while.
func synced() (bool, error) {
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	if err != nil {
		return false, err
	}
	return state != unix.TIME_ERROR && tx.Status&unix.STA_UNSYNC == 0, nil
}
