package k0s

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/k0sproject/k0s/pkg/apis/k0s/v1beta1"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// The place and the rule of the findings about the configuration of k0s.
const (
	configPath = "spec.k0s.config"
	configRule = "k0s-config"
	laterRule  = "k0s-config-later"
)

// ValidateArguments are the arguments with which a k0s executable judges the ClusterConfig that it
// reads from standard input.
func ValidateArguments() []string { return []string{"config", "validate", "--config", "-"} }

// JudgesItself reports whether a k0s version has another ClusterConfig than the types in this build,
// whose minor is another one. Only that k0s itself can judge its configuration.
func JudgesItself(version string) bool {
	minor, own := spec.KubernetesMinor(version), strings.TrimPrefix(v1beta1.DefaultClusterImages().KubeProxy.Version, "v")
	return minor != 0 && !strings.HasPrefix(own, fmt.Sprintf("1.%d.", minor))
}

// Validate returns the objections of k0s to spec.k0s.config, and unknown keys,
// which k0s itself might not report.
func Validate(in *spec.Installer) []spec.Violation {
	const path, rule = configPath, configRule
	config := in.Spec.K0s.Config
	all := miscasedKeys(reflect.TypeFor[v1beta1.ClusterConfig](), config, path)
	miscased := len(all)
	if JudgesItself(in.Spec.K0s.Version) {
		var later map[string]any
		config, later = splitUnknown(reflect.TypeFor[v1beta1.ClusterConfig](), config)
		for _, key := range leafPaths(later, path) {
			all = append(all, spec.Violation{Rule: laterRule, Path: key, Message: "the k0s with which this version of plinth is built has no such key; k0s " + in.Spec.K0s.Version + " judges it when the bundle is built"})
		}
	}
	unknown := unknownKeys(reflect.TypeFor[v1beta1.ClusterConfig](), config, path)
	for _, key := range unknown {
		all = append(all, spec.Violation{Rule: rule, Path: key, Message: "k0s has no such key"})
	}
	if len(unknown) > 0 || miscased > 0 {
		return all
	}
	cfg, err := buildConfig(exampleSettings(in))
	if err != nil {
		return append(all, describeDecodeError(err))
	}
	for _, err := range cfg.Validate() {
		all = append(all, spec.Violation{Rule: rule, Path: path, Message: "k0s refuses it: " + err.Error()})
	}
	return all
}

// exampleSettings returns the settings of an Installer for a host that is not known yet: any valid
// address and name will do.
func exampleSettings(in *spec.Installer) Settings { return NewSettings(in, "192.0.2.1", "host") }

// RenderExample returns the ClusterConfig of an Installer for some host, for the judgment of a k0s.
func RenderExample(in *spec.Installer) ([]byte, error) { return RenderConfig(exampleSettings(in)) }

// describeDecodeError returns the finding for an error of the decoder of k0s.
func describeDecodeError(err error) spec.Violation {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field != "" {
		return spec.Violation{Rule: configRule, Path: configPath + "." + wrong.Field, Message: problem.DescribeTypeError(wrong)}
	}
	for cause := err; cause != nil; cause = errors.Unwrap(cause) {
		err = cause // the innermost one, without the names of decoders
	}
	return spec.Violation{Rule: configRule, Path: configPath, Message: "k0s cannot decode it: " + strings.TrimPrefix(err.Error(), "time: ")}
}

// miscasedKeys returns a violation for each key of tree, the value of a struct of type t at path, that the
// struct has in another case. k0s decodes with encoding/json, which ignores the case: the value would be
// used without having been checked.
func miscasedKeys(t reflect.Type, tree any, path string) (all []spec.Violation) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if list, ok := tree.([]any); ok && t.Kind() == reflect.Slice {
		for i, v := range list {
			all = append(all, miscasedKeys(t.Elem(), v, fmt.Sprintf("%s[%d]", path, i))...)
		}
	}
	values, ok := tree.(map[string]any)
	if !ok || t.Kind() != reflect.Struct {
		return all
	}
	fields := jsonFieldTypes(t)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		for field, below := range fields {
			switch {
			case name == field:
				all = append(all, miscasedKeys(below, values[name], path+"."+name)...)
			case fields[name] == nil && strings.EqualFold(name, field):
				all = append(all, spec.Violation{Rule: configRule, Path: path + "." + name, Message: "k0s has no such key", Hint: fmt.Sprintf("did you mean %q?", field)})
			}
		}
	}
	return all
}

// unknownKeys returns the keys of value, with the prefix path, for which a
// struct of type t has no field, sorted.
func unknownKeys(t reflect.Type, value any, path string) (keys []string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if list, ok := value.([]any); ok && t.Kind() == reflect.Slice {
		for i, v := range list {
			keys = append(keys, unknownKeys(t.Elem(), v, fmt.Sprintf("%s[%d]", path, i))...)
		}
		return keys
	}
	tree, ok := value.(map[string]any)
	if !ok || t.Kind() != reflect.Struct {
		return nil
	}
	fields := jsonFieldTypes(t)
	if len(fields) == 0 { // free-form, such as the values of a worker profile
		return nil
	}
	for name, v := range tree {
		if below, ok := fields[name]; ok {
			keys = append(keys, unknownKeys(below, v, path+"."+name)...)
		} else {
			keys = append(keys, path+"."+name)
		}
	}
	slices.Sort(keys)
	return keys
}

// splitUnknown splits tree, the value of a struct of type t: known has the keys for which the struct has
// a field, unknown all others, each with the keys above it. Lists are known as a whole.
func splitUnknown(t reflect.Type, tree map[string]any) (known, unknown map[string]any) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return tree, nil
	}
	fields := jsonFieldTypes(t)
	if len(fields) == 0 { // free-form
		return tree, nil
	}
	known, unknown = map[string]any{}, map[string]any{}
	for name, v := range tree {
		below, ok := fields[name]
		if !ok {
			unknown[name] = v
			continue
		}
		known[name] = v
		if sub, ok := v.(map[string]any); ok {
			k, u := splitUnknown(below, sub)
			if known[name] = k; len(u) > 0 {
				unknown[name] = u
			}
		}
	}
	return known, unknown
}

// leafPaths returns the paths of the values in tree that are not maps, with the prefix path, sorted.
func leafPaths(tree map[string]any, path string) (all []string) {
	for name, v := range tree {
		if sub, ok := v.(map[string]any); ok && len(sub) > 0 {
			all = append(all, leafPaths(sub, path+"."+name)...)
		} else {
			all = append(all, path+"."+name)
		}
	}
	slices.Sort(all)
	return all
}

// jsonFieldTypes returns the types of the fields of a struct by JSON name. The
// fields of an embedded struct without a name of its own are among them.
func jsonFieldTypes(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			maps.Copy(fields, jsonFieldTypes(f.Type))
		case f.IsExported() && name != "" && name != "-":
			fields[name] = f.Type
		}
	}
	return fields
}
