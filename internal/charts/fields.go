package charts

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"k8s.io/client-go/kubernetes/scheme"
)

// maxName is the length of the longest name of an object (Kubernetes: apimachinery, validation.DNS1123SubdomainMaxLength).
const maxName = 253

// checkFields reports an object without what each object has, and one with a field of a type that Kubernetes does not accept.
// The API server would refuse it in the middle of an install. It reports whether the object can be checked further.
func (x *inspection) checkFields(obj Object) bool {
	what := ""
	switch name := obj.GetName(); {
	case obj.GetKind() == "":
		what = "an object has no kind"
	case obj.GetAPIVersion() == "":
		what = fmt.Sprintf("%s %s has no apiVersion", obj.GetKind(), name)
	case name == "" && obj.GetGenerateName() == "":
		what = fmt.Sprintf("a %s has no name", obj.GetKind())
	case len(name) > maxName:
		what = fmt.Sprintf("the name of a %s has %d characters, at most %d are possible: %.40s…", obj.GetKind(), len(name), maxName, name)
	}
	if what != "" {
		x.report("chart-field", "", obj.Template+": "+what, "correct the values of the chart, or its template")
		return false
	}
	if wrong := wrongField(obj); wrong != "" {
		x.report("chart-field", "", fmt.Sprintf("%s: %s", obj, wrong), "correct the values of the chart, or its template")
	}
	return true
}

// jsonKinds are the names of the types of JSON in messages.
var jsonKinds = map[string]string{"string": "a string", "number": "a number", "bool": "a boolean", "array": "a list", "object": "a mapping"}

// wrongField returns the first field of an object of a kind of Kubernetes that has a wrong type, with that; "" if none has. Of
// other kinds nothing is known.
func wrongField(obj Object) string {
	typed, err := scheme.Scheme.New(obj.GroupVersionKind())
	if err != nil {
		return ""
	}
	raw, err := obj.MarshalJSON()
	if err != nil {
		return ""
	}
	var wrong *json.UnmarshalTypeError
	switch err := json.Unmarshal(raw, typed); {
	case err == nil:
		return ""
	case errors.As(err, &wrong):
		has, _, _ := strings.Cut(wrong.Value, " ") // "number 3.5"
		return fmt.Sprintf("%s cannot be %s", wrong.Field, jsonKinds[has])
	default: // of a type with a format of its own, such as a quantity or a time
		return "a field has a wrong format: " + oneLine(err.Error())
	}
}

// checkContainers reports containers without an image, in pods of kinds of Kubernetes: an operator may add that of its own.
func (x *inspection) checkContainers(pod podTemplate) {
	if !scheme.Scheme.Recognizes(pod.GroupVersionKind()) {
		return
	}
	for _, list := range containerLists {
		containers, _ := pod.spec[list].([]any)
		for _, item := range containers {
			if c, ok := item.(map[string]any); ok && (c["image"] == nil || c["image"] == "") {
				x.report("chart-field", "", fmt.Sprintf("%s: container %v has no image", pod.Object, c["name"]), "set the image in the values of the chart")
			}
		}
	}
}
