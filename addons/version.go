package addons

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// isVersion reports whether v is a version of an add-on: three numbers, and nothing behind them.
func isVersion(v string) bool {
	parts := strings.Split(v, ".")
	return len(parts) == 3 && !slices.ContainsFunc(parts, func(p string) bool {
		_, err := strconv.ParseUint(p, 10, 31)
		return err != nil
	})
}

// compareVersions compares two versions number by number. Anything that is not a number counts as 0.
func compareVersions(a, b string) int {
	return slices.Compare(versionNumbers(a), versionNumbers(b))
}

func versionNumbers(v string) (all []int) {
	for _, part := range strings.Split(v, ".") {
		n, _ := strconv.Atoi(part)
		all = append(all, n)
	}
	return all
}

// find returns the entry for a version, with Version set; ok is false if the add-on does not support it.
func (d definition) find(version string) (r addOnVersion, ok bool) {
	exact := isVersion(version)
	for _, entry := range d.Versions {
		switch {
		case entry.Version == version:
			return entry, true
		case entry.From != "" && exact && compareVersions(entry.From, version) <= 0:
			r, ok = addOnVersion{Version: version, Images: entry.Images}, true
		case ok && entry.Version != "" && compareVersions(entry.Version, version) < 0:
			r, ok = addOnVersion{}, false // a single version ends the range before it
		}
	}
	return r, ok
}

// supported returns the versions of the add-on in words: "1.0.0, 2.0.0 and later".
func (d definition) supported() string {
	var all []string
	open := false
	for _, r := range d.Versions {
		if r.Version != "" || !open {
			all = append(all, r.Version+r.From)
		}
		open = r.From != ""
	}
	text := strings.Join(all, ", ")
	if open {
		text += " and later"
	}
	return text
}

// imagesOf returns the image references of version r by role.
func (d definition) imagesOf(r addOnVersion) map[string]string {
	images := map[string]string{}
	maps.Copy(images, d.Images)
	maps.Copy(images, r.Images)
	for role, ref := range images {
		images[role] = expandVersion(ref, r.Version)
	}
	return images
}

// expandVersion returns an image reference with the version inserted.
func expandVersion(ref, version string) string {
	return strings.ReplaceAll(ref, "{version}", version)
}
