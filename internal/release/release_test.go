package release

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/testkit"
)

const (
	head      = "apiVersion: kots.io/v1beta1\nkind: Application\nmetadata: {name: my-app}\nspec:\n"
	app       = head + "  title: Toy\n"
	old       = app + "  targetKotsVersion: 1.130.0\n"
	configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"
)

// What KOTS does with a file that has no Application, or one that it cannot decode.
const (
	ignores = "ignores it"
	refuses = "refuses it"
)

// The verdicts are those of findAppInRelease and FindKotsAppInPath of KOTS 1.131.2, run
// on these files.
func TestApplications_AreReadAsByKOTS(t *testing.T) {
	with := func(old, new string) string {
		return strings.Replace(app+"  targetKotsVersion: 1.130.0\n", old, new, 1)
	}
	const bound = "Toy, min , target 1.130.0"
	for name, c := range map[string]struct{ file, want string }{
		"alone":                        {old, bound},
		"after --- and a comment":      {configMap + "--- # the app\n" + old, bound},
		"after --- and a tab":          {configMap + "---\t\n" + old, bound},
		"after ---#":                   {configMap + "---# the app\n" + old, bound},
		"after --- with CRLF":          {strings.ReplaceAll(configMap+"---  \n"+old, "\n", "\r\n"), bound},
		"after --- and text":           {configMap + "--- {apiVersion: kots.io/v1beta1, kind: Application}\n", ignores},
		"after --- and a tag":          {configMap + "--- !!map\n" + old, ignores},
		"after ...":                    {configMap + "...\n" + old, ignores},
		"after ... and ---":            {configMap + "...\n---\n" + old, bound},
		"line breaks of CR":            {strings.ReplaceAll(configMap+"---\n"+old, "\n", "\r"), ignores},
		"after a first ---":            {"---\n" + old, bound},
		"after two --- at the start":   {"---\n---\n" + old, bound},
		"after a comment and ---":      {"# x\n---\n" + old, bound},
		"with a byte order mark":       {"\ufeff" + old, bound},
		"a mark in the second":         {configMap + "---\n\ufeff" + old, bound},
		"--- at the end":               {old + "---", bound},
		"after a directive":            {"%YAML 1.1\n---\n" + old, bound},
		"before what is not YAML":      {old + "---\na: [\n", bound},
		"after a template":             {"{{ if x }}\nkind: X\n---\n" + old, bound},
		"two in a file":                {app + "---\n" + old, "Toy, min , target ; " + bound},
		"--- that is indented":         {configMap + " ---\n" + old, ignores},
		"after ----":                   {configMap + "----\n" + old, ignores},
		"in a text":                    {configMap + "data:\n  x: |\n    " + strings.ReplaceAll(old, "\n", "\n    ") + "\n", ignores},
		"before --- and text":          {old + "--- text\nx\n", bound},
		"JSON":                         {`{"apiVersion":"kots.io/v1beta1","kind":"Application","spec":{"title":"Toy","targetKotsVersion":"1.130.0"}}`, bound},
		"JSON with an escaped slash":   {`{"apiVersion":"kots.io\/v1beta1","kind":"Application","spec":{"title":"Toy","targetKotsVersion":"1.130.0"}}`, bound},
		"apiVersion on two lines":      {with("kots.io/v1beta1", ">-\n  kots.io/v1beta1"), bound},
		"apiVersion with an anchor":    {with("kots.io/v1beta1", "&v kots.io/v1beta1"), bound},
		"apiVersion with a tag":        {with("kots.io/v1beta1", "!!str kots.io/v1beta1"), bound},
		"title 123":                    {with("Toy", "123"), refuses},
		"title yes":                    {with("Toy", "yes"), refuses},
		"title on":                     {with("Toy", "on"), refuses},
		"title y":                      {with("Toy", "y"), refuses},
		"title 0x10":                   {with("Toy", "0x10"), refuses},
		"title 1_000":                  {with("Toy", "1_000"), refuses},
		"title 0o17":                   {with("Toy", "0o17"), refuses},
		"title 017":                    {with("Toy", "017"), refuses},
		"title .inf":                   {with("Toy", ".inf"), refuses},
		"title null":                   {with("Toy", ""), ", min , target 1.130.0"},
		"title with a date":            {with("Toy", "2026-01-02"), "2026-01-02, min , target 1.130.0"},
		"title 1:30":                   {with("Toy", "1:30"), "1:30, min , target 1.130.0"},
		"title in base64":              {with("Toy", "!!binary VG95"), bound},
		"title with its own tag":       {with("Toy", "!x Toy"), bound},
		"title with the tag str":       {with("Toy", "!!str 123"), "123, min , target 1.130.0"},
		"name 123":                     {with("my-app", "123"), refuses},
		"target 1.130, a number":       {app + "  targetKotsVersion: 1.130\n", refuses},
		"target null":                  {app + "  targetKotsVersion:\n", "Toy, min , target "},
		"target in a list":             {app + "  targetKotsVersion: [1.130.0]\n", refuses},
		"target with a comment":        {app + "  targetKotsVersion: v1.130.0 # note\n", "Toy, min , target v1.130.0"},
		"target in other case":         {app + "  targetkotsversion: 1.130.0\n", "Toy, min , target "},
		"target in quoted template":    {app + "  targetKotsVersion: '{{repl x }}'\n", "Toy, min , target {{repl x }}"},
		"target with repl{{":           {app + "  targetKotsVersion: repl{{ x }}\n", "Toy, min , target repl{{ x }}"},
		"target in a template":         {app + "  targetKotsVersion: {{repl x }}\n", refuses},
		"a template on its line":       {with("spec:\n", "spec:\n  {{repl if true }}\n"), ignores},
		"a template in a comment":      {with("spec:\n", "spec:\n  # {{repl if true }}\n"), bound},
		"target twice":                 {app + "  targetKotsVersion: 1.200.0\n  targetKotsVersion: 1.130.0\n", bound},
		"spec twice":                   {old + "spec: {title: Later}\n", "Later, min , target "},
		"kind twice, of another":       {old + "kind: Config\n", ignores},
		"kind twice, of Application":   {"kind: Config\n" + old, bound},
		"an alias":                     {app + "  minKotsVersion: &v 1.100.0\n  targetKotsVersion: *v\n", "Toy, min 1.100.0, target 1.100.0"},
		"a merge key before the value": {app + "  <<: {targetKotsVersion: 1.130.0}\n  targetKotsVersion: 1.200.0\n", "Toy, min , target 1.200.0"},
		"a merge key after the value":  {app + "  targetKotsVersion: 1.200.0\n  <<: {targetKotsVersion: 1.130.0}\n", bound},
		"a merge key with a list":      {app + "  <<: [{targetKotsVersion: 1.130.0}, {targetKotsVersion: 1.200.0}]\n", bound},
		"a merge key at the top":       {"x: &x {apiVersion: kots.io/v1beta1, kind: Application}\n<<: *x\nspec: {targetKotsVersion: 1.130.0}\n", ", min , target 1.130.0"},
		"spec is an alias":             {"x: &x {title: Toy, targetKotsVersion: 1.130.0}\napiVersion: kots.io/v1beta1\nkind: Application\nspec: *x\n", bound},
		"an unknown key":               {old + "  foo: {1: 2}\n", bound},
		"informers in text":            {old + "  statusInformers: deployment/x\n", refuses},
		"informers with a number":      {old + "  statusInformers: [1]\n", refuses},
		"informers with null":          {old + "  statusInformers: [~]\n", bound},
		"rollback in text":             {old + "  allowRollback: 'true'\n", refuses},
		"rollback yes":                 {old + "  allowRollback: yes\n", bound},
		"graphs in a mapping":          {old + "  graphs: {}\n", refuses},
		"branding in a list":           {old + "  branding: []\n", refuses},
		"no metadata":                  {with("metadata: {name: my-app}\n", ""), bound},
		"spec in a list":               {"apiVersion: kots.io/v1beta1\nkind: Application\nspec: []\n", refuses},
		"spec null":                    {head, ", min , target "},
		"kind in other case":           {with("Application", "application"), ignores},
		"kind with a space":            {with("kind: Application", `kind: "Application "`), ignores},
		"v1beta2":                      {with("v1beta1", "v1beta2"), ignores},
		"in a List":                    {"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: kots.io/v1beta1, kind: Application}\n", ignores},
		"indented with a tab":          {app + "\ttargetKotsVersion: 1.130.0\n", ignores},
		"a tab after the value":        {app + "  targetKotsVersion: 1.130.0\t\n", bound},
		"a control character":          {old + "  x: \a\n", ignores},
		"60 levels":                    {old + "  x: " + strings.Repeat("[", 60) + strings.Repeat("]", 60) + "\n", bound},
	} {
		t.Run(name, func(t *testing.T) {
			if got := describe([]byte(c.file)); got != c.want {
				t.Errorf("%s\nKOTS: %s", got, c.want)
			}
		})
	}
}

