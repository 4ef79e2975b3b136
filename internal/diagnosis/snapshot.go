package diagnosis

import (
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// Schema is the version of the JSON format of a Snapshot. It increases when the meaning of a
// field changes.
const Schema = 1

// Names of logs in a Snapshot. A log of a pod has the name "pod NAMESPACE/POD/CONTAINER".
const (
	LogKernel = "kernel"       // messages of the kernel, with those of SELinux and AppArmor
	LogK0s    = "k0s"          // the unit of k0s: k0s itself, etcd, containerd, kubelet, the API server, …
	LogAgent  = "plinth-agent" // Plinth's agent
	LogTime   = "time"         // the services that set the clock
	LogPods   = "pod "         // the logs of all pods
)

// Snapshot is what was collected about a host and its cluster. What could not be collected is
// empty, and listed in Missing.
type Snapshot struct {
	Schema       int                  `json:"schema"`
	Time         time.Time            `json:"time"` // by the clock of the host, UTC
	Host         facts.Facts          `json:"host"`
	Preflights   hostpreflight.Report `json:"preflights"`       // without checks that bind ports or measure
	Recorded     facts.Identity       `json:"recorded"`         // identity that the install or join recorded
	Install      Install              `json:"install"`          // what the journal and the receipt say
	K0s          Unit                 `json:"k0s"`              // zero if k0s was never set up here
	Units        []Unit               `json:"units,omitempty"`  // other units that matter: the agent, packet filters, …
	Logs         map[string][]Line    `json:"logs,omitempty"`   // newest lines of logs, oldest first
	Listeners    []facts.Port         `json:"listen,omitempty"` // ports that programs listen on
	Certificates []Certificate        `json:"certs,omitempty"`  // of the host and, if it answers, the cluster
	Etcd         *Etcd                `json:"etcd,omitempty"`   // of this controller; nil if it did not answer
	EtcdError    string               `json:"etcdError,omitempty"`
	Cluster      *Cluster             `json:"cluster,omitempty"` // nil if it did not answer
	ClusterError string               `json:"clusterError,omitempty"`
	Missing      []facts.Unknown      `json:"missing,omitempty"` // what could not be collected, and why
}

// Install is what the records on the host say.
type Install struct {
	Installed bool      `json:"installed"`          // an install or join has finished
	Worker    bool      `json:"worker,omitempty"`   // this host is a worker
	DataDir   string    `json:"dataDir"`            // data folder of Plinth
	UpdatedAt time.Time `json:"updatedAt,omitzero"` // newest time in the records, by the host's clock then
	Removed   string    `json:"removed,omitempty"`  // sentence that the cluster has removed this host; "" if it has not
	Verb      string    `json:"verb,omitempty"`     // of an unfinished run; "" if there is none
	Step      string    `json:"step,omitempty"`     // where that run stopped
	Failed    string    `json:"failed,omitempty"`   // why it stopped; "" if it was killed
}

// Unit is a systemd unit.
type Unit struct {
	Name     string    `json:"name"`
	Load     string    `json:"load"`               // loaded, not-found, …
	Active   string    `json:"active"`             // active, failed, …
	Sub      string    `json:"sub"`                // running, auto-restart, …
	Enabled  string    `json:"enabled,omitempty"`  // enabled, disabled, …
	Result   string    `json:"result,omitempty"`   // success, exit-code, oom-kill, …
	Restarts int       `json:"restarts,omitempty"` // by systemd, since it was started by a command
	Since    time.Time `json:"since,omitzero"`     // when it became active
}

// Running reports whether the unit is active.
func (u Unit) Running() bool { return u.Active == "active" }

// Line is a line of a log.
type Line struct {
	Time time.Time `json:"time,omitzero"` // zero if the log has none
	Text string    `json:"text"`
}

// Certificate is a certificate of the host or the cluster.
type Certificate struct {
	Name    string    `json:"name"`
	Path    string    `json:"path"` // or object of the cluster
	Begins  time.Time `json:"begins,omitzero"`
	Ends    time.Time `json:"ends,omitzero"`
	Overdue string    `json:"overdue,omitempty"` // warning that it is not renewed in time; "" for none
}

// Etcd is the state of etcd as its member on this controller reports it.
type Etcd struct {
	Members []EtcdMember `json:"members"`
	DBSize  int64        `json:"dbSize,omitempty"` // bytes of the database's file
	InUse   int64        `json:"inUse,omitempty"`  // bytes of it that are in use
	Alarms  []string     `json:"alarms,omitempty"` // such as "NOSPACE"
}

// EtcdMember is one member of etcd.
type EtcdMember struct {
	Name    string `json:"name"` // "" if it never started
	Address string `json:"address"`
	Leader  bool   `json:"leader,omitempty"`
	Learner bool   `json:"learner,omitempty"`
}

// Cluster is the objects of the cluster that rules read.
type Cluster struct {
	Nodes          []corev1.Node                  `json:"nodes,omitempty"`
	Namespaces     []corev1.Namespace             `json:"namespaces,omitempty"`
	Pods           []corev1.Pod                   `json:"pods,omitempty"`
	Events         []corev1.Event                 `json:"events,omitempty"`
	Claims         []corev1.PersistentVolumeClaim `json:"claims,omitempty"`
	StorageClasses []storagev1.StorageClass       `json:"storageClasses,omitempty"`
	Budgets        []policyv1.PodDisruptionBudget `json:"budgets,omitempty"`
	EndpointSlices []discoveryv1.EndpointSlice    `json:"endpointSlices,omitempty"`
	Webhooks       []Webhook                      `json:"webhooks,omitempty"`
	APIServices    []APIService                   `json:"apiServices,omitempty"`
	Releases       []Release                      `json:"releases,omitempty"`
	Partial        bool                           `json:"partial,omitempty"` // a worker's credentials show nodes only
}

// Webhook is a webhook that the API server asks before it stores an object.
type Webhook struct {
	Config    string `json:"config"`    // object that defines it: "ValidatingWebhookConfiguration NAME"
	Name      string `json:"name"`      //
	Mandatory bool   `json:"mandatory"` // without an answer, the request fails
	Namespace string `json:"namespace"` // of its service; "" if it is a URL
	Service   string `json:"service"`
}

// APIService is an API that another server in the cluster answers.
type APIService struct {
	Name      string `json:"name"`
	Available bool   `json:"available"`
	Message   string `json:"message,omitempty"`
}

// Release is the newest revision of a Helm release.
type Release struct {
	Name      string    `json:"name"`
	Namespace string    `json:"namespace"`
	Status    string    `json:"status"` // deployed, pending-upgrade, failed, …
	Revision  string    `json:"revision"`
	Changed   time.Time `json:"changed,omitzero"`
}

// logsOf returns the names of the logs of a source, sorted.
func (s Snapshot) logsOf(source string) []string {
	if source != LogPods {
		return []string{source}
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.Logs)), func(name string) bool { return !strings.HasPrefix(name, LogPods) })
}

