package format

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
)

// kubernetesModule has the versions of the distribution k0s that contains it.
const kubernetesModule = "k8s.io/kubernetes"

// StandIn returns what an item that was built from source was really built from, if that is another version
// than its name says: "github.com/rqlite/rqlite/v8 v8.43.4" for the image rqlite:10.2.7, "k8s.io/kubernetes
// v1.33.13" for k0s v1.33.8+k0s.1. It returns "" for any other item. The cluster uses the name, so content of a
// near version is stored under it.
func (it Item) StandIn() string {
	note := it.Manifest.Annotations
	module, built, ok := cutLast(note[AnnotationModule], "@")
	if !ok {
		return ""
	}
	named, content := it.Version, built
	if it.Kind == KindImage {
		_, named, _ = cutLast(it.Name, ":")
		content = it.Version // a part of a module, such as pause, has a version of its own
	}
	if named == "" || content == "" {
		return ""
	}
	var inside []string
	if release(named) != release(content) {
		inside = append(inside, module+" "+built)
	}
	var parts []struct{ Module, Version string }
	if it.Kind == KindHost && json.Unmarshal([]byte(note[AnnotationModules]), &parts) == nil { // informative only
		for _, p := range parts {
			if p.Module == kubernetesModule && module != kubernetesModule && release(named) != release(p.Version) {
				inside = append(inside, p.Module+" "+p.Version)
			}
		}
	}
	return strings.Join(inside, ", ")
}

// cutLast is strings.Cut around the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// pseudoVersion matches how Go names a commit after a release: v1.33.9-0.20260218131128-cd041608f44a comes after
// v1.33.8. A tag such as v1.33.8+k0s.1 can only be named like this.
var pseudoVersion = regexp.MustCompile(`^v(\d+\.\d+)\.(\d+)-0\.\d{14}-[0-9a-f]{12}$`)

// release returns the numbers of the release of a version: without the v of Go, the epoch and the revision of
// Debian, a build and a pre-release.
func release(version string) string {
	if m := pseudoVersion.FindStringSubmatch(version); m != nil {
		if patch, err := strconv.Atoi(m[2]); err == nil && patch > 0 {
			return m[1] + "." + strconv.Itoa(patch-1)
		}
	}
	if _, after, ok := strings.Cut(version, ":"); ok {
		version = after
	}
	version = strings.TrimPrefix(version, "v")
	if i := strings.IndexAny(version, "-+"); i >= 0 {
		version = version[:i]
	}
	return version
}
