package facts

// Kernel is the running kernel.
type Kernel struct {
	Release  string    `json:"release"` // uname -r
	Features []Feature `json:"features,omitempty"`
}

// Feature is one feature that the kernel has or does not have.
type Feature struct {
	Name  string       `json:"name"` // the name of its module, if there is one
	State FeatureState `json:"state"`
	How   string       `json:"how"` // the file that State was read from, what forbids it, or why it is unknown

	// ForbiddenBy is, for Forbidden, the file to change: one of modprobe.d, ModulesDisabled or
	// KernelCommandLine.
	ForbiddenBy string `json:"forbiddenBy,omitempty"`
}

// Values of Feature.ForbiddenBy besides the path of a file.
const (
	ModulesDisabled   = "kernel.modules_disabled"
	KernelCommandLine = "the kernel command line"
)

// FeatureState is the form in which a feature is available.
type FeatureState string

// The states of a feature.
const (
	Builtin        FeatureState = "builtin"   // part of the kernel image
	Loaded         FeatureState = "loaded"    // a loaded module
	Module         FeatureState = "module"    // a module on disk that modprobe can load
	Forbidden      FeatureState = "forbidden" // a module on disk that this host does not allow to load
	Missing        FeatureState = "missing"   // not available
	FeatureUnknown FeatureState = "unknown"   // not known on this host
)

// Feature returns the feature name, with state FeatureUnknown if it was not requested.
func (k Kernel) Feature(name string) Feature {
	for _, f := range k.Features {
		if f.Name == name {
			return f
		}
	}
	return Feature{Name: name, State: FeatureUnknown, How: "it was not checked"}
}

// Present reports whether the feature can be used, now or after loading a module.
func (f Feature) Present() bool {
	return f.State == Builtin || f.State == Loaded || f.State == Module
}

// Cgroup is the control group configuration that a container runtime uses.
type Cgroup struct {
	Version     int      `json:"version"`     // 1 or 2; 0 if none is mounted
	Hybrid      bool     `json:"hybrid"`      // version 1 with an additional version 2 hierarchy
	Controllers []string `json:"controllers"` // controllers of that version, sorted
}
