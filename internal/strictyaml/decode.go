package strictyaml

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/problem"
)

// CheckFunc returns why value breaks rule and how to fix it; message is empty if
// value is valid.
type CheckFunc func(rule, value string) (message, hint string)

// Decode stores root in the struct that into points to. The field tags of the
// struct are the schema: json is the key, required and default are what they say
// (an empty text counts as absent), rule is passed to check with the value, and also
// lists other words for the key, for hints. A key without a field is an error, and so
// is a value of another type, including null.
func (r *Reader) Decode(root *yaml.Node, into any, check CheckFunc) {
	d := decoder{r, check}
	d.decodeMapping("", root, root, reflect.ValueOf(into).Elem())
}

type decoder struct {
	*Reader
	check CheckFunc
}

// decodeMapping decodes mapping n into the struct v. at is the node at which a
// missing key is reported. n is nil if the mapping is absent and none of its keys
// is required.
func (r decoder) decodeMapping(path string, at, n *yaml.Node, v reflect.Value) {
	if n != nil && n.Kind != yaml.MappingNode {
		r.ReportWrongType(path, n, "a mapping")
		return
	}
	values := map[string]*yaml.Node{}
	keys := map[string]*yaml.Node{}
	for i := 0; n != nil && i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := key.Value
		if key.Kind != yaml.ScalarNode {
			continue // reported by checkNode
		}
		if !slices.Contains(fieldNames(v.Type()), name) {
			r.Report("unknown-key", JoinPath(path, name), key, "unknown key", suggestKey(name, v.Type()))
			continue
		}
		if values[name] == nil {
			values[name], keys[name] = value, key
			r.nodes[JoinPath(path, name)] = value
		}
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		name := fieldName(f)
		where := keys[name]
		if where == nil {
			where = at
		}
		r.decodeField(JoinPath(path, name), where, values[name], f, v.Field(i))
	}
}

// decodeField decodes n, nil if absent, into the field f of a struct.
func (r decoder) decodeField(path string, at, n *yaml.Node, f reflect.StructField, v reflect.Value) {
	if n != nil && n.Kind == yaml.AliasNode {
		r.failedPaths[path] = true // reported by checkNode
		return
	}
	switch {
	case n == nil && f.Tag.Get("required") != "":
		r.Report("required", path, at, "is missing", "")
	case f.Type.Kind() == reflect.Struct:
		r.decodeMapping(path, at, n, v)
	case f.Type.Kind() == reflect.String:
		r.decodeText(path, at, n, f, v)
	case f.Type.Kind() == reflect.Int || f.Type.Kind() == reflect.Int64:
		r.decodeNumber(path, n, f, v)
	case f.Type.Kind() == reflect.Bool:
		r.decodeBool(path, n, f, v)
	case n == nil:
	case f.Type.Kind() == reflect.Pointer:
		v.Set(reflect.New(f.Type.Elem()))
		r.decodeMapping(path, at, n, v.Elem())
	case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
		r.decodeStructs(path, n, v)
	default:
		r.decodeFreeForm(path, n, f, v)
	}
}

// decodeStructs decodes n, a list of mappings with known keys, into a slice of structs.
func (r decoder) decodeStructs(path string, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		r.ReportWrongType(path, n, "a list")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		if item.Kind != yaml.AliasNode { // reported by checkNode
			r.decodeMapping(path+"["+strconv.Itoa(i)+"]", item, item, v.Index(i))
		}
	}
}

// decodeText decodes n, nil if absent, into a string field.
func (r decoder) decodeText(path string, at, n *yaml.Node, f reflect.StructField, v reflect.Value) {
	v.SetString(f.Tag.Get("default"))
	if n == nil {
		return
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		r.ReportWrongType(path, n, "text")
		return
	}
	if n.Value == "" {
		if f.Tag.Get("required") != "" {
			r.Report("required", path, n, "is empty", "")
		}
		return
	}
	v.SetString(n.Value)
	r.checkValue(f.Tag.Get("rule"), path, n, n.Value)
}

// decodeNumber decodes n, nil if absent, into an integer field.
func (r decoder) decodeNumber(path string, n *yaml.Node, f reflect.StructField, v reflect.Value) {
	if n == nil {
		i, _ := strconv.Atoi(f.Tag.Get("default"))
		v.SetInt(int64(i))
		return
	}
	i, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || err != nil || strconv.Itoa(i) != n.Value {
		r.ReportWrongType(path, n, "a whole number")
		return
	}
	v.SetInt(int64(i))
	r.checkValue(f.Tag.Get("rule"), path, n, n.Value)
}

