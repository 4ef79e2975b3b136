package host

import "github.com/vishvananda/netlink"

// ipsets is AddressSets by netlink.
type ipsets struct{}

var _ AddressSets = ipsets{}

func (ipsets) ListSets() ([]string, error) {
	all, err := netlink.IpsetListAll()
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(all))
	for _, s := range all {
		names = append(names, s.SetName)
	}
	return names, nil
}

func (ipsets) DestroySet(name string) error { return netlink.IpsetDestroy(name) }