// describe returns the values of the Applications in a file.
func describe(file []byte) string {
	var all []string
	for _, doc := range Split(file) {
		if !IsApplication(doc.Text) {
			continue
		}
		app, err := DecodeApplication(doc.Text)
		if err != nil || len(app.WrongTypes) > 0 {
			all = append(all, refuses)
			continue
		}
		all = append(all, fmt.Sprintf("%s, min %s, target %s", app.Title, app.MinKotsVersion, app.TargetKotsVersion))
	}
	if len(all) == 0 {
		return ignores
	}
	return strings.Join(all, "; ")
}

func TestComparePaths_IsTheOrderOfAWalk(t *testing.T) {
	paths := []string{"a-b/app.yaml", "a.yaml", "a/app.yaml", "a/b/app.yaml", "B.yaml", "a"}
	slices.SortFunc(paths, ComparePaths)
	if got, want := strings.Join(paths, " "), "B.yaml a a/app.yaml a/b/app.yaml a-b/app.yaml a.yaml"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestSameContent_IgnoresFormAndBoundsMemory(t *testing.T) {
	bomb := []byte("apiVersion: kots.io/v1beta1\nkind: Application\na: &a " + strings.Repeat("x", 1<<17) + "\nb: [" + strings.Repeat("*a,", 1<<14) + "]\n")
	for name, c := range map[string]struct {
		a, b []byte
		want bool
	}{
		"form":                {[]byte(old), []byte("# x\n" + strings.ReplaceAll(old, "Toy", "'Toy'")), true},
		"values":              {[]byte(old), []byte(app), false},
		"another document":    {[]byte(old), []byte(configMap + "---\n" + old), true},
		"another Application": {[]byte(old), []byte(old + "---\n" + app), false},
		"no YAML":             {[]byte("a: ["), []byte(app), false},
		"aliases":             {bomb, append(bytes.Clone(bomb), '#'), true},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.CheckBounds(t, func() {
				if got := SameContent(c.a, c.b); got != c.want {
					t.Errorf("got %v", got)
				}
			})
		})
	}
}

