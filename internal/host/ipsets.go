package host

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ipsets implements AddressSets with netlink.
type ipsets struct{}

var _ AddressSets = ipsets{}

// listNamesOnly requests only the names of the sets (include/uapi/linux/netfilter/ipset/ip_set.h).
// The list function of the library also requests the members, and writes the attributes that it
// does not know to standard error.
const listNamesOnly = 1 << 1

func (ipsets) ListSets() ([]string, error) {
	req := nl.NewNetlinkRequest(nl.IPSET_CMD_LIST|(unix.NFNL_SUBSYS_IPSET<<8), nl.GetIpsetFlags(nl.IPSET_CMD_LIST))
	req.AddData(&nl.Nfgenmsg{NfgenFamily: uint8(unix.AF_NETLINK), Version: nl.NFNETLINK_V0})
	req.AddData(nl.NewRtAttr(nl.IPSET_ATTR_PROTOCOL, nl.Uint8Attr(nl.IPSET_PROTOCOL)))
	req.AddData(&nl.Uint32Attribute{Type: nl.IPSET_ATTR_FLAGS | nl.NLA_F_NET_BYTEORDER, Value: listNamesOnly})
	answers, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	// A kernel without address sets does not know the request.
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list address sets: %w", err)
	}
	var names []string
	for _, answer := range answers {
		attrs, err := nl.ParseRouteAttr(answer[4:]) // after the nfgenmsg header
		if err != nil {
			return nil, fmt.Errorf("cannot list address sets: %w", err)
		}
		for _, a := range attrs {
			if a.Attr.Type == nl.IPSET_ATTR_SETNAME {
				names = append(names, nl.BytesToString(a.Value))
			}
		}
	}
	return names, nil
}

func (ipsets) DestroySet(name string) error {
	if err := netlink.IpsetDestroy(name); err != nil {
		return fmt.Errorf("cannot remove address set %s: %w", name, err)
	}
	return nil
}
