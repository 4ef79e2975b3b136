package facts

// RuntimeConfig is the configuration of k0s's containerd that is on the host.
type RuntimeConfig struct {
	Unmanaged bool     `json:"unmanaged,omitempty"` // the main file is not k0s's own: containerd 1.7 gets no drop-ins
	DropIns   []DropIn `json:"dropIns,omitempty"`   // sorted by path
}

// DropIn is one file that k0s adds to the configuration of containerd. It has the version of the file, and
// the plug-ins for Kubernetes (CRI) that it configures: their names changed between containerd 1.7 and 2.
type DropIn struct {
	Path    string   `json:"path"`
	Version string   `json:"version,omitempty"` // in quotes if it is not an integer; "" if the file has none
	Plugins []string `json:"plugins,omitempty"` // those of RuntimePlugin1, RuntimePlugins2
	Error   string   `json:"error,omitempty"`   // why it cannot be read, or is not TOML; then the others are empty
}

// RuntimePlugin1 is containerd's plug-in for Kubernetes until 1.7.
const RuntimePlugin1 = "io.containerd.grpc.v1.cri"

// RuntimePlugins2 returns containerd's plug-ins for Kubernetes since 2.0.
func RuntimePlugins2() []string {
	return []string{"io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"}
}
