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
	"github.com/plinthdev/plinth/internal/spec/taken"
	"github.com/plinthdev/plinth/internal/testkit"
)

const schemaFile = "../../docs/reference/installer.schema.json"

// patterns are the value checks, as far as a regular expression can carry them: it
// must accept whatever the check accepts.
func patterns() map[string]string {
	const number, pre, label = `(0|[1-9][0-9]*)`, `(-[0-9A-Za-z.-]+)?`, `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`
	const core = number + `\.` + number + `\.` + number + pre
	return map[string]string{
		"version-exact":       core + `(\+[0-9A-Za-z.-]+)?`,
		"version-exact/addon": core + `(\+[0-9A-Za-z.-]+)?`,
		"version-exact/k0s":   "v" + core + `\+k0s\.[0-9]+`,
		"dns-label":           label,
		"hostname":            label + `(\.` + label + `)*`,
		"cidr-form":           `[0-9]+(\.[0-9]+){3}/[0-9]+`,
		"node-port-range":     `[0-9]+-[0-9]+`,
		"proxy-url":           `[Hh][Tt][Tt][Pp][Ss]?://[^/]+/?`,
	}
}

// schema makes the JSON schema from the types, their tags and their comments.
func schema(t *testing.T) *jsonschema.Schema {
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

// annotate adds to s what only our own tags say.
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
			if n, err := strconv.Atoi(value); err == nil && f.Type.Kind() == reflect.Int {
				field.Default = n
			}
		}
		rule := f.Tag.Get("rule")
		switch pattern := patterns()[rule]; {
		case rule == "api-version":
			field.Const = spec.APIVersion
		case rule == "kind":
			field.Const = spec.Kind
		case rule == "ui-port":
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
		if inner.Kind() != reflect.Struct {
			continue
		}
		if field.Description == "" { // a field without a comment is what its type says
			field.Description = comments[inner.PkgPath()+"."+inner.Name()]
		}
		annotate(t, field, inner, comments)
	}
}

func TestSchemaIsFresh(t *testing.T) {
	data, err := json.MarshalIndent(schema(t), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte(`"$schema": "https://json-schema.org/draft/2020-12/schema"`)) {
		t.Error("not draft 2020-12")
	}
	testkit.Golden(t, schemaFile, append(data, '\n'))
}

func TestEveryKeyIsDescribed(t *testing.T) {
	var walk func(path string, s *jsonschema.Schema)
	walk = func(path string, s *jsonschema.Schema) {
		if s.Description == "" {
			t.Errorf("%s has no description", path)
		}
		for p := s.Properties.Oldest(); s.Properties != nil && p != nil; p = p.Next() {
			walk(path+"."+p.Key, p.Value)
		}
	}
	walk("installer", schema(t))
}

// TestSchemaAndLintAgree: what the schema refuses lint refuses too, and the schema
// sees the mistakes that an editor should show while typing.
func TestSchemaAndLintAgree(t *testing.T) {
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
			return nil, false // such as a key that is no text
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
		file := files[len(files)-1] // NAME.app.yaml sorts first
		refused, ok := valid(file.Data)
		in, findings := spec.ParseInstaller(name, file.Data)
		if ok && refused != nil && in != nil {
			t.Errorf("%s: lint accepts it, the schema does not: %v", name, refused)
		}
		if slices.Contains(seen, name) && (refused == nil || !spec.HasErrors(findings)) {
			t.Errorf("%s: the schema should refuse it", name)
		}
	}
	if refused, _ := valid(read(t, "../../installer.yaml").Data); refused != nil {
		t.Errorf("the root example: %v", refused)
	}
}

// TestRulesAreWhatTheTagsName: a rule that only a tag names would never have a severity.
func TestRulesOfTagsAreRegistered(t *testing.T) {
	known := map[string]bool{}
	for _, r := range spec.Rules() {
		if known[r.ID] || !regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`).MatchString(r.ID) || !strings.HasSuffix(r.Summary, ".") {
			t.Errorf("rule %+v: twice, not kebab-case, or no sentence", r)
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
			if f.Type.Kind() == reflect.Pointer {
				walk(f.Type.Elem())
			} else if f.Type.Kind() == reflect.Struct {
				walk(f.Type)
			}
		}
	}
	walk(reflect.TypeFor[spec.Installer]())
}

func TestRuleReferenceIsFresh(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Lint rules

<!-- Made from internal/spec by its tests; refresh with: go test ./internal/spec -update -->

` + "`plinth lint FILE…` checks an Installer, an Application, or both against each other. Every finding names a rule:" + `

    file:line:col: error [rule] field: message (hint)

With an error the exit code is 3. Without one, the KOTS version gate decides between 4 (this add-on cannot carry this
application) and 0. The same rules hold in ` + "`bundle build` and `install`" + `.

| rule | severity | what holds |
|---|---|---|
`)
	for _, r := range spec.Rules() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.ID, r.Severity, r.Summary)
	}
	b.WriteString(`
## Fields of k0s's ClusterConfig that Plinth owns

` + "`spec.k0s.config`" + ` is laid over the ClusterConfig that Plinth generates. It may set anything but these fields and what is below them
(rule ` + "`k0s-config`" + `):

| field | why, or where instead |
|---|---|
`)
	for _, o := range taken.Fields() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", o.Path, o.Why)
	}
	testkit.Golden(t, "../../docs/reference/lint-rules.md", []byte(b.String()))
}
