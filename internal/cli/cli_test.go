package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/cli/session"
	"github.com/plinthdev/plinth/internal/cli/teach"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

// plinth runs a command line without a terminal.
func plinth(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = Run(t.Context(), Process{In: strings.NewReader(""), Out: &out, Err: &err, Version: "v1.2.3"}, args)
	return code, out.String(), err.String()
}

func TestBadCommandLines(t *testing.T) {
	for _, tc := range []struct{ line, first, hint string }{
		{"versoin", `unknown command "versoin"`, "did you mean version?"},
		{"uninstall", `unknown command "uninstall"`, "did you mean plinth reset cluster?"},
		{"nonsense", `unknown command "nonsense"`, "see: plinth --help"},
		{"--bogus", `unknown flag "--bogus"`, "see: plinth --help"},
		{"-x", `unknown flag "-x"`, "see: plinth --help"},
		{"version --outptu json", `unknown flag "--outptu"`, "did you mean --output?"},
		{"version -o xml", `invalid argument "xml" for "-o, --output" flag: it must be one of text, json`, "see: plinth version --help"},
		{"version --progress fast", `invalid argument "fast" for "--progress" flag: it must be one of auto, plain, none`, "see: plinth version --help"},
		{"version --data-dir", `flag needs an argument: --data-dir`, "see: plinth version --help"},
		{"version now", `unexpected argument "now"`, "see: plinth version --help"},
		{"completion", `a shell is missing`, "see: plinth completion --help"},
		{"completion bahs", `unknown shell "bahs"`, "did you mean bash?"},
		{"completion bash zsh", `unexpected argument "zsh"`, "see: plinth completion --help"},
		{"help instal", `unknown command "instal"`, "did you mean install?"},
		{"help bundle inspct", `unknown command "inspct"`, "did you mean inspect?"},
		{"lint", `a file is missing`, "see: plinth lint --help"},
		{"bundle", `one more word is missing: build, diff, inspect, merge, verify`, "see: plinth bundle --help"},
		{"bundle bild", `unknown command "bild"`, "did you mean build?"},
		{"instal --help", `unknown command "instal"`, "did you mean install?"},
		{"bundle bild -h", `unknown command "bild"`, "did you mean build?"},
		{"bundle inspect", `a bundle is missing`, "see: plinth bundle inspect --help"},
		{"bundle verify a.tar b.tar", `unexpected argument "b.tar"`, "see: plinth bundle verify --help"},
		{"bundle build", `the flags --installer and --output are missing`, "see: plinth bundle build --help"},
		{"bundle build --installer a.yaml", `the flag --output is missing`, "see: plinth bundle build --help"},
		{"bundle build --instaler a.yaml", `unknown flag "--instaler"`, "did you mean --installer?"},
		{"install my-app.bundle", `unexpected argument "my-app.bundle"`, "did you mean --bundle my-app.bundle?"},
		{"install --bundel my-app.bundle", `unknown flag "--bundel"`, "did you mean --bundle?"},
		{"install --yes=perhaps", `--yes takes true or false, not "perhaps"`, "see: plinth install --help"},
		{"token create --role worker --ttl soon", `--ttl takes a time such as 90s, 30m or 24h, not "soon"`, "see: plinth token create --help"},
		{"bundle verify --verify-key= a.bundle", `the flag --verify-key is empty`, "see: plinth bundle verify --help"},
		{"install --verify-key= --bundle= --yes", `the flags --bundle and --verify-key are empty`, "see: plinth install --help"},
		{"join a b", `unexpected argument "b"`, "see: plinth join --help"},
		{"console", `one more word is missing: reset-password, set-certificate, url`, "see: plinth console --help"},
		{"console set-certificate --cert a.pem", `the flag --key is missing`, "see: plinth console set-certificate --help"},
		{"reset", `one more word is missing: cluster, node`, "see: plinth reset --help"},
		{"reset clustr", `unknown command "clustr"`, "did you mean cluster?"},
		{"reset --yes", `unknown flag "--yes"`, "see: plinth reset --help"},
		{"preflight host1", `unexpected argument "host1"`, "see: plinth preflight --help"},
		{"preflight --quik", `unknown flag "--quik"`, "did you mean --quick?"},
		{"status all", `unexpected argument "all"`, "see: plinth status --help"},
	} {
		t.Run(tc.line, func(t *testing.T) {
			code, stdout, stderr := plinth(t, strings.Fields(tc.line)...)
			lines := strings.Split(stderr, "\n")
			if code != problem.ExitUsage || stdout != "" ||
				lines[0] != "cannot understand the command line: "+tc.first || lines[1] != "→ "+tc.hint {
				t.Errorf("exit %d, stdout %q, stderr:\n%s", code, stdout, stderr)
			}
			if strings.Count(stderr, "cannot") != 1 {
				t.Errorf("not told once:\n%s", stderr)
			}
		})
	}
}

