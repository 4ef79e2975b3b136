package trace

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kinds of objects. Unit and API are no objects of the cluster.
const (
	Unit       = "Unit"
	API        = "API"
	Node       = "Node"
	Pod        = "Pod"
	claim      = "PersistentVolumeClaim"
	deployment = "Deployment"
	namespace  = "Namespace"
	clusterJob = "Job"
	event      = "Event"
)

// Collection is a collection of the Kubernetes API that tells about a run.
type Collection struct{ Kind, Path string }

// Collections returns the collections that ParseObjects reads. None of them has secrets.
func Collections() []Collection {
	return []Collection{
		{namespace, "/api/v1/namespaces"}, {Node, "/api/v1/nodes"}, {Pod, "/api/v1/pods"}, {claim, "/api/v1/persistentvolumeclaims"},
		{deployment, "/apis/apps/v1/deployments"}, {"StatefulSet", "/apis/apps/v1/statefulsets"}, {"DaemonSet", "/apis/apps/v1/daemonsets"},
		{clusterJob, "/apis/batch/v1/jobs"}, {event, "/api/v1/events"},
	}
}

// Object is something that changed during a run.
type Object struct {
	Kind, Namespace, Name string
	Milestones            []Milestone // by time

	node   string   // of a pod: its node
	claims []string // of a pod: names of its claims
	daemon bool     // of a pod: a DaemonSet owns it
}

// Milestone is a state that an object reached. The cluster tells times in whole seconds, rounded down.
type Milestone struct {
	Name string
	At   time.Time
}

// item is what is read of an object of any kind. It has no values that could be secret.
type item struct {
	Metadata struct {
		Name, Namespace   string
		CreationTimestamp time.Time
		OwnerReferences   []struct{ Kind string }
	}
	Spec struct {
		NodeName string
		Volumes  []struct {
			PersistentVolumeClaim struct{ ClaimName string }
		}
	}
	Status struct {
		Conditions []struct {
			Type, Status       string
			LastTransitionTime time.Time
		}
		InitContainerStatuses, ContainerStatuses []containerStatus
		StartTime, CompletionTime                time.Time
	}

	// of an Event:
	InvolvedObject            struct{ Kind, Namespace, Name, FieldPath string }
	Reason                    string
	FirstTimestamp, EventTime time.Time
}

type containerStatus struct {
	Name  string
	State struct {
		Running    struct{ StartedAt time.Time }
		Terminated struct{ StartedAt, FinishedAt time.Time }
	}
}

// conditionNames are the milestones of conditions that became true, by kind and type.
var conditionNames = map[string]map[string]string{
	Node: {"Ready": "Ready"},
	Pod: {"PodScheduled": "scheduled", "PodReadyToStartContainers": "sandbox and network", "Initialized": "initialized",
		"Ready": "Ready"},
	deployment: {"Available": "Available"},
	clusterJob: {"Complete": "complete", "Failed": "failed"},
}

// eventNames are the milestones of events, by kind and reason.
var eventNames = map[string]map[string]string{
	Pod:   {"Scheduled": "scheduled", "Pulling": "pulling", "Pulled": "pulled", "Started": "started"},
	claim: {"ProvisioningSucceeded": "bound"},
}

// ParseObjects returns the objects in lists, the JSON of collections by kind.
func ParseObjects(lists map[string][]byte) ([]Object, error) {
	items := map[string][]item{}
	for kind, raw := range lists {
		var list struct{ Items []item }
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, fmt.Errorf("list of kind %s: %w", kind, err)
		}
		items[kind] = list.Items
	}
	var objects []Object
	told := eventMilestones(items[event])
	for _, it := range items[namespace] {
		if it.Metadata.Name == "kube-system" { // the API server creates it as soon as it serves
			o := Object{Kind: API, Name: "server"}
			o.add("answers", it.Metadata.CreationTimestamp)
			objects = append(objects, o)
		}
	}
	delete(items, namespace)
	delete(items, event)
	for kind, all := range items {
		for _, it := range all {
			o := Object{Kind: kind, Namespace: it.Metadata.Namespace, Name: it.Metadata.Name}
			name := o.String()
			o.addMilestones(it, told[name])
			objects = append(objects, o)
			delete(told, name)
		}
	}
	for _, o := range told { // objects that are gone
		objects = append(objects, o)
	}
	for i := range objects {
		slices.SortStableFunc(objects[i].Milestones, func(a, b Milestone) int { return a.At.Compare(b.At) })
	}
	slices.SortFunc(objects, func(a, b Object) int { return strings.Compare(a.String(), b.String()) })
	return objects, nil
}

