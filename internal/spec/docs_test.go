package spec_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/testkit"
)

const schemaFile = "../../docs/reference/installer.schema.json"

// rulePatterns returns regular expressions for the rules of values. Each must accept
// every value that the rule accepts.
func rulePatterns() map[string]string {
	const number, pre, label = `(0|[1-9][0-9]*)`, `(-[0-9A-Za-z.-]+)?`, `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`
	const core = number + `\.` + number + `\.` + number + pre
	return map[string]string{
		"version-exact":        core + `(\+[0-9A-Za-z.-]+)?`,
		"version-exact/addon":  core + `(\+[0-9A-Za-z.-]+)?`,
		"version-exact/k0s":    "v" + core + `\+k0s\.[0-9]+`,
		"dns-label":            label,
		"hostname":             label + `(\.` + label + `)*`,
		"cidr-form":            `[0-9]+(\.[0-9]+){3}/[0-9]+`,
		"node-port-range":      `[0-9]+-[0-9]+`,
		"host-folder":          `/[^/].*`,
		"backup-schedule":      `hourly|daily|weekly|((Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?([01][0-9]|2[0-3]):[0-5][0-9]`,
		"backup-target":        `(s3:/)?/[^/].*`,
		"ingress-address":      `[0-9]+(\.[0-9]+){3}`,
		"prometheus-retention": `[1-9][0-9]{0,4}[hd]|[1-9][0-9]{0,3}w|[1-9][0-9]?y`,
		"prometheus-size":      `[1-9][0-9]{0,4}(MB|GB|TB)`,
		"proxy-url":            `[Hh][Tt][Tt][Pp][Ss]?://[^/]+/?`,
		"version-exact/chart":  "v?" + core + `(\+[0-9A-Za-z.-]+)?`,
		"chart-name":           `[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?`,
		"chart-timeout":        `[0-9a-zµ.]+`,
	}
}

// newSchema returns the JSON schema of the types, their tags and their comments.
func newSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	r := jsonschema.Reflector{DoNotReference: true, ExpandedStruct: true, RequiredFromJSONSchemaTags: true}
	if err := r.AddGoComments("github.com/plinthdev/plinth/internal/spec", ".", jsonschema.WithFullComment()); err != nil {
		t.Fatal(err)
	}
	for name, comment := range r.CommentMap {
		r.CommentMap[name] = strings.ReplaceAll(comment, "\n", " ")
	}
	s := r.Reflect(&spec.Installer{})
	s.ID = ""
	s.Title = "Installer of Plinth, " + spec.APIVersion
	annotate(t, s, reflect.TypeFor[spec.Installer](), r.CommentMap)
	return s
}

// annotate adds the information of our own field tags to s.
func annotate(t *testing.T, s *jsonschema.Schema, typ reflect.Type, comments map[string]string) {
	t.Helper()
	for i := range typ.NumField() {
		f := typ.Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		field, ok := s.Properties.Get(key)
		if !ok {
			t.Fatalf("%s.%s is not in the schema", typ, f.Name)
		}
		required := f.Tag.Get("required") != ""
		if required {
			s.Required = append(s.Required, key)
		}
		if value := f.Tag.Get("default"); value != "" {
			field.Default = value
			if f.Type.Kind() == reflect.Bool {
				field.Default = value == "true"
			}
			if n, err := strconv.Atoi(value); err == nil && f.Type.Kind() == reflect.Int {
				field.Default = n
			}
		}
		rule := f.Tag.Get("rule")
		switch pattern := rulePatterns()[rule]; {
		case rule == "api-version":
			field.Const = spec.APIVersion
		case rule == "kind":
			field.Const = spec.Kind
		case rule == "object-store-mode":
			field.Enum = []any{"", "builtin", spec.ObjectStoreNone} // empty counts as absent
		case rule == "ingress-expose":
			field.Enum = []any{"", spec.ExposeLoadBalancer, spec.ExposeHostPorts}
		case rule == "backup-keep":
			field.Minimum, field.Maximum = "1", "10000"
		case rule == "ui-port" || rule == "ingress-port":
			field.Minimum, field.Maximum = "1", "65535"
		case pattern != "" && required:
			field.Pattern = "^" + pattern + "$"
		case pattern != "":
			field.Pattern = "^(" + pattern + ")?$" // empty counts as absent
		}
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Slice && inner.Elem().Kind() == reflect.Struct {
			annotate(t, field.Items, inner.Elem(), comments)
		}
		if inner.Kind() != reflect.Struct {
			continue
		}
		if field.Description == "" { // a field without a comment has the comment of its type
			field.Description = comments[inner.PkgPath()+"."+inner.Name()]
		}
		annotate(t, field, inner, comments)
	}
}

func TestSchema_IsUpToDate(t *testing.T) {
	data, err := json.MarshalIndent(newSchema(t), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte(`"$schema": "https://json-schema.org/draft/2020-12/schema"`)) {
		t.Error("not draft 2020-12")
	}
	testkit.Golden(t, schemaFile, append(data, '\n'))
}

