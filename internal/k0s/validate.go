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
)

// Validate returns the objections of k0s to spec.k0s.config, and unknown keys,
// which k0s itself might not report.
func Validate(in *spec.Installer) []spec.Violation {
	const path, rule = configPath, configRule
	var all []spec.Violation
	for _, key := range unknownKeys(reflect.TypeFor[v1beta1.ClusterConfig](), in.Spec.K0s.Config, path) {
		all = append(all, spec.Violation{Rule: rule, Path: key, Message: "k0s has no such key"})
	}
	if len(all) > 0 {
		return all
	}
	// The host is not known yet; any valid address and name will do.
	cfg, err := buildConfig(NewSettings(in, "192.0.2.1", "host"))
	if err != nil {
		return []spec.Violation{describeDecodeError(err)}
	}
	for _, err := range cfg.Validate() {
		all = append(all, spec.Violation{Rule: rule, Path: path, Message: "k0s refuses it: " + err.Error()})
	}
	return all
}

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