// eventMilestones returns objects with what events tell of them, by their names.
func eventMilestones(events []item) map[string]Object {
	told := map[string]Object{}
	for _, e := range events {
		of := e.InvolvedObject
		name, at := eventNames[of.Kind][e.Reason], e.EventTime
		if at.IsZero() {
			at = e.FirstTimestamp
		}
		if name == "" {
			continue
		}
		if _, container, found := strings.Cut(of.FieldPath, "{"); found { // spec.containers{NAME}
			name += " " + strings.TrimSuffix(container, "}")
		}
		o := Object{Kind: of.Kind, Namespace: of.Namespace, Name: of.Name}
		o.Milestones = told[o.String()].Milestones
		o.add(name, at)
		told[o.String()] = o
	}
	return told
}

// add adds a milestone, unless the time is not known or there is one of this name.
func (o *Object) add(name string, at time.Time) {
	if !at.IsZero() && o.at(name) < 0 {
		o.Milestones = append(o.Milestones, Milestone{name, at.UTC()})
	}
}

// at returns the index of the milestone name, -1 for none.
func (o *Object) at(name string) int {
	return slices.IndexFunc(o.Milestones, func(m Milestone) bool { return m.Name == name })
}

// addMilestones adds what the object it and events tell, in the order in which objects reach it.
func (o *Object) addMilestones(it item, events Object) {
	condition := func(kind string) {
		for _, c := range it.Status.Conditions {
			if c.Type == kind && c.Status == "True" {
				o.add(conditionNames[o.Kind][kind], c.LastTransitionTime)
			}
		}
	}
	containers := func(all []containerStatus) {
		for _, c := range all {
			for _, name := range []string{"pulling " + c.Name, "pulled " + c.Name} {
				if i := events.at(name); i >= 0 {
					o.add(name, events.Milestones[i].At)
				}
			}
			o.add("started "+c.Name, c.State.Running.StartedAt)
			o.add("started "+c.Name, c.State.Terminated.StartedAt)
			o.add("finished "+c.Name, c.State.Terminated.FinishedAt)
		}
	}
	o.node = it.Spec.NodeName
	for _, v := range it.Spec.Volumes {
		o.claims = append(o.claims, v.PersistentVolumeClaim.ClaimName)
	}
	for _, owner := range it.Metadata.OwnerReferences {
		o.daemon = o.daemon || owner.Kind == "DaemonSet"
	}
	first := "created"
	if o.Kind == Node {
		first = "registered"
	}
	o.add(first, it.Metadata.CreationTimestamp)
	condition("PodScheduled")
	condition("PodReadyToStartContainers")
	containers(it.Status.InitContainerStatuses)
	condition("Initialized")
	containers(it.Status.ContainerStatuses)
	if o.Kind == clusterJob {
		o.add("started", it.Status.StartTime)
	}
	for kind := range conditionNames[o.Kind] { // the last one: Ready, Available, Complete or Failed
		condition(kind)
	}
	for _, m := range events.Milestones {
		o.add(m.Name, m.At)
	}
}

// String returns the object in words: "pod kube-system/coredns-x".
func (o Object) String() string {
	name := o.Name
	if o.Namespace != "" {
		name = o.Namespace + "/" + name
	}
	if o.Kind == API {
		return "API " + name
	}
	return strings.ToLower(o.Kind) + " " + name
}
