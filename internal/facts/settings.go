package facts

import (
	"net/netip"
	"time"
)

// Settings are the kernel's, and the limits that services start with.
type Settings struct {
	Sysctls   map[string]string `json:"sysctls,omitempty"` // of Request.Sysctls those that the kernel has
	Files     []SysctlFile      `json:"files,omitempty"`   // what sets those of Request.Sysctls at boot, in that order
	OpenFiles int64             `json:"openFiles"`         // most that process 1 may raise its open files to; -1 without limit
	Processes int64             `json:"processes"`         // likewise processes
	Hugepages string            `json:"hugepages"`         // transparent huge pages: always, madvise, never
	Defrag    string            `json:"defrag"`            // when memory is shifted for them: always, defer, madvise, …
	Entropy   int               `json:"entropy"`           // bits; 256 at any time since Linux 5.18
}

// SysctlFile is a line that sets a sysctl at boot.
type SysctlFile struct {
	Path  string `json:"path"`
	Key   string `json:"key"` // dotted
	Value string `json:"value"`
}

// Proxy is where some place says how to reach the internet. It holds no
// credentials.
type Proxy struct {
	From    string   `json:"from"`            // file, or "this command's environment"
	HTTP    string   `json:"http,omitempty"`  // host and port
	HTTPS   string   `json:"https,omitempty"` // host and port
	NoProxy []string `json:"noProxy,omitempty"`
}

// Server is one name server of /etc/resolv.conf, asked directly.
type Server struct {
	Address netip.Addr `json:"address"`
	TookMS  int64      `json:"tookMs"`
	Error   string     `json:"error,omitempty"` // no answer; "no such name" is one
}

// Source is one place in the internet that was asked for its greeting.
type Source struct {
	URL    string        `json:"url"`
	TookMS int64         `json:"tookMs"`
	Status int           `json:"status,omitempty"` // of its answer
	Error  string        `json:"error,omitempty"`
	Offset time.Duration `json:"offset,omitempty"` // its clock less this host's, nanoseconds, a second exact
}

// Dial is what became of connecting to an address.
type Dial struct {
	Address string `json:"address"` // host:port
	Status  string `json:"status"`  // connected, connection-refused, connection-timeout, error
}
