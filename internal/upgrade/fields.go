package upgrade

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

//go:embed fields.yaml
var fieldsFile []byte

// Effect is what an upgrade does with a field that differs.
type Effect string

// The effects.
const (
	NoEffect   Effect = "none"    // nothing on a running cluster
	Live       Effect = "live"    // applied without a restart of k0s
	Restart    Effect = "restart" // applied by a restart of k0s on each node
	NewVersion Effect = "version" // CheckVersions decides
	Refused    Effect = "refused" // it cannot be changed on a running cluster
)

// String returns the effect in words, as the plan and the docs print it.
func (e Effect) String() string {
	return map[Effect]string{NoEffect: "no effect on a running cluster", Live: "k0s is not restarted", Restart: "k0s is restarted on each node",
		NewVersion: "the component is upgraded", Refused: "cannot be changed"}[e]
}

// Field is a row of the table of fields. Its keys are described in fields.yaml.
type Field struct {
	Path    string `yaml:"path"`
	On      Effect `yaml:"on"`
	Removed string `yaml:"removed"`
	Lost    string `yaml:"lost"`
	Secret  string `yaml:"secret"` // "", "true" or "url"
	Show    bool   `yaml:"show"`   // of k0sConfig: the value holds no secret
	Default string `yaml:"default"`
	Note    string `yaml:"note"`
	Reason  string `yaml:"reason"`
	Fix     string `yaml:"fix"`
}

// FieldTable is the content of fields.yaml.
type FieldTable struct {
	Fields    []Field `yaml:"fields"`
	K0sConfig []Field `yaml:"k0sConfig"` // paths in a ClusterConfig
}

// Fields returns the table of this build.
func Fields() FieldTable { return fieldTable() }

var fieldTable = sync.OnceValue(func() FieldTable { return mustDecode[FieldTable]("fields.yaml", fieldsFile) })

// Change is a field of the Installer that an upgrade changes. It holds no secrets.
type Change struct {
	Field  string `json:"field"`
	Was    string `json:"was"`
	Is     string `json:"is"`
	Effect Effect `json:"effect"`
	Note   string `json:"note,omitempty"`
}

// String returns the change in one line: "spec.network.nodePortRange: A → B (k0s is restarted on each node)".
func (c Change) String() string {
	text := fmt.Sprintf("%s: %s → %s", c.Field, c.Was, c.Is)
	if c.Was == c.Is {
		text = c.Field + ": its hidden part differs"
	}
	text += " (" + c.Effect.String() + ")"
	if c.Note != "" {
		text += "; " + c.Note
	}
	return text
}

// Values that stand for others in messages.
const (
	absent = "(none)"
	hidden = "(hidden)"
)

// maxValue is the length of the longest value in a message, in bytes.
const maxValue = 100

// CompareInstallers returns the fields that differ between the installed Installer was and the new one is, in the
// order of the type: those that an upgrade changes, and those that cannot be changed, all at once.
func CompareInstallers(was, is *spec.Installer) (changes []Change, refusals []Refusal) {
	c := comparison{table: Fields()}
	c.walk("", reflect.ValueOf(*was), reflect.ValueOf(*is))
	return c.changes, c.refusals
}

// comparison collects the differences of two Installers.
type comparison struct {
	table    FieldTable
	changes  []Change
	refusals []Refusal
}

// walk compares two values of the same type at path.
func (c *comparison) walk(path string, was, is reflect.Value) {
	switch {
	case path == chartsPath:
		c.compareCharts(was.Interface().([]spec.Chart), is.Interface().([]spec.Chart))
	case path == k0sConfigPath:
		c.compareK0sConfig(flatten(was.Interface()), flatten(is.Interface()))
	case was.Kind() == reflect.Struct:
		for i := range was.NumField() {
			c.walk(joinPath(path, jsonKey(was.Type().Field(i))), was.Field(i), is.Field(i))
		}
	case was.Kind() == reflect.Pointer && !was.IsNil() && !is.IsNil():
		c.walk(path, was.Elem(), is.Elem())
	case was.Kind() == reflect.Pointer:
		if was.IsNil() != is.IsNil() {
			c.comparePresence(findField(c.table.Fields, path), is.IsNil())
		}
	default:
		c.compareValue(findField(c.table.Fields, path), path, valueOf(was), valueOf(is))
	}
}

