package spec

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxDiffValue is the length of the longest value that Diff shows.
const maxDiffValue = 60

// Diff returns a text for each field that differs between two Installers, by its path:
// "spec.kotsadm.uiBindPort was 8800 and is now 8801". Fields that can hold a secret, and long values, are
// named without the values.
func Diff(was, is *Installer) ([]string, error) {
	old, err := flatten(was)
	if err != nil {
		return nil, err
	}
	now, err := flatten(is)
	if err != nil {
		return nil, err
	}
	paths := map[string]bool{}
	for _, fields := range []map[string]string{old, now} {
		for p := range fields {
			paths[p] = true
		}
	}
	var all []string
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		a, had := old[p]
		b, has := now[p]
		switch {
		case a == b && had == has:
		case !had:
			all = append(all, p+" is new")
		case !has:
			all = append(all, p+" is missing")
		case mayBeSecret(p) || len(a) > maxDiffValue || len(b) > maxDiffValue:
			all = append(all, p+" differs")
		default:
			all = append(all, fmt.Sprintf("%s was %s and is now %s", p, a, b))
		}
	}
	return all, nil
}

// mayBeSecret reports whether the field at path can hold a secret: credentials of a proxy, and what
// only k0s, a vendor's check or a chart reads.
func mayBeSecret(path string) bool {
	return slices.ContainsFunc([]string{"spec.proxy.", "spec.k0s.config.", "spec.hostPreflights.", "spec.charts["}, func(p string) bool { return strings.HasPrefix(path, p) })
}

// flatten returns the scalar values of an Installer as JSON, by their paths.
func flatten(in *Installer) (map[string]string, error) {
	data, err := in.Marshal()
	if err != nil {
		return nil, err
	}
	var root any
	if err := json.Unmarshal(data, &root); err != nil {
		return nil, err
	}
	all := map[string]string{}
	return all, flattenInto(all, "", root)
}

// flattenInto adds the scalar values in v, whose path is at, to all.
func flattenInto(all map[string]string, at string, v any) error {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			path := key
			if at != "" {
				path = at + "." + key
			}
			if err := flattenInto(all, path, value); err != nil {
				return err
			}
		}
	case []any:
		for i, value := range v {
			if err := flattenInto(all, fmt.Sprintf("%s[%d]", at, i), value); err != nil {
				return err
			}
		}
	default:
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		all[at] = string(text)
	}
	return nil
}
