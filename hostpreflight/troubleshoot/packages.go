package troubleshoot

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/template"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// packagesKind returns the kind systemPackages. Its collector lists packages by
// operating system; its outcomes are templates, executed once for each package of
// the host's operating system.
func packagesKind() analyzerKind {
	return analyzerKind{title: "System Packages", factName: func(collector) string { return facts.FactPackages }, runEach: runForEachPackage,
		hasSettings: func(c collector) bool { return len(c.packages) > 0 },
		addRequest: func(r *facts.Request, _ hp.Requirements, c collector, _ analyzer) {
			for _, system := range slices.Sorted(maps.Keys(c.packages)) { // the operating system is not known yet
				for _, name := range c.packages[system] {
					appendUnique(&r.Packages, name)
				}
			}
		},
		compileCondition: func(_ collector, _ analyzer, text string) (condition, error) {
			t, err := parsePackageTemplate(text)
			if err == nil {
				_, err = evaluateTemplate(t, packageTemplateData(facts.Facts{}, "example"))
			}
			return func(f facts.Facts, _ hp.Requirements) bool {
				if len(f.Packages) == 0 {
					return false // no package to check
				}
				ok, err := evaluateTemplate(t, packageTemplateData(f, f.Packages[0].Name))
				return err == nil && ok
			}, err
		}}
}

// parsePackageTemplate parses the text of an outcome.
func parsePackageTemplate(text string) (*template.Template, error) {
	return template.New("").Option("missingkey=error").Parse(text)
}

// evaluateTemplate executes t with data and parses its output as a boolean.
func evaluateTemplate(t *template.Template, data map[string]any) (bool, error) {
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return false, err
	}
	return strconv.ParseBool(strings.TrimSpace(b.String()))
}

// packageTemplateData returns the data that templates can use for the package name on
// the host of f.
func packageTemplateData(f facts.Facts, name string) map[string]any {
	major, rest, _ := strings.Cut(f.OS.Version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	number := func(s string) int64 { n, _ := strconv.ParseInt(s, 10, 64); return n } // 0 if it is not a number
	all := map[string]any{"OS": f.OS.ID, "OSVersion": f.OS.Version, "OSVersionMajor": number(major), "OSVersionMinor": number(minor),
		"Name": name, "IsInstalled": false, "Version": "", "Error": "", "ExitCode": "1"}
	for _, p := range f.Packages {
		if p.Name == name && p.Version != "" {
			all["IsInstalled"], all["Version"], all["ExitCode"] = true, p.Version, "0"
		}
	}
	return all
}

// runForEachPackage returns the Run function of a systemPackages check: for each
// package of the host's operating system it takes the first of answers that applies,
// and returns the worst result.
func runForEachPackage(c collector, answers []compiledOutcome) func(facts.Facts, hp.Requirements) hp.Result {
	return func(f facts.Facts, req hp.Requirements) hp.Result {
		major, _, _ := strings.Cut(f.OS.Version, ".")
		wanted := slices.Concat(c.packages[f.OS.ID], c.packages[f.OS.ID+major])
		if len(wanted) == 0 {
			return hp.Skip("vendor", "the vendor lists no packages for "+f.OS.Name)
		}
		var all []hp.Result
		for _, name := range wanted {
			one := f
			one.Packages = []facts.Package{{Name: name}}
			found := name + " is not installed"
			if i := slices.IndexFunc(f.Packages, func(p facts.Package) bool { return p.Name == name }); i >= 0 {
				one.Packages = f.Packages[i : i+1]
				found = name + " " + f.Packages[i].Version
			}
			for _, a := range answers {
				if a.condition == nil || a.condition(one, req) {
					a.verdict.Message = renderMessage(a.verdict.Message, packageTemplateData(one, name))
					all = append(all, a.toResult(found))
					break
				}
			}
		}
		if all == nil {
			return hp.Undetermined("no outcome of the vendor applies to: " + strings.Join(wanted, ", "))
		}
		return hp.WorstResult(all)
	}
}

// renderMessage executes text as a template with data. It returns text unchanged when
// it is not a valid template.
func renderMessage(text string, data map[string]any) string {
	t, err := parsePackageTemplate(text)
	if err != nil {
		return text
	}
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return text
	}
	return b.String()
}

// parsePackageLists returns the packages by operating system from a collector's
// settings m.
func parsePackageLists(m map[string]any) (map[string][]string, error) {
	all := map[string][]string{}
	for key, v := range m {
		if key == "collectorName" || key == "exclude" {
			continue
		}
		names, ok := v.([]any)
		if !ok {
			return nil, fmt.Errorf("%s: must be a list of packages", key)
		}
		for _, n := range names {
			name, ok := n.(string)
			if !ok || name == "" || strings.HasPrefix(name, "-") {
				return nil, fmt.Errorf("%s: %v is not the name of a package", key, n)
			}
			all[key] = append(all[key], name)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("must list at least one package")
	}
	return all, nil
}