// k0sConfigPath is the path of the overlay on k0s's ClusterConfig.
const k0sConfigPath = "spec.k0s.config"

// comparePresence records that the key of a component was added or removed.
func (c *comparison) comparePresence(f Field, removed bool) {
	was, is, note := absent, "installed", f.Note
	if removed {
		was, is, note = is, was, f.Lost
	}
	if removed && f.Removed != "" {
		c.refusals = append(c.refusals, Refusal{Subject: f.Path, Was: was, Is: is, Reason: "cannot be removed because " + f.Removed, Fix: f.Fix, Exit: problem.ExitConfig})
		return
	}
	c.changes = append(c.changes, Change{Field: f.Path, Was: was, Is: is, Effect: f.On, Note: note})
}

// compareValue records the difference of a value, if any. f is the row for it, and path its path in the Installer.
func (c *comparison) compareValue(f Field, path, was, is string) {
	was, is = cmp.Or(was, f.Default), cmp.Or(is, f.Default)
	if was == is {
		return
	}
	was, is = f.shown(was), f.shown(is)
	if f.On == Refused {
		c.refusals = append(c.refusals, Refusal{Subject: path, Was: was, Is: is, Reason: "cannot be changed because " + f.Reason, Fix: f.Fix, Exit: problem.ExitConfig})
		return
	}
	c.changes = append(c.changes, Change{Field: path, Was: was, Is: is, Effect: f.On, Note: f.Note})
}

// compareK0sConfig records the differences of two overlays, whose scalars and lists are given by their paths.
func (c *comparison) compareK0sConfig(was, is map[string]string) {
	paths := maps.Clone(was)
	maps.Copy(paths, is)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		f := findField(c.table.K0sConfig, path)
		f.On = cmp.Or(f.On, Restart)
		if f.On != Refused && !f.Show {
			f.Secret = "true"
		}
		c.compareValue(f, k0sConfigPath+"."+path, was[path], is[path])
	}
}

// findField returns the row for path or for the nearest path above it; the zero Field if there is none.
func findField(rows []Field, path string) (found Field) {
	for _, f := range rows {
		if (path == f.Path || strings.HasPrefix(path, f.Path+".")) && len(f.Path) > len(found.Path) {
			found = f
		}
	}
	return found
}

// shown returns a value as messages show it, without secrets.
func (f Field) shown(value string) string {
	switch {
	case value == "":
		return absent
	case f.Secret == "true":
		return hidden
	case f.Secret == "url":
		value = hideCredentials(value)
	}
	if len(value) > maxValue {
		return strings.ToValidUTF8(value[:maxValue], "") + "…"
	}
	return value
}

// hideCredentials returns the URL of a proxy without user and password.
func hideCredentials(proxy string) string {
	u, err := url.Parse(proxy)
	if err != nil {
		return hidden
	}
	if u.User == nil {
		return u.String()
	}
	u.User = nil
	return strings.Replace(u.String(), "://", "://"+hidden+"@", 1)
}

// valueOf returns the value of a field as text; "" if it is empty.
func valueOf(v reflect.Value) string {
	if v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0 || v.Kind() == reflect.Map && v.Len() == 0 {
		return ""
	}
	if texts, ok := v.Interface().([]string); ok {
		return strings.Join(texts, ", ")
	}
	if v.Kind() == reflect.String {
		return v.String()
	}
	return toJSON(v.Interface())
}

// flatten returns the values of an overlay by their paths: scalars and lists as text. null counts as absent.
func flatten(overlay any) map[string]string {
	all := map[string]string{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, value := range v {
				walk(joinPath(path, key), value)
			}
		case nil:
		case string:
			all[path] = v
		default:
			all[path] = toJSON(v)
		}
	}
	walk("", overlay)
	return all
}

// toJSON returns a value of a manifest as JSON. Manifests hold nothing that JSON cannot.
func toJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

func joinPath(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// jsonKey returns the key of a field in a manifest.
func jsonKey(f reflect.StructField) string {
	key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return key
}
