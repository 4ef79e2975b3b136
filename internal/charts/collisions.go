package charts

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

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

// objectOwner is the release that creates an object.
type objectOwner struct {
	chart string // name of the chart; "" for an add-on of Plinth
	text  string // the owner in words
}

// objectKey identifies an object in the cluster. Objects without a namespace are in that of their release.
func objectKey(obj Object, namespace string) string {
	kind := schema.FromAPIVersionAndKind(obj.GetAPIVersion(), obj.GetKind()).Group + "/" + obj.GetKind()
	switch {
	case clusterKinds[kind]:
		namespace = ""
	case obj.GetNamespace() != "":
		namespace = obj.GetNamespace()
	}
	return strings.Join([]string{kind, namespace, obj.GetName()}, " ")
}

// isInstalledOnce reports whether an object is a CRD outside the templates, which no release changes or removes.
func isInstalledOnce(obj Object) bool { return !strings.Contains(obj.Template, "/templates/") }

// checkOwner reports an object that another chart or an add-on creates, too: each upgrade of one would overwrite that
// of the other, and its removal would delete it.
func (x *inspection) checkOwner(c spec.Chart, obj Object) {
	if isInstalledOnce(obj) || obj.GetName() == "" {
		return
	}
	key := objectKey(obj, c.Namespace)
	if owner, taken := x.owners[key]; taken && owner.chart != c.Name {
		x.report("chart-object", "", fmt.Sprintf("%s is created by %s, too", obj, owner.text), "choose another name in the values of the chart, or leave one of the two out")
		return
	}
	x.owners[key] = objectOwner{c.Name, fmt.Sprintf("chart %s (%s)", c.Name, obj.Template)}
}
