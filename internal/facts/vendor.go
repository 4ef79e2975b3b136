package facts

import "time"

// Facts in this file are gathered only if a vendor's host preflights request them.

// BlockDevice is one disk, partition or other block device, as lsblk(8) lists it.
type BlockDevice struct {
	Name       string `json:"name"`
	KernelName string `json:"kernelName"`
	Parent     string `json:"parent,omitempty"` // kernel name of the device that it is a part of
	Type       string `json:"type"`             // disk, part, lvm, loop, rom, …
	Size       uint64 `json:"size"`             // bytes
	FSType     string `json:"fsType,omitempty"` // "" if it is not formatted
	Mount      string `json:"mount,omitempty"`  // "" if it is not mounted
	ReadOnly   bool   `json:"readOnly,omitempty"`
	Removable  bool   `json:"removable,omitempty"`
}

// Service is one systemd service, as `systemctl list-units` lists it.
type Service struct {
	Unit   string `json:"unit"`   // with .service
	Load   string `json:"load"`   // loaded, not-found, masked, …
	Active string `json:"active"` // active, inactive, failed, …
	Sub    string `json:"sub"`    // running, exited, dead, …
}

// KeyPairFiles are a certificate and its private key, by the paths of their PEM files.
type KeyPairFiles struct {
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

// KeyPair is the result of reading KeyPairFiles. It contains nothing of the files.
type KeyPair struct {
	KeyPairFiles
	Status KeyPairStatus `json:"status"`
}

// KeyPairStatus is how a certificate and a key fit together.
type KeyPairStatus string

// The statuses of a key pair, in the words of troubleshoot.sh.
const (
	KeyPairMissing   KeyPairStatus = "key-pair-missing"   // one of the files does not exist
	KeyPairSwitched  KeyPairStatus = "key-pair-switched"  // the files are exchanged
	KeyPairEncrypted KeyPairStatus = "key-pair-encrypted" // the key needs a password
	KeyPairMismatch  KeyPairStatus = "key-pair-mismatch"  // the key is that of another certificate
	KeyPairInvalid   KeyPairStatus = "key-pair-invalid"   // one of the files cannot be parsed
	KeyPairValid     KeyPairStatus = "key-pair-valid"
)

// BalancerKey is a load balancer to test: a connection to Address must arrive at Port of
// this host.
type BalancerKey struct {
	Address string        `json:"address"` // host:port, or the URL of an HTTP load balancer
	Port    int           `json:"port"`    // port to listen on
	HTTP    bool          `json:"http,omitempty"`
	Timeout time.Duration `json:"timeout"` // how long to try
}

// Balancer is the result of testing a load balancer.
type Balancer struct {
	BalancerKey
	Status string `json:"status"` // connected, connection-refused, connection-timeout, address-in-use, bind-permission-denied, invalid-address, error
}

// DNSAnswer is the result of asking one name server for one name. A name that is in
// /etc/hosts has its address there.
type DNSAnswer struct {
	Name   string `json:"name"`             // as requested
	Query  string `json:"query"`            // with the search domain that was tried, and a dot at the end
	Server string `json:"server"`           // address and port
	Record string `json:"record,omitempty"` // first address; "" if there is none
	Search string `json:"search,omitempty"` // search domain that led to the record
}

// MaxVendorTimeout is the longest time limit of a vendor's program, and of the test of a load balancer,
// whose health checks take a while.
const MaxVendorTimeout = time.Minute

// CommandKey is a program to run, which is known to change nothing.
type CommandKey struct {
	Name    string        // identifies the command in one request
	Argv    []string      // program and arguments
	Env     []string      // added to the environment: KEY=VALUE
	Inherit []string      // names of variables of this process that the program gets, too
	Timeout time.Duration // after which it is ended
}

// CommandResult is the result of running a program.
type CommandResult struct {
	Name   string
	Output string // its standard output
	Code   int    // exit code; -1 if it was ended
	Error  string // last part of its output when it failed
}