func TestADataFolderIsNamedByItsWholePath(t *testing.T) {
	code, _, stderr := plinth(t, "--data-dir=rel", "status")
	if code != problem.ExitUsage || !strings.Contains(stderr, "cannot use the data folder rel: its path does not begin with /") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestBadInputGivesItsExitCode(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	nothing, empty, junk := filepath.Join(dir, "nothing"), file("empty", ""), file("junk", strings.Repeat("junk", 1000))
	asRoot := func(code int) int {
		if os.Geteuid() != 0 {
			return problem.ExitUsage
		}
		return code
	}
	for _, tc := range []struct {
		code int
		args []string
	}{
		{problem.ExitConfig, []string{"lint", nothing}},
		{problem.ExitConfig, []string{"lint", dir}},
		{problem.ExitConfig, []string{"lint", empty}},
		{problem.ExitConfig, []string{"lint", junk}},
		{problem.ExitConfig, []string{"lint", file("app.yaml", "apiVersion: kots.io/v1beta1\nkind: Application\nmetadata: {name: a}\nspec: {minKotsVersion: x}\n")}},
		{problem.ExitConfig, []string{"bundle", "build", "--installer", nothing, "-o", nothing}},
		{problem.ExitUsage, []string{"bundle", "build", "--installer", nothing, "--output", dir}},
		{problem.ExitUsage, []string{"bundle", "build", "--installer", nothing, "--output", "json"}},
		{problem.ExitBundle, []string{"bundle", "inspect", nothing}},
		{problem.ExitBundle, []string{"bundle", "inspect", empty}},
		{problem.ExitBundle, []string{"bundle", "verify", junk}},
		{problem.ExitBundle, []string{"bundle", "verify", dir}},
		{problem.ExitUsage, []string{"install"}},
		{problem.ExitUsage, []string{"install", "--bundle", ""}},
		{asRoot(problem.ExitBundle), []string{"install", "--bundle", "/dev/null"}},
		{asRoot(problem.ExitBundle), []string{"install", "--bundle", nothing, "--plan"}},
		{asRoot(problem.ExitBundle), []string{"install", "--bundle", junk, "--yes"}},
		{problem.ExitUsage, []string{"preflight", "--role", "boss"}},
		{problem.ExitUsage, []string{"preflight", "--quick", "--ignore-host-preflight", "memry"}},
		{problem.ExitBundle, []string{"preflight", "--bundle", junk}},
		{problem.ExitUsage, []string{"console", "url", "--data-dir", dir}},
		{problem.ExitUsage, []string{"--data-dir", dir, "kubectl", "get", "pods", "--all"}},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			code, stdout, stderr := plinth(t, tc.args...)
			lines := strings.Split(stderr, "\n")
			if code != tc.code || !strings.HasPrefix(lines[0], "cannot ") || !strings.Contains(stderr, "\n→ ") {
				t.Errorf("exit %d, want %d; stdout %q, stderr:\n%s", code, tc.code, stdout, stderr)
			}
			code, stdout, stderr = plinth(t, append([]string{"-o", "json"}, tc.args...)...)
			var doc struct {
				Error struct{ Exit int }
			}
			if err := json.Unmarshal([]byte(stdout), &doc); err != nil || code != tc.code || doc.Error.Exit != code || stderr != "" {
				t.Errorf("json: exit %d, %v, stdout %q, stderr %q", code, err, stdout, stderr)
			}
		})
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 3 {
		t.Errorf("something was written: %v", left)
	}
}

func TestToolsGetTheirArgumentsAsTheyAre(t *testing.T) {
	got := override([]string{"PATH=/bin", "KUBECONFIG=/home", "KUBE=1"}, []string{"KUBECONFIG=/k0s"})
	if want := "PATH=/bin KUBE=1 KUBECONFIG=/k0s"; strings.Join(got, " ") != want {
		t.Errorf("environment %v, want %s", got, want)
	}
	root := root(&session.Session{})
	root.SetArgs([]string{"--data-dir", "/d", "kubectl", "get", "-o", "json", "--data-dir", "x"})
	var given []string
	for _, c := range root.Commands() {
		if c.Name() == "kubectl" {
			c.RunE = func(_ *cobra.Command, args []string) error { given = args; return nil }
		}
	}
	if err := root.Execute(); err != nil || root.Flag("data-dir").Value.String() != "/d" || root.Flag("output").Value.String() != "text" || strings.Join(given, " ") != "get -o json --data-dir x" {
		t.Errorf("%v, arguments %q", err, given)
	}
}

func TestABadCommandLineIsToldInTheFormThatItAsksFor(t *testing.T) {
	for _, line := range []string{"-o json nonsense", "--bogus -o json", "version --bogus --output=json", "-ojson version now", "version -o json now"} {
		code, stdout, stderr := plinth(t, strings.Fields(line)...)
		var doc struct {
			V     int
			Error *struct{ Exit int }
		}
		err := json.Unmarshal([]byte(stdout), &doc)
		if err != nil || stderr != "" || doc.V != 1 || doc.Error == nil || doc.Error.Exit != 2 || code != 2 {
			t.Errorf("%s: exit %d, %v, stdout %q, stderr %q", line, code, err, stdout, stderr)
		}
	}
}

