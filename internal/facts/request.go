package facts

// Request is what to gather in addition to the facts of every host. It is built by
// the checks that use the facts.
type Request struct {
	Ports       []PortKey      // ports to bind
	Paths       []string       // absolute paths whose file systems to inspect; they may not exist
	DataDirs    []string       // directories of k0s's data: if they are not empty, they are a trace of k0s
	Commands    []string       // programs to find
	Units       []string       // systemd units to query, without .service
	Lookups     []string       // names to resolve, besides the host's own
	Sysctls     []string       // kernel settings, in dotted notation
	Sources     []string       // URLs on the internet to request
	Dials       []string       // host:port to connect to
	Packages    []string       // packages to query from the package manager
	Modules     []string       // kernel modules, besides those that a k0s node uses
	Devices     bool           // list the block devices
	Services    []string       // services of systemd to list, by the beginning of their names
	KeyPairs    []KeyPairFiles // certificates and keys to compare
	DNS         []string       // names to ask each name server for, with each search domain
	Balancers   []BalancerKey  // load balancers to test
	Runs        []CommandKey   // programs to run
	Proxy       string         // URL of the proxy for Sources; may contain credentials
	FsyncPath   string         // path for the sync latency benchmark; may not exist
	WritePath   string         // path for the write throughput benchmark; may not exist
	MeasureCore bool           // measure the speed of one processor
	LocalOnly   bool           // contact no other host: no name lookup, no query to a name server
}
