package supportspec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/strictyaml"
)

// fieldType is the type of a value, as messages name it.
type fieldType string

const (
	text     fieldType = "text"
	texts    fieldType = "a list" // of texts
	mappings fieldType = "a list" + ofMappings
	mapping  fieldType = "a mapping"
	number   fieldType = "a whole number"
	flag     fieldType = "true or false"
	moment   fieldType = "a time"

	ofMappings = " of mappings"
)

// specFields are the keys of a spec with collectors (troubleshoot.sh v0.133.0, pkg/apis/troubleshoot/v1beta2,
// supportbundle_types.go).
var specFields = map[string]fieldType{
	"collectors": mappings, "hostCollectors": mappings, "remoteCollectors": mappings, "analyzers": mappings, "hostAnalyzers": mappings,
	"afterCollection": mappings, "uri": text, "runHostCollectorsInPod": flag,
}

// collectorFields are the settings of the collectors that Plinth carries out (collector_shared.go, hostcollector_shared.go),
// and of mappings in them. All also have commonFields.
var collectorFields = map[string]map[string]fieldType{
	"logs":        {"name": text, "selector": texts, "namespace": text, "containerNames": texts, "limits": mapping, "timestamps": flag},
	"logs.limits": {"maxAge": text, "maxLines": number, "sinceTime": moment, "maxBytes": number},
	"configMap":   objectFields,
	"secret":      objectFields,
	"data":        {"name": text, "data": text},
	"nodeMetrics": {"nodeNames": texts, "selector": texts},
	"journald": {"system": flag, "dmesg": flag, "units": texts, "since": text, "until": text, "output": text, "lines": number, "reverse": flag, "utc": flag,
		"timeout": text},
	"copy":      {"path": text},
	"diskUsage": {"path": text},
}

var objectFields = map[string]fieldType{"name": text, "selector": texts, "namespace": text, "key": text, "includeValue": flag, "includeAllData": flag}

// commonFields are settings of every collector. exclude is true or false, also as text.
var commonFields = map[string]fieldType{"collectorName": text, "exclude": ""}

// checkDocument reports what is wrong in the document beside its spec.
func (d document) checkDocument() {
	for i := 0; i+1 < len(d.root.Content); i += 2 {
		key, value := d.root.Content[i], d.root.Content[i+1]
		switch key.Value {
		case "apiVersion", "kind", "spec":
		case "metadata", "status":
			if d.checkType(key.Value, value, mapping) {
				if _, name := strictyaml.Child(value, "name"); name != nil {
					d.checkType(key.Value+".name", name, text)
				}
			}
		default:
			d.Report("unknown-key", strictyaml.JoinPath("", key.Value), key, "unknown key", suggest(key.Value, "known keys", "apiVersion", "kind", "metadata", "spec"))
		}
	}
}

// checkFields reports the keys of the mapping n at a path that are not known, and values of another type; ok is false if
// there are such values.
func (d document) checkFields(at string, n *yaml.Node, known map[string]fieldType) (ok bool) {
	ok = true
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		path := strictyaml.JoinPath(at, key.Value)
		want, has := known[key.Value]
		if !has {
			d.Report("unknown-key", path, key, "unknown key", suggest(key.Value, "known keys", slices.Sorted(maps.Keys(known))...))
			continue
		}
		ok = d.checkType(path, value, want) && ok
	}
	return ok
}

// checkType reports n, the value at a path, if it is not of the type want; ok is false then. Nothing (null) is like a key
// that is not there.
func (d document) checkType(path string, n *yaml.Node, want fieldType) (ok bool) {
	if isNull(n) {
		return true
	}
	tag := n.ShortTag()
	switch want {
	case texts, mappings:
		if n.Kind != yaml.SequenceNode {
			d.ReportWrongType(path, n, "a list")
			return false
		}
		item := map[fieldType]fieldType{texts: text, mappings: mapping}[want]
		ok = true
		for i, element := range n.Content {
			ok = d.checkItem(fmt.Sprintf("%s[%d]", path, i), element, item) && ok
		}
		return ok
	case moment:
		_, err := time.Parse(time.RFC3339, n.Value)
		if ok = tag == "!!timestamp" || tag == "!!str" && err == nil; !ok {
			d.Report("wrong-type", path, n, "is not a time", "write it like 2026-01-02T12:00:00Z")
		}
		return ok
	case "":
		if ok = tag == "!!bool" || n.Value == "true" || n.Value == "false"; !ok {
			d.ReportWrongType(path, n, string(flag))
		}
		return ok
	}
	return d.checkItem(path, n, want)
}

// checkItem is checkType for one value, which is not nothing.
func (d document) checkItem(path string, n *yaml.Node, want fieldType) (ok bool) {
	switch tag := n.ShortTag(); want {
	case mapping:
		ok = n.Kind == yaml.MappingNode
	case text:
		ok = n.Kind == yaml.ScalarNode && tag == "!!str"
	case number:
		ok = n.Kind == yaml.ScalarNode && tag == "!!int"
	case flag:
		ok = n.Kind == yaml.ScalarNode && tag == "!!bool"
	}
	if !ok {
		d.ReportWrongType(path, n, string(want))
	}
	return ok
}

func isNull(n *yaml.Node) bool { return n.ShortTag() == "!!null" }

// fieldNode returns the value of a setting, such as limits.maxAge, in n; n itself if it is not there.
func fieldNode(n *yaml.Node, field string) *yaml.Node {
	at := n
	for name := range strings.SplitSeq(field, ".") {
		_, at = strictyaml.Child(at, name)
	}
	if at == nil {
		return n
	}
	return at
}

// suggest returns a hint with the names of all that are nearest to name, or with all, which are what, such as "known keys".
func suggest(name, what string, all ...string) string {
	near := slices.DeleteFunc(slices.Clone(all), func(known string) bool {
		return problem.EditDistance(strings.ToLower(name), strings.ToLower(known)) > max(1, len(name)/4)
	})
	if len(near) > 0 {
		return "did you mean " + strings.Join(near, " or ") + "?"
	}
	return what + ": " + strings.Join(all, ", ")
}
