package charts

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/plinthdev/plinth/internal/helm"
	"github.com/plinthdev/plinth/internal/kube"
)

// Object is an object of a chart, with the template that it comes from.
type Object struct {
	Template string
	*unstructured.Unstructured
}

// String returns the object with its template: "toy/templates/a.yaml: Deployment web".
func (o Object) String() string { return o.Template + ": " + o.GetKind() + " " + o.GetName() }

// decodeAll returns the objects of manifests. Lists are replaced by what they contain.
func decodeAll(manifests []helm.Manifest) (all []Object, err error) {
	for _, m := range manifests {
		objects, err := kube.Decode([]byte(m.Text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.Template, err)
		}
		for _, obj := range objects {
			if !obj.IsList() {
				all = append(all, Object{m.Template, obj})
				continue
			}
			err := obj.EachListItem(func(item runtime.Object) error {
				if u, ok := item.(*unstructured.Unstructured); ok {
					all = append(all, Object{m.Template, u})
				}
				return nil
			})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", m.Template, err)
			}
		}
	}
	return all, nil
}

// definedAPIs returns the APIs that the CustomResourceDefinitions among objects define, as helm.Release has them.
func definedAPIs(objects []Object) (apis []string) {
	for _, obj := range objects {
		if obj.GetKind() != "CustomResourceDefinition" {
			continue
		}
		group, _, _ := unstructured.NestedString(obj.Object, "spec", "group")
		kind, _, _ := unstructured.NestedString(obj.Object, "spec", "names", "kind")
		versions, _, _ := unstructured.NestedSlice(obj.Object, "spec", "versions")
		for _, item := range versions {
			version, _ := item.(map[string]any)
			if name, _ := version["name"].(string); name != "" && version["served"] != false {
				apis = append(apis, group+"/"+name, group+"/"+name+"/"+kind)
			}
		}
	}
	return apis
}

// podTemplate is a pod spec somewhere in an object.
type podTemplate struct {
	Object
	spec map[string]any
}

// containerLists are the fields of a pod spec that hold containers.
var containerLists = []string{"initContainers", "containers", "ephemeralContainers"}

// podTemplates returns the pod specs in an object of any kind, also in custom resources: every mapping with a list of
// containers. The schemas in a CustomResourceDefinition are none.
func podTemplates(obj Object) (found []podTemplate) {
	if obj.GetKind() == "CustomResourceDefinition" {
		return nil
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, list := range containerLists {
				if _, ok := v[list].([]any); ok {
					found = append(found, podTemplate{obj, v})
					break
				}
			}
			for _, child := range v {
				walk(child)
			}
		case []any:
			for _, child := range v {
				walk(child)
			}
		}
	}
	walk(obj.Object)
	return found
}

// containers returns the containers of a pod spec.
func (p podTemplate) containers() (all []map[string]any) {
	for _, list := range containerLists {
		items, _ := p.spec[list].([]any)
		for _, item := range items {
			if c, ok := item.(map[string]any); ok {
				all = append(all, c)
			}
		}
	}
	return all
}

// isForWindows reports whether the pods run on nodes with Windows only, which a cluster of Plinth does not have.
func (p podTemplate) isForWindows() bool {
	selector, _ := p.spec["nodeSelector"].(map[string]any)
	os, _ := p.spec["os"].(map[string]any)
	return strings.EqualFold(fmt.Sprint(selector["kubernetes.io/os"]), "windows") || strings.EqualFold(fmt.Sprint(os["name"]), "windows")
}

// textOf returns the text at a key of a mapping, or "".
func textOf(m map[string]any, key string) string {
	text, _ := m[key].(string)
	return text
}

// NewObject returns an object with the template that it comes from.
func NewObject(template string, content map[string]any) Object {
	return Object{template, &unstructured.Unstructured{Object: content}}
}
