package facts

import (
	"net/netip"
	"time"
)

// Settings contains kernel settings and the limits that services start with.
type Settings struct {
	Sysctls   map[string]string `json:"sysctls,omitempty"` // settings of Request.Sysctls that the kernel has
	Files     []SysctlFile      `json:"files,omitempty"`   // lines that set them at boot, in the order in which they are read
	OpenFiles int64             `json:"openFiles"`         // hard limit of open files of process 1; -1 for unlimited
	Processes int64             `json:"processes"`         // hard limit of processes of process 1; -1 for unlimited
	Hugepages string            `json:"hugepages"`         // transparent huge pages: always, madvise, never
	Defrag    string            `json:"defrag"`            // when memory is compacted for them: always, defer, madvise, …
	Entropy   int               `json:"entropy"`           // bits; always 256 since Linux 5.18
}

// SysctlFile is a line that sets a sysctl at boot.
type SysctlFile struct {
	Path    string `json:"path"`
	Key     string `json:"key"` // in dotted notation
	Value   string `json:"value"`
	Pattern string `json:"pattern,omitempty"` // the pattern in the file that stands for Key; "" if the file names Key
}

// Proxy is one proxy setting on this host, without credentials.
type Proxy struct {
	From    string   `json:"from"`            // file, or "this command's environment"
	HTTP    string   `json:"http,omitempty"`  // host and port
	HTTPS   string   `json:"https,omitempty"` // host and port
	NoProxy []string `json:"noProxy,omitempty"`
}

// NameServer is the result of querying one name server of /etc/resolv.conf directly.
type NameServer struct {
	Address netip.Addr `json:"address"`
	TookMS  int64      `json:"tookMs"`
	Error   string     `json:"error,omitempty"` // why there was no response; "no such name" is a response
}

// Source is the result of requesting one URL on the internet.
type Source struct {
	URL    string        `json:"url"`
	TookMS int64         `json:"tookMs"`
	Status int           `json:"status,omitempty"` // HTTP status of the response
	Error  string        `json:"error,omitempty"`
	Offset time.Duration `json:"offset,omitempty"` // its clock minus this host's, in nanoseconds, with a resolution of 1 s
}

// Dial is the result of connecting to an address.
type Dial struct {
	Address string `json:"address"` // host:port
	Status  string `json:"status"`  // connected, connection-refused, connection-timeout, error
}
