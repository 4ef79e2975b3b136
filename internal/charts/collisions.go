package charts

import (
	"cmp"
	"fmt"
	"strings"

	"helm.sh/helm/v3/pkg/release"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/spec"
)

// clusterKinds are the kinds without a namespace that charts create, with their API group. Any other kind counts as one
// with a namespace.
var clusterKinds = map[string]bool{
	"/Namespace": true, "/PersistentVolume": true,
	"admissionregistration.k8s.io/MutatingWebhookConfiguration": true, "admissionregistration.k8s.io/ValidatingWebhookConfiguration": true,
	"apiextensions.k8s.io/CustomResourceDefinition": true, "apiregistration.k8s.io/APIService": true,
	"networking.k8s.io/IngressClass": true, "node.k8s.io/RuntimeClass": true,
	"rbac.authorization.k8s.io/ClusterRole": true, "rbac.authorization.k8s.io/ClusterRoleBinding": true,
	"scheduling.k8s.io/PriorityClass": true, "storage.k8s.io/CSIDriver": true, "storage.k8s.io/StorageClass": true,
}

// objectOwner is what creates an object.
type objectOwner struct {
	chart string // name of the chart; "" for an add-on of Plinth, k0s and Kubernetes
	text  string // the owner in words
	hint  string // what to do besides choosing another name; "" for leaving one of the two out
}

// objectKey identifies an object in the cluster. Objects without a namespace are in that of their release.
func objectKey(obj Object, namespace string) string {
	return keyOf(obj.GetAPIVersion(), obj.GetKind(), cmp.Or(obj.GetNamespace(), namespace), obj.GetName())
}

// keyOf is objectKey for an object with these fields.
func keyOf(apiVersion, kind, namespace, name string) string {
	kind = schema.FromAPIVersionAndKind(apiVersion, kind).Group + "/" + kind
	if clusterKinds[kind] {
		namespace = ""
	}
	return strings.Join([]string{kind, namespace, name}, " ")
}

// addSystemObjects adds the objects that k0s and Kubernetes create in the cluster.
func (x *inspection) addSystemObjects() {
	for _, o := range k0s.NewSettings(x.in, "", "").SystemObjects() {
		owner := objectOwner{text: "k0s (its " + o.Component + ")", hint: "leave it out of the chart: k0s writes its own again each time it starts"}
		if o.Component == k0s.MetricsServer {
			owner.hint = "set spec.metricsServer.disabled: true if the chart replaces k0s's metrics-server"
		}
		x.owners[keyOf(o.APIVersion, o.Kind, o.Namespace, o.Name)] = owner
	}
	for _, name := range append([]string{"default"}, spec.SystemNamespaces()...) {
		x.addNamespace(name, "Kubernetes")
	}
}

// addNamespace adds a namespace that something else than a chart creates, with the labels that limit its pods.
func (x *inspection) addNamespace(name, owner string) {
	x.owners[keyOf("v1", "Namespace", "", name)] = objectOwner{text: owner, hint: "leave it out of the chart"}
}

// isInstalledOnce reports whether an object is a CRD outside the templates, which no release changes or removes.
func isInstalledOnce(obj Object) bool { return !strings.Contains(obj.Template, "/templates/") }

// checkOwner reports an object that another chart, an add-on, k0s or Kubernetes creates, too: each upgrade of one would
// overwrite that of the other, and its removal would delete it.
func (x *inspection) checkOwner(c spec.Chart, obj Object) {
	if isInstalledOnce(obj) || obj.GetName() == "" {
		return
	}
	key := objectKey(obj, c.Namespace)
	owner, taken := x.owners[key]
	if taken && owner.chart == c.Name && obj.GetAnnotations()[release.HookAnnotation] == "" {
		x.report("chart-object", "", fmt.Sprintf("%s is created by %s, too", obj, owner.text), "remove one of the two from the chart")
		return
	}
	if taken && owner.chart != c.Name {
		x.report("chart-object", "", fmt.Sprintf("%s is created by %s, too", obj, owner.text), cmp.Or(owner.hint, "choose another name in the values of the chart, or leave one of the two out"))
		return
	}
	x.owners[key] = objectOwner{chart: c.Name, text: fmt.Sprintf("chart %s (%s)", c.Name, obj.Template)}
}
