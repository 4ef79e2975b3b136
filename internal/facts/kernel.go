package facts

// Kernel is the running kernel.
type Kernel struct {
	Release  string    `json:"release"` // uname -r
	Features []Feature `json:"features,omitempty"`
}

// Feature is one thing the kernel can do, or not.
type Feature struct {
	Name  string       `json:"name"` // as Kubernetes people call it; a module's name where there is one
	State FeatureState `json:"state"`
	How   string       `json:"how"` // the file that says so, or why nothing does
}

// FeatureState says how a feature is there.
type FeatureState string

// The states of a feature.
const (
	Builtin      FeatureState = "builtin" // part of the kernel image
	Loaded       FeatureState = "loaded"  // a module, in use
	Module       FeatureState = "module"  // a module on disk that modprobe can load
	Missing      FeatureState = "missing" // neither
	FeatureVague FeatureState = "unknown" // nothing on this host tells
)

// Feature finds one by name; a feature nobody looked for is unknown.
func (k Kernel) Feature(name string) Feature {
	for _, f := range k.Features {
		if f.Name == name {
			return f
		}
	}
	return Feature{Name: name, State: FeatureVague, How: "it was not looked for"}
}

// Present reports whether the feature can be used now, or after loading a module.
func (f Feature) Present() bool {
	return f.State == Builtin || f.State == Loaded || f.State == Module
}

// Cgroup is the control group set-up that a container runtime will find.
type Cgroup struct {
	Version     int      `json:"version"`     // 1 or 2; 0 when none is mounted
	Hybrid      bool     `json:"hybrid"`      // version 1 with a version 2 tree beside it
	Controllers []string `json:"controllers"` // usable in that version, sorted
}
