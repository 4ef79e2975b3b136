package journal

// Args are the arguments of a run: what a resumed run must repeat, and what the
// run was based on. They contain no secret; files are recorded by their digests
// ("sha256:…"). A field that a verb does not have is empty.
type Args struct {
	Cluster      string   `json:"cluster,omitempty"`      // name of the cluster
	Bundle       string   `json:"bundle,omitempty"`       // digest of the bundle
	From         string   `json:"from,omitempty"`         // upgrade, rollback: digest of the bundle before the upgrade; restore: what is restored; repair: the address before
	PodCIDR      string   `json:"podCIDR,omitempty"`      // pod network
	Node         string   `json:"node,omitempty"`         // install, join: name of this host's node
	MachineID    string   `json:"machineId,omitempty"`    // install, join: machine id of this host
	Address      string   `json:"address,omitempty"`      // install, join: the node's address
	APIAddress   string   `json:"apiAddress,omitempty"`   // additional name or address of the Kubernetes API
	LoadBalancer []string `json:"loadBalancer,omitempty"` // addresses of the load balancer that a user has chosen
	License      string   `json:"license,omitempty"`      // install: digest of the license
	ConfigValues string   `json:"configValues,omitempty"` // install: digest of the config values
	AppBundle    string   `json:"appBundle,omitempty"`    // install, restore: identity of the application bundle
	Console      Console  `json:"console,omitzero"`       // install: what the receipt will record of the console
	Role         string   `json:"role,omitempty"`         // join: role of the token
	CAPin        string   `json:"caPin,omitempty"`        // join: pin of the cluster's authority
	Scope        string   `json:"scope,omitempty"`        // reset: "node" when the host leaves a cluster that continues
	Peers        []string `json:"peers,omitempty"`        // reset: addresses of that cluster's controllers
	Restores     []string `json:"restores,omitempty"`     // rollback: "add-ons" and "console", if etcd stays and another host has upgraded them
	Plan         string   `json:"plan,omitempty"`         // digest of the plan that the run applied
	OtherMinor   bool     `json:"otherMinor,omitempty"`   // upgrade: to another minor version of Kubernetes
	Facts        string   `json:"facts,omitempty"`        // digest of the facts of the host
	Firewall     string   `json:"firewall,omitempty"`     // install, join, restore: value of --configure-firewall
	Steps        int      `json:"steps,omitempty"`        // number of steps to apply
}
