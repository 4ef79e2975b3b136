package facts

// Request says what to look at beyond what every host has. The checks that
// will judge the facts make it.
type Request struct {
	Ports    []PortKey // ports to bind
	Paths    []string  // absolute paths whose file system counts; they need not exist
	DataDirs []string  // folders that hold k0s's data: not empty, they are a trace of k0s
	Commands []string  // programs to find
	Units    []string  // systemd units to ask after, without .service
	Lookups  []string  // names to resolve, besides the host's own
	Sysctls  []string  // kernel settings, dotted
	Sources  []string  // URLs of places in the internet to greet
	Dials    []string  // host:port to connect to
	Packages []string  // of the system's package manager, to ask after
	Modules  []string  // kernel modules, besides those that a k0s node uses
	Proxy    string    // URL by which they are reached; may hold credentials
	Fsync    string    // path to measure as etcd would use it; need not exist
	Write    string    // path to measure with a long file; need not exist
	Core     bool      // measure one processor
	Near     bool      // ask no other host: look up no name, greet no name server
}
