package addons

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/spec"
)

// definition is the content of an addon.yaml.
type definition struct {
	Name        string            `yaml:"name"`        // name of its folder
	Key         string            `yaml:"key"`         // key in the Installer's spec
	Title       string            `yaml:"title"`       // display name
	License     string            `yaml:"license"`     // of the project, as an SPDX expression
	Deploy      string            `yaml:"deploy"`      // DeployChart or DeployKOTS
	Namespace   string            `yaml:"namespace"`   // template over templateData
	Release     string            `yaml:"release"`     // name of the Helm release; defaults to Name
	PodSecurity PodSecurity       `yaml:"podSecurity"` // of Namespace
	After       []string          `yaml:"after"`       // names of the add-ons to install before this one
	Images      map[string]string `yaml:"images"`      // of every version, like addOnVersion.Images
	Versions    []addOnVersion    `yaml:"versions"`    // the supported versions
	Values      string            `yaml:"values"`      // template over templateData of the chart's values, YAML

	chart fs.FS
}

// addOnVersion is one supported version of an add-on, or a range of them.
type addOnVersion struct {
	Version string            `yaml:"version"` // the only version; empty for a range
	From    string            `yaml:"from"`    // the first version of a range, which ends at the next entry
	Images  map[string]string `yaml:"images"`  // full references by role, with tag or digest and {version} for the version; "" if only the component itself knows it
}

// templateData is the data that the templates of a definition can use.
type templateData struct {
	Spec    spec.Spec
	Images  map[string]string
	DataDir string
}

// imageRefPattern matches an image reference with a registry and an exact tag or
// a digest.
const imageRefPattern = `^[a-z0-9.-]+\.[a-z]+(:[0-9]+)?/[a-z0-9._/-]+(:[A-Za-z0-9][A-Za-z0-9._-]*|@sha256:[0-9a-f]{64})$`

// parseDefinition returns the definition in an addon.yaml. Unknown keys are
// errors; all invalid fields are reported at once.
func parseDefinition(b []byte) (definition, error) {
	var d definition
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&d); err != nil {
		return d, err
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return d, errors.New("more than one document")
	}
	if d.Release == "" {
		d.Release = d.Name
	}
	return d, d.checkFields()
}

// checkFields reports all invalid fields of a definition in one error.
func (d definition) checkFields() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if d.Name == "" || d.Key == "" || d.Title == "" || d.Namespace == "" {
		bad("name, key, title and namespace must be set")
	}
	if d.Deploy != DeployChart && d.Deploy != DeployKOTS {
		bad("deploy: %q is neither %s nor %s", d.Deploy, DeployChart, DeployKOTS)
	}
	if err := d.PodSecurity.check(); err != nil {
		bad("podSecurity: %w", err)
	}
	if len(d.Versions) == 0 {
		bad("versions: must not be empty")
	}
	reference := regexp.MustCompile(imageRefPattern)
	checkImages := func(where string, images map[string]string) {
		for role, image := range images {
			if image != "" && !reference.MatchString(expandVersion(image, "1")) {
				bad("%simages.%s: %q is not a full image reference", where, role, image)
			}
		}
	}
	checkImages("", d.Images)
	previous := ""
	for i, r := range d.Versions {
		first := cmp.Or(r.Version, r.From)
		if !isVersion(first) || r.Version != "" && r.From != "" {
			bad("versions[%d]: exactly one of version and from must be set", i)
		} else if i > 0 && compareVersions(previous, first) >= 0 {
			bad("versions[%d]: %s is not higher than %s, the version before it", i, first, previous)
		}
		checkImages(fmt.Sprintf("versions[%d].", i), r.Images)
		previous = first
	}
	return errors.Join(errs...)
}

// resolveVersion returns the definition as an AddOn of version r, with the
// templates executed and the chart packaged.
func (d definition) resolveVersion(in *spec.Installer, dataDir string, r addOnVersion) (AddOn, error) {
	images := d.imagesOf(r)
	data := templateData{Spec: in.Spec, Images: images, DataDir: dataDir}
	namespace, err := renderTemplate(d.Namespace, data)
	if err != nil {
		return AddOn{}, fmt.Errorf("namespace: %w", err)
	}
	text, err := renderTemplate(d.Values, data)
	if err != nil {
		return AddOn{}, fmt.Errorf("values: %w", err)
	}
	values := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &values); err != nil {
		return AddOn{}, fmt.Errorf("values: %w", err)
	}
	chart, err := packChart(d.chart)
	if err != nil {
		return AddOn{}, fmt.Errorf("chart: %w", err)
	}
	return AddOn{
		Name: d.Name, Title: d.Title, Version: r.Version, Deploy: d.Deploy,
		Namespace: namespace, PodSecurity: d.PodSecurity, Images: images, Release: d.Release, Chart: chart, Values: values,
		ClusterDomain: in.Spec.K0s.ClusterDomain(),
	}, nil
}

// renderTemplate returns text executed as a template over data.
func renderTemplate(text string, data templateData) (string, error) {
	t, err := template.New("").Option("missingkey=error").Funcs(template.FuncMap{
		"json":  toJSON,
		"join":  strings.Join,
		"nthIP": nthIP,
	}).Parse(text)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	err = t.Execute(&out, data)
	return out.String(), err
}

func toJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// nthIP returns the nth address of a CIDR range; n = 0 is the network address.
func nthIP(cidr string, n int) (string, error) {
	p, err := netip.ParsePrefix(cidr)
	if err != nil {
		return "", err
	}
	addr := p.Masked().Addr()
	for range n {
		addr = addr.Next()
	}
	if !p.Contains(addr) {
		return "", fmt.Errorf("%s has no address number %d", cidr, n)
	}
	return addr.String(), nil
}

// checkDependencies returns an error if an add-on comes after an unknown add-on
// or, directly or indirectly, after itself.
func checkDependencies(all []definition) error {
	after := map[string][]string{}
	for _, d := range all {
		after[d.Name] = d.After
	}
	var visit func(name string, above []string) error
	visit = func(name string, above []string) error {
		if slices.Contains(above, name) {
			return fmt.Errorf("%s: cyclic dependency in after", strings.Join(append(above, name), " → "))
		}
		for _, before := range after[name] {
			if _, known := after[before]; !known {
				return fmt.Errorf("%s: after: no add-on is named %q", name, before)
			}
			if err := visit(before, append(above, name)); err != nil {
				return err
			}
		}
		return nil
	}
	for _, d := range all {
		if err := visit(d.Name, nil); err != nil {
			return err
		}
	}
	return nil
}
