package addons

import (
	"fmt"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/problem"
)

// Info describes an add-on that this build knows. Its JSON format is public.
type Info struct {
	Name      string   `json:"name"`
	Key       string   `json:"key"` // below spec of an Installer
	Title     string   `json:"title"`
	License   string   `json:"license,omitempty"` // of the project, as an SPDX expression
	Supported string   `json:"supported"`         // its versions, in words
	Version   string   `json:"version,omitempty"` // to which Images belong; "" for any of a range
	Images    []string `json:"images,omitempty"`  // full references, sorted; VERSION stands for that of a range
	Note      string   `json:"note,omitempty"`    // what else a user has to know
}

// metricsServer describes the component of k0s that an Installer can turn off. It is no add-on: k0s installs it.
func metricsServer() Info {
	return Info{Name: "metrics-server", Key: "metricsServer", Title: "metrics-server of k0s", License: "Apache-2.0", Supported: "that of k0s",
		Note: "It is a part of k0s, and runs without this key, too. spec.metricsServer.disabled: true turns it off, for example because a chart of spec.charts replaces it."}
}

// Catalog returns every add-on that this build knows, and metrics-server of k0s, without images.
func Catalog() ([]Info, error) {
	all, err := loadDefinitions(definitionFiles)
	if err != nil {
		return nil, fmt.Errorf("cannot read the built-in add-ons: %w", err)
	}
	var infos []Info
	for _, d := range all {
		infos = append(infos, Info{Name: d.Name, Key: d.Key, Title: d.Title, License: d.License, Supported: d.supported()})
	}
	at, _ := slices.BinarySearchFunc(infos, metricsServer(), func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return slices.Insert(infos, at, metricsServer()), nil
}

// Describe returns the add-on with a name, a key or a title, with the images of a version; for "" those of the newest. An
// unknown add-on is a Problem with exit code 2, an unsupported version one with exit code 3.
func Describe(name, version string) (Info, error) {
	all, err := loadDefinitions(definitionFiles)
	if err != nil {
		return Info{}, fmt.Errorf("cannot read the built-in add-ons: %w", err)
	}
	var names []string
	for _, d := range all {
		names = append(names, d.Name)
	}
	names = append(names, metricsServer().Name)
	if m := metricsServer(); name == m.Name || name == m.Key {
		if version != "" {
			return Info{}, problem.Newf(problem.ExitConfig, "show add-on "+name, "omit the version", "its version is that of k0s")
		}
		return m, nil
	}
	i := slices.IndexFunc(all, func(d definition) bool { return d.Name == name || d.Key == name || strings.EqualFold(d.Title, name) })
	if i < 0 {
		return Info{}, problem.Newf(problem.ExitUsage, "show add-on "+name, "known add-ons: "+strings.Join(names, ", "), "this build of plinth has no such add-on")
	}
	d := all[i]
	entry := d.Versions[len(d.Versions)-1]
	if version != "" {
		found, ok := d.find(version)
		if !ok {
			return Info{}, problem.Newf(problem.ExitConfig, "show add-on "+name, "supported: "+d.supported(), "version %q is not supported", version)
		}
		entry = found
	}
	info := Info{Name: d.Name, Key: d.Key, Title: d.Title, License: d.License, Supported: d.supported(), Version: entry.Version}
	shown := entry
	if shown.Version == "" {
		shown.Version = "VERSION"
	}
	info.Images = AddOn{Images: d.imagesOf(shown)}.ImageRefs()
	return info, nil
}