// decodeBool decodes n, nil if absent, into a bool field.
func (r decoder) decodeBool(path string, n *yaml.Node, f reflect.StructField, v reflect.Value) {
	v.SetBool(f.Tag.Get("default") == "true")
	if n == nil {
		return
	}
	var value bool
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Decode(&value) != nil {
		r.ReportWrongType(path, n, "true or false")
		return
	}
	v.SetBool(value)
}

// decodeFreeForm decodes a value without fixed keys: a mapping, a list of mappings,
// or a list of texts.
func (r decoder) decodeFreeForm(path string, n *yaml.Node, f reflect.StructField, v reflect.Value) {
	want, kind := "a mapping", yaml.MappingNode
	if f.Type.Kind() == reflect.Slice {
		want, kind = "a list", yaml.SequenceNode
	}
	if n.Kind != kind {
		r.ReportWrongType(path, n, want)
		return
	}
	for i := 0; kind == yaml.SequenceNode && i < len(n.Content); i++ {
		item, at := n.Content[i], path+"["+strconv.Itoa(i)+"]"
		switch elem := f.Type.Elem(); {
		case item.Kind == yaml.AliasNode:
		case elem.Kind() == reflect.Map && item.Kind != yaml.MappingNode:
			r.ReportWrongType(at, item, "a mapping")
			r.unsafe = true
		case elem.Kind() == reflect.String && item.ShortTag() != "!!str":
			r.ReportWrongType(at, item, "text")
			r.unsafe = true
		case elem.Kind() == reflect.String:
			r.checkValue(f.Tag.Get("rule"), at, item, item.Value)
		}
	}
	if r.unsafe {
		return // already reported; the caller does not use the value
	}
	if err := n.Decode(v.Addr().Interface()); err != nil {
		r.Report("wrong-type", path, n, "cannot be read as "+want, "")
	}
}

// ReportWrongType reports that n is not of the type want, with a hint how to write
// it, if there is one.
func (r *Reader) ReportWrongType(path string, n *yaml.Node, want string) {
	hint, found := "", DescribeNode(n)
	switch {
	case n.ShortTag() == "!!null":
		hint = "remove the key or give it a value"
	case n.Kind != yaml.ScalarNode:
	case want == "text":
		hint = "quote it: " + QuoteValue(n.Value)
	case want == "a whole number" && n.ShortTag() != "!!str": // another notation of a number
		want, found, hint = "a whole number in plain digits", n.Value, "write it like 8800"
	case want == "a whole number":
		hint = "write plain digits, without quotes"
	case want == "a list":
		hint = "write [" + QuoteValue(n.Value) + "]"
	}
	r.Report("wrong-type", path, n, "must be "+want+", found "+found, hint)
}

// checkValue reports a finding if the value of n breaks rule.
func (r decoder) checkValue(rule, path string, n *yaml.Node, value string) {
	if message, hint := r.check(rule, value); message != "" {
		r.Report(rule, path, n, message, hint)
	}
}

// fieldName returns the key of a struct field.
func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// fieldNames returns the keys of the struct type t, nil for another type.
func fieldNames(t reflect.Type) []string {
	var names []string
	for i := 0; t.Kind() == reflect.Struct && i < t.NumField(); i++ {
		if name := fieldName(t.Field(i)); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// suggestKey returns a hint with the key of t that is nearest to name, or with all
// keys.
func suggestKey(name string, t reflect.Type) string {
	known := fieldNames(t)
	for i := range t.NumField() {
		if also := strings.Fields(t.Field(i).Tag.Get("also")); slices.Contains(also, name) {
			return "the key is called " + strconv.Quote(fieldName(t.Field(i)))
		}
	}
	best, limit := "", max(2, len(name)/3)+1
	for _, key := range known {
		if d := problem.EditDistance(strings.ToLower(name), strings.ToLower(key)); d < limit {
			best, limit = key, d
		}
	}
	if best != "" {
		return "did you mean " + strconv.Quote(best) + "?"
	}
	return "known keys: " + strings.Join(known, ", ")
}