// normalize returns data with the line ends and separators as KOTS writes them before it splits a file.
func normalize(data []byte) []byte {
	return regexp.MustCompile(`(?m)^---[ \t]*(#.*)?$`).ReplaceAll(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")), []byte("---"))
}

// splitByRule returns the documents of data by the rule of KOTS in its shortest form.
func splitByRule(data []byte) [][]byte {
	data = normalize(data)
	return slices.DeleteFunc(bytes.Split(data, []byte("\n---\n")), func(doc []byte) bool { return len(bytes.TrimSpace(doc)) == 0 })
}

func FuzzSplit(f *testing.F) {
	for _, text := range []string{"", "a", "---", "---\n---\n---\na\n---\n---\n", "a\r\n--- # x\r\nb\n---\r", "a\n---#\n--- \t#\n---x\n---\n\nb", "a\n---\n \n---\nb\n...\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, want := Split(data), splitByRule(data)
		if len(docs) != len(want) {
			t.Fatalf("%q: %d documents, KOTS finds %d", data, len(docs), len(want))
		}
		for i, d := range docs {
			// The line break before a separator belongs to the separator in KOTS.
			got := bytes.TrimRight(normalize(d.Text), "\n")
			if !bytes.Equal(got, bytes.TrimRight(want[i], "\n")) {
				t.Errorf("document %d of %q is %q, for KOTS %q", i, data, d.Text, want[i])
			}
			lines := bytes.SplitAfter(data, []byte("\n"))
			if d.Line >= len(lines) || !bytes.HasPrefix(bytes.Join(lines[d.Line:], nil), d.Text) {
				t.Errorf("document %d of %q is not at line %d", i, data, d.Line)
			}
		}
		again := Split(Join(docs))
		if len(docs) > 0 && !bytes.HasSuffix(bytes.TrimRight(data, " \t\r\n"), []byte("---")) && len(again) != len(docs) {
			t.Errorf("%q has %d documents, joined %d", data, len(docs), len(again))
		}
	})
}

func FuzzDecodeApplication(f *testing.F) {
	f.Add([]byte(old))
	f.Add([]byte(app + "  <<: [{title: 1}, &a {graphs: *a}]\n  icon: !!binary x\n"))
	f.Add([]byte(`{"apiVersion":"kots.io\/v1beta1","kind":"Application","spec":{"title":1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > testkit.MaxInput {
			t.Skip()
		}
		testkit.CheckBounds(t, func() {
			found := IsApplication(data)
			app, err := DecodeApplication(data)
			if err != nil && app.Title != "" {
				t.Errorf("%+v with %v", app, err)
			}
			if found && !bytes.ContainsAny(data, `\&!`) && bytes.IndexByte(data, 0) < 0 && !MentionsApplication(data) {
				t.Errorf("%q is an Application without its words", data)
			}
		})
	})
}
