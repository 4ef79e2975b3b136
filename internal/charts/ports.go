package charts

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/ports"
	"github.com/plinthdev/plinth/internal/spec"
)

// portUse is the use of a port of the hosts by an object.
type portUse struct {
	what     string // hostPort or nodePort
	number   int
	protocol string
}

// The sorts of ports.
const (
	hostPort = "host port"
	nodePort = "node port"
)

// key identifies the port: "80/TCP".
func (u portUse) key() string { return strconv.Itoa(u.number) + "/" + u.protocol }

// portUser is who uses a port.
type portUser struct {
	chart  string // name of the chart; "" for an add-on of Plinth
	what   string // hostPort or nodePort
	object string // the object in words
	text   string // the user in words, for a message about another one
}

// checkPorts checks the ports of the hosts that an object of a chart uses.
func (x *inspection) checkPorts(c spec.Chart, obj Object) {
	for _, use := range portsOf(obj) {
		first, last := x.in.Spec.Network.NodePorts()
		if use.what == nodePort && (use.number < first || use.number > last) {
			x.report("chart-port", "", fmt.Sprintf("%s has node port %d, which is outside spec.network.nodePortRange %s", obj, use.number, x.in.Spec.Network.NodePortRange), portHint)
		}
		x.checkPort(c, obj, use)
	}
}

const portHint = "choose another port in the values of the chart"

// checkPort checks that neither Plinth, nor another chart, nor another service uses a port.
func (x *inspection) checkPort(c spec.Chart, obj Object, use portUse) {
	clash := func(with string) {
		x.report("chart-port", "", fmt.Sprintf("%s has %s %d, which %s", obj, use.what, use.number, with), portHint)
	}
	if use.protocol == "TCP" {
		console := x.in.Spec.Kotsadm
		if p, reserved := ports.Reserved(use.number); reserved {
			clash(p.Use + " uses on hosts of the cluster")
		} else if console != nil && console.UIBindPort == use.number {
			clash("the console uses (spec.kotsadm.uiBindPort)")
		}
	}
	for _, user := range x.portUsers[use.key()] {
		// Pods of one chart can share a host port: they may run on different nodes. A service shares its port with none.
		if user.chart != c.Name || use.what == nodePort && user.what == nodePort && user.object != obj.String() {
			clash(user.text + " uses, too")
			break // the others are named beside the first
		}
	}
	x.addPortUser(use, portUser{c.Name, use.what, obj.String(), fmt.Sprintf("chart %s (%s)", c.Name, obj)})
}

// addPortUser remembers the first user of each sort of a port in each chart.
func (x *inspection) addPortUser(use portUse, user portUser) {
	same := func(other portUser) bool { return other.chart == user.chart && other.what == user.what }
	if !slices.ContainsFunc(x.portUsers[use.key()], same) {
		x.portUsers[use.key()] = append(x.portUsers[use.key()], user)
	}
}

// addOwn adds the objects that the add-ons of Plinth create, the ports that they use, and for each chart the APIs that those installed before it define.
// The console's port, which has a rule of its own, is left out, and so is everything if the Installer requests an add-on
// that this build does not have, which is another violation.
func (x *inspection) addOwn() {
	resolved, err := addons.Resolve(x.in, "/") // nothing here depends on the folder
	if err != nil {
		return
	}
	var apis []string
	for _, a := range resolved {
		if a.External {
			x.ownAPIs[a.Name] = slices.Clone(apis)
			continue
		}
		x.addNamespace(a.Namespace, "Plinth (for its add-on "+a.Title+")")
		rendered, err := newRelease(a).RenderParts(x.kubernetes, false)
		if err != nil {
			continue
		}
		objects, err := decodeAll(rendered.All())
		if err != nil {
			continue
		}
		apis = append(apis, definedAPIs(objects)...)
		for _, obj := range objects {
			x.owners[objectKey(obj, a.Namespace)] = objectOwner{text: fmt.Sprintf("Plinth's add-on %s (%s)", a.Title, obj.Template)}
			for _, use := range portsOf(obj) {
				if k := x.in.Spec.Kotsadm; k == nil || k.UIBindPort != use.number {
					x.addPortUser(use, portUser{"", use.what, obj.String(), fmt.Sprintf("Plinth's add-on %s (%s)", a.Title, obj)})
				}
			}
		}
	}
}

// portsOf returns the ports of the hosts that an object uses: node ports of a service, and host ports of pods.
func portsOf(obj Object) []portUse {
	uses := nodePortsOf(obj)
	for _, pod := range podTemplates(obj) {
		if !pod.isForWindows() {
			uses = append(uses, hostPortsOf(pod)...)
		}
	}
	return uses
}

// nodePortsOf returns the fixed node ports of a service.
func nodePortsOf(obj Object) (uses []portUse) {
	if obj.GetKind() != "Service" || obj.GetAPIVersion() != "v1" {
		return nil
	}
	root, _ := obj.Object["spec"].(map[string]any)
	items, _ := root["ports"].([]any)
	items = append(slices.Clone(items), map[string]any{"nodePort": root["healthCheckNodePort"]})
	for _, item := range items {
		port, _ := item.(map[string]any)
		if number := numberOf(port["nodePort"]); number != 0 {
			uses = append(uses, portUse{nodePort, number, cmp.Or(textOf(port, "protocol"), "TCP")})
		}
	}
	return uses
}

// hostPortsOf returns the ports of the host that a pod listens on. A pod in the network of the host also listens where
// its probes ask, if they ask the pod itself.
func hostPortsOf(pod podTemplate) (uses []portUse) {
	onHost := pod.spec["hostNetwork"] == true
	add := func(number int, protocol string) {
		use := portUse{hostPort, number, cmp.Or(protocol, "TCP")}
		if number != 0 && !slices.Contains(uses, use) {
			uses = append(uses, use)
		}
	}
	for _, container := range pod.containers() {
		items, _ := container["ports"].([]any)
		for _, item := range items {
			port, _ := item.(map[string]any)
			number := numberOf(port["hostPort"])
			if number == 0 && onHost {
				number = numberOf(port["containerPort"])
			}
			add(number, textOf(port, "protocol"))
		}
		for _, name := range []string{"startupProbe", "livenessProbe", "readinessProbe"} {
			probe, _ := container[name].(map[string]any)
			for _, kind := range []string{"httpGet", "tcpSocket", "grpc"} {
				target, _ := probe[kind].(map[string]any)
				if host := textOf(target, "host"); onHost && (host == "" || host == "127.0.0.1" || host == "localhost") {
					add(numberOf(target["port"]), "TCP")
				}
			}
		}
	}
	return uses
}

// numberOf returns a whole number of an object; 0 if there is none.
func numberOf(v any) int {
	switch v := v.(type) {
	case int64:
		return int(v)
	case float64:
		return int(v)
	}
	return 0
}