func TestEveryCommandTeaches(t *testing.T) {
	tree := root(&session.Session{})
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		path := c.CommandPath()
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || len(c.Short) > 75 {
			t.Errorf("%s: summary %q", path, c.Short)
		}
		if len(c.Long) < 80 || !strings.Contains(c.Example, "plinth") {
			t.Errorf("%s: says too little", path)
		}
		var help strings.Builder
		teach.Write(&help, c)
		_, exits, _ := strings.Cut(help.String(), "Exit codes:\n")
		if strings.Contains(exits, "unknown\n") || !strings.HasPrefix(exits, "    0  done") {
			t.Errorf("%s: exit codes:\n%s", path, exits)
		}
		for line := range strings.Lines(c.Long + "\n" + c.Example) {
			if len(strings.TrimRight(line, "\n")) > 100 {
				t.Errorf("%s: long line %q", path, line)
			}
		}
		for _, child := range c.Commands() {
			walk(child)
		}
	}
	walk(tree)
	files, _ := os.ReadDir("teach/help")
	known := map[string]bool{}
	var mark func(*cobra.Command)
	mark = func(c *cobra.Command) {
		known[strings.ReplaceAll(c.CommandPath(), " ", "-")+".txt"] = true
		for _, child := range c.Commands() {
			mark(child)
		}
	}
	mark(tree)
	for _, f := range files {
		if !known[f.Name()] {
			t.Errorf("help/%s belongs to no command", f.Name())
		}
	}
}

// reference is docs/cli.md: the help of every command.
func reference(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# Command reference\n\nThis is the output of `plinth help` for every command; it is generated, do not edit it.\n")
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		fmt.Fprintf(&b, "\n## %s\n\n```text\n", c.CommandPath())
		teach.Write(&b, c)
		b.WriteString("```\n")
		for _, child := range c.Commands() {
			if !child.Hidden { // what only a service runs
				walk(child)
			}
		}
	}
	walk(root)
	return b.String()
}

func TestReferenceIsFresh(t *testing.T) {
	testkit.Golden(t, "../../docs/cli.md", []byte(reference(root(&session.Session{}))))
}

func TestVersionAsTextAndJSON(t *testing.T) {
	code, stdout, stderr := plinth(t, "version")
	if code != 0 || !strings.HasPrefix(stdout, "plinth v1.2.3\n") || stderr != "" {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	if code, short, _ := plinth(t, "--version"); code != 0 || short != stdout {
		t.Errorf("--version: exit %d, %q", code, short)
	}
	_, stdout, _ = plinth(t, "version", "-o", "json")
	if !strings.HasPrefix(stdout, `{"v":1,"result":{"version":"v1.2.3",`) || strings.Count(stdout, "\n") != 1 {
		t.Errorf("%q", stdout)
	}
}

func TestCompletionScriptsNameThisProgram(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		code, stdout, stderr := plinth(t, "completion", shell)
		if code != 0 || !strings.Contains(stdout, "plinth") || stderr != "" {
			t.Errorf("%s: exit %d, %q", shell, code, stderr)
		}
	}
	if code, stdout, _ := plinth(t, "__complete", "ver"); code != 0 || !strings.Contains(stdout, "version") {
		t.Errorf("completing ver: exit %d, %q", code, stdout)
	}
}

type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

func TestAnAnswerThatCannotBeWrittenIsAnErrorUnlessNobodyReads(t *testing.T) {
	full, gone := errors.New("no space left"), errors.New("broken pipe")
	for _, form := range []string{"text", "json"} {
		var stderr bytes.Buffer
		run := func(err error) int {
			return Run(t.Context(), Process{Out: broken{err}, Err: &stderr, Gone: gone}, []string{"version", "-o", form})
		}
		if code := run(gone); code != 0 || stderr.String() != "" {
			t.Errorf("%s, nobody reads: exit %d, %q", form, code, stderr.String())
		}
		if code := run(full); code != 1 || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%s, disk full: exit %d, %q", form, code, stderr.String())
		}
	}
}

type panics struct{}

func (panics) Write([]byte) (int, error) { panic("hunter22") }

func TestAPanicIsAnInternalErrorNotAUsageError(t *testing.T) {
	var stderr bytes.Buffer
	code := Run(t.Context(), Process{Out: panics{}, Err: &stderr}, []string{"version"})
	if code != problem.ExitInternal || !strings.Contains(stderr.String(), "\ncannot go on: hunter22\n→ this is a bug") {
		t.Errorf("exit %d:\n%s", code, stderr.String())
	}
}
