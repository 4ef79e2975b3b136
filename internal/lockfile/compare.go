package lockfile

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/spec"
)

// Difference is a component that is not what the lock says.
type Difference struct {
	Component string `json:"component"`        // such as "image docker.io/library/nginx:1.22.1"
	Locked    string `json:"locked,omitempty"` // "" if the lock does not have the component
	Found     string `json:"found,omitempty"`  // "" if only the lock has it
}

// String returns the difference on one line.
func (d Difference) String() string {
	return fmt.Sprintf("%s: locked %s, found %s", d.Component, cmp.Or(d.Locked, "nothing"), cmp.Or(d.Found, "nothing"))
}

// Compare returns what is different between a platform of a lock and what was found now, in the order
// of the lock; components that only found has come last. The order within the two does not matter.
func Compare(locked, found Platform) []Difference {
	was, order := locked.components()
	is, added := found.components()
	var all []Difference
	for _, name := range order {
		if was[name] != is[name] && !sameHostFile(locked, found, name) {
			all = append(all, Difference{name, was[name], is[name]})
		}
	}
	for _, name := range added {
		if _, ok := was[name]; !ok {
			all = append(all, Difference{name, "", is[name]})
		}
	}
	return all
}

// hostFilePrefix precedes the name of a host file in that of its component.
const hostFilePrefix = "host file "

// sameHostFile reports whether the component called name is the same host file in both, although they
// describe it differently: one can have the download and the other the program. Their URLs do not count.
func sameHostFile(locked, found Platform, name string) bool {
	name, isFile := strings.CutPrefix(name, hostFilePrefix)
	byName := func(f HostFile) bool { return f.Name == name }
	i, j := slices.IndexFunc(locked.HostFiles, byName), slices.IndexFunc(found.HostFiles, byName)
	if !isFile || i < 0 || j < 0 {
		return false
	}
	a, b := locked.HostFiles[i], found.HostFiles[j]
	switch {
	case a.Version != b.Version, a.Program != "" && b.Program != "" && a.Program != b.Program:
		return false
	case a.Digest == b.Digest:
		return a.Size == b.Size
	case (a.URL == "") == (b.URL == ""):
		return false
	}
	return a.programDigest() != "" && a.programDigest() == b.programDigest()
}

// programDigest returns the digest of the program itself; "" if it is not known.
func (f HostFile) programDigest() string {
	if f.URL == "" {
		return f.Digest
	}
	return f.Program
}

// components returns what identifies the content of each component, by its name, and the names in the
// order of the lock.
func (p Platform) components() (content map[string]string, order []string) {
	content = map[string]string{}
	add := func(name string, parts ...string) {
		content[name] = strings.Join(parts, " ")
		order = append(order, name)
	}
	for _, c := range p.Charts {
		add("chart "+c.Name, c.Version, c.Digest, fmt.Sprint(c.Size, " bytes"), "from "+c.Chart)
	}
	for _, f := range p.HostFiles {
		parts := []string{f.Version, f.Digest, fmt.Sprint(f.Size, " bytes")}
		if f.URL != "" {
			parts = append(parts, "from "+f.URL)
		}
		if f.Program != "" {
			parts = append(parts, "with the program "+f.Program)
		}
		add(hostFilePrefix+f.Name, parts...)
	}
	for _, i := range p.Images {
		add("image "+i.Reference, i.Digest, fmt.Sprint(i.Size, " bytes"))
	}
	return content, order
}

// CheckCurrent returns an error unless f is the lock of Installer in and has the platform. The error
// names what the Installer changed since.
func (f File) CheckCurrent(in *spec.Installer, platform string) error {
	locked, ok := f.Platform(platform)
	if !ok {
		return fmt.Errorf("it has no platform %s, only %s", platform, cmp.Or(strings.Join(f.PlatformNames(), ", "), "none"))
	}
	sum, err := InstallerDigest(in)
	if err != nil || f.Installer == sum {
		return err
	}
	versions := map[string]string{"k0s": in.Spec.K0s.Version}
	if k := in.Spec.Kotsadm; k != nil {
		versions["kots"] = k.Version
	}
	if what := changedChart(locked.Charts, in.Spec.Charts); what != "" {
		return errors.New("it is older than the Installer: " + what)
	}
	for _, file := range locked.HostFiles {
		if want := versions[file.Name]; want != file.Version {
			return fmt.Errorf("it is older than the Installer: %s is locked at %s, the Installer has %s", file.Name, file.Version, cmp.Or(want, "none"))
		}
	}
	return fmt.Errorf("it is older than the Installer: the versions of the add-ons, spec.charts or spec.k0s.config have changed (locked %s, the Installer has %s)", f.Installer, sum)
}

// changedChart returns the first chart that an Installer has in another version, or that it added or removed; "" for
// none.
func changedChart(locked []Chart, now []spec.Chart) string {
	versions := map[string]string{}
	for _, c := range now {
		versions[c.Name] = c.Version
	}
	for _, c := range locked {
		if versions[c.Name] != c.Version {
			return fmt.Sprintf("chart %s is locked at %s, the Installer has %s", c.Name, c.Version, cmp.Or(versions[c.Name], "none"))
		}
		delete(versions, c.Name)
	}
	for _, c := range now {
		if _, added := versions[c.Name]; added {
			return fmt.Sprintf("chart %s is not locked", c.Name)
		}
	}
	return ""
}
