package facts

import "net/netip"

// Identity is what the cluster knows a host by. It must stay as it was when the host
// was installed or joined. A zero field is not known.
type Identity struct {
	Node      string // name of the node: the host name in lower case
	MachineID string
	Address   netip.Addr
	Unit      string // systemd unit of k0s; "" before k0s was set up

	Controller bool // a controller whose install or join has ended
	Repairing  bool // a repair of its address is not finished: k0s may have another one already
}