func TestSchema_DescribesEveryKey(t *testing.T) {
	var walk func(path string, s *jsonschema.Schema)
	walk = func(path string, s *jsonschema.Schema) {
		if s.Description == "" {
			t.Errorf("%s has no description", path)
		}
		for p := s.Properties.Oldest(); s.Properties != nil && p != nil; p = p.Next() {
			walk(path+"."+p.Key, p.Value)
		}
		if s.Items != nil && s.Items.Properties != nil {
			for p := s.Items.Properties.Oldest(); p != nil; p = p.Next() {
				walk(path+"[]."+p.Key, p.Value)
			}
		}
	}
	walk("installer", newSchema(t))
}

// Lint rejects everything that the schema rejects, and the schema rejects the
// mistakes that an editor should show while typing.
func TestSchema_AgreesWithLint(t *testing.T) {
	compiled, err := validator.NewCompiler().Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	valid := func(data []byte) (error, bool) {
		var value any
		if yaml.Unmarshal(data, &value) != nil || value == nil {
			return nil, false
		}
		text, err := json.Marshal(value)
		if err != nil {
			return nil, false // for example a key that is not text
		}
		parsed, err := validator.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return compiled.Validate(parsed), true
	}
	seen := []string{"unknown-keys", "versions", "versions-k0s-without-v", "types", "types-top", "required", "required-nothing", "kind", "labels", "networks-no-cidr"}
	for name, files := range examples(t) {
		if strings.HasPrefix(name, "app-") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			file := files[len(files)-1] // NAME.app.yaml sorts first
			rejected, ok := valid(file.Data)
			in, findings := spec.ParseInstaller(name, file.Data)
			if ok && rejected != nil && in != nil {
				t.Errorf("lint accepts it, the schema does not: %v", rejected)
			}
			if slices.Contains(seen, name) && (rejected == nil || !spec.HasErrors(findings)) {
				t.Errorf("the schema accepts it")
			}
		})
	}
	if rejected, _ := valid(readFile(t, "../../installer.yaml").Data); rejected != nil {
		t.Errorf("installer.yaml: %v", rejected)
	}
}

// A rule that is only in a field tag would have no severity.
func TestRules_ContainRulesOfFieldTags(t *testing.T) {
	known := map[string]bool{}
	for _, r := range spec.Rules() {
		if known[r.ID] || !regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`).MatchString(r.ID) || !strings.HasSuffix(r.Summary, ".") {
			t.Errorf("rule %+v: duplicate, not kebab-case, or not a sentence", r)
		}
		known[r.ID] = true
	}
	var walk func(typ reflect.Type)
	walk = func(typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			if id, _, _ := strings.Cut(f.Tag.Get("rule"), "/"); id != "" && !known[id] {
				t.Errorf("%s.%s: rule %s is not in Rules", typ, f.Name, id)
			}
			if f.Type.Kind() == reflect.Pointer || f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct {
				walk(f.Type.Elem())
			} else if f.Type.Kind() == reflect.Struct {
				walk(f.Type)
			}
		}
	}
	walk(reflect.TypeFor[spec.Installer]())
}

func TestRuleReference_IsUpToDate(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Lint rules

<!-- Generated by the tests of internal/spec; refresh with: go test ./internal/spec -update -->

` + "`plinth lint FILE…|DIR` checks an Installer, an Application, or both against each other. Every finding names a rule:" + `

    file:line:col: error [rule] field: message (hint)

With an error the exit code is 3. Without one, it is 4 if the KOTS version gate fails (this add-on is not compatible
with this application), else 0. ` + "`bundle build` and `install`" + ` check the same rules.

| rule | severity | requirement |
|---|---|---|
`)
	for _, r := range spec.Rules() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.ID, r.Severity, r.Summary)
	}
	testkit.Golden(t, "../../docs/reference/lint-rules.md", []byte(b.String()))
}

func TestK0sConfigReference_IsUpToDate(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Fields of k0s's ClusterConfig

<!-- Generated by the tests of internal/spec; refresh with: go test ./internal/spec -update -->

` + "`spec.k0s.config`" + ` of an Installer is merged over the ClusterConfig that Plinth generates: maps are merged, everything
else replaces what Plinth generates, and null counts as absent. What happens to each field:

| treatment | meaning |
|---|---|
| owned | an error of rule ` + "`k0s-config`" + `: only Plinth sets the field and everything below it |
| merged | Plinth sets a value, too; yours is added to it or replaces it |
| passed | given to k0s |
| warned | given to k0s, with a warning of rule ` + "`k0s-config-effect`" + ` |

` + "`[]`" + ` stands for any entry of a list, ` + "`*`" + ` for any rest of the name of a flag. A key that is not in this table is an error,
except below ` + "`extraArgs`" + ` and below the ` + "`values`" + ` of a worker profile, which k0s gives to its programs.

| field | treatment | why, or what to set instead |
|---|---|---|
`)
	for _, f := range slices.SortedStableFunc(slices.Values(spec.K0sFields()), func(a, b spec.K0sField) int { return strings.Compare(a.Path, b.Path) }) {
		path := "`" + f.Path + "`"
		if f.Value != "" {
			path += " with `" + f.Value + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", path, f.Treatment, f.Reason)
	}
	testkit.Golden(t, "../../docs/reference/k0s-config.md", []byte(b.String()))
}