// impaired reports whether something on the host or in the cluster does not work.
func (s Snapshot) impaired() bool {
	return s.hostImpaired() || s.Install.Failed != "" || len(s.failingPods()) > 0 ||
		s.Cluster != nil && slices.ContainsFunc(s.Cluster.Nodes, func(n corev1.Node) bool { return !isReady(n) })
}

// hostImpaired reports whether k0s, etcd, the API or the node of this host does not work.
func (s Snapshot) hostImpaired() bool {
	if s.Cluster == nil && s.Install.Failed != "" || s.ClusterError != "" || s.EtcdError != "" || s.K0s.Load == "loaded" && !s.K0s.Running() {
		return true
	}
	return s.Cluster != nil && slices.ContainsFunc(s.Cluster.Nodes, func(n corev1.Node) bool { return n.Name == s.Recorded.Node && !isReady(n) })
}

// k0sLinesMatter reports whether the log of k0s may tell why something does not work on this host. It does not if k0s was
// stopped by a command.
func (s Snapshot) k0sLinesMatter() bool {
	stopped := s.K0s.Active == "inactive" && (s.K0s.Result == "" || s.K0s.Result == "success")
	return s.hostImpaired() && !stopped
}

// isReady reports whether a node is Ready.
func isReady(n corev1.Node) bool {
	return nodeCondition(n, corev1.NodeReady).Status == corev1.ConditionTrue
}

// unit returns the unit name, and false if it was not collected or does not exist.
func (s Snapshot) unit(name string) (Unit, bool) {
	i := slices.IndexFunc(s.Units, func(u Unit) bool { return u.Name == name && u.Load == "loaded" })
	if i < 0 {
		return Unit{}, false
	}
	return s.Units[i], true
}

// k0sUnit returns the name of the unit of k0s for a command.
func (s Snapshot) k0sUnit() string {
	if s.K0s.Name != "" {
		return s.K0s.Name
	}
	return "k0scontroller.service"
}

// since returns how long ago t was; 0 for a time that is not known or in the future.
func (s Snapshot) since(t time.Time) time.Duration {
	if t.IsZero() || t.After(s.Time) {
		return 0
	}
	return s.Time.Sub(t)
}
