package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/ui/runlog"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from %s, run the test with -update:\n%s", filepath.Base(path), got)
	}
}

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
		{"help instal", `unknown command "instal"`, "see: plinth help --help"},
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

func TestABadCommandLineIsToldInTheFormThatItAsksFor(t *testing.T) {
	for _, line := range []string{"-o json nonsense", "--bogus -o json", "version --bogus --output=json", "-ojson version now", "version -o json now"} {
		code, stdout, stderr := plinth(t, strings.Fields(line)...)
		var doc envelope
		err := json.Unmarshal([]byte(stdout), &doc)
		if err != nil || stderr != "" || doc.V != 1 || doc.Error == nil || doc.Error.Exit != 2 || code != 2 {
			t.Errorf("%s: exit %d, %v, stdout %q, stderr %q", line, code, err, stdout, stderr)
		}
	}
}

func TestEveryCommandTeaches(t *testing.T) {
	s := &session{}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		path := c.CommandPath()
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || len(c.Short) > 75 {
			t.Errorf("%s: summary %q", path, c.Short)
		}
		if len(c.Long) < 80 || !strings.Contains(c.Example, "plinth") {
			t.Errorf("%s: says too little", path)
		}
		if list := exitList(c); strings.Contains(list, "unknown\n") || !strings.HasPrefix(list, "    0") {
			t.Errorf("%s: exit codes:\n%s", path, list)
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
	walk(s.root())
	files, _ := helpTexts.ReadDir("help")
	known := map[string]bool{}
	var mark func(*cobra.Command)
	mark = func(c *cobra.Command) {
		known[strings.ReplaceAll(c.CommandPath(), " ", "-")+".txt"] = true
		for _, child := range c.Commands() {
			mark(child)
		}
	}
	mark(s.root())
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
		writeHelp(&b, c)
		b.WriteString("```\n")
		for _, child := range c.Commands() {
			walk(child)
		}
	}
	walk(root)
	return b.String()
}

func TestReferenceIsFresh(t *testing.T) {
	golden(t, "../../docs/cli.md", reference((&session{}).root()))
}

func TestVersionAsTextAndJSON(t *testing.T) {
	code, stdout, stderr := plinth(t, "version")
	if code != 0 || !strings.HasPrefix(stdout, "plinth v1.2.3\n") || stderr != "" {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
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

func TestErrorsArePrintedOnceWithTheirHints(t *testing.T) {
	var secrets runlog.Secrets
	secrets.Hide("hunter22")
	one := problem.Newf(problem.ExitStep, "start k0s", "look at its log\nthen run it again", "it stopped: hunter22")
	two := errors.New("something else")
	for name, tc := range map[string]struct {
		err        error
		text, json string
	}{
		"none":    {nil, "", ""},
		"one":     {one, "cannot start k0s: it stopped: ***\n→ look at its log\n  then run it again\n", `{"v":1,"error":{"doing":"start k0s","cause":"it stopped: ***","hint":"look at its log\nthen run it again","exit":7}}` + "\n"},
		"unknown": {two, "something else\n", `{"v":1,"error":{"cause":"something else","exit":1}}` + "\n"},
		"several": {errors.Join(one, nil, two), "cannot start k0s: it stopped: ***\n→ look at its log\n  then run it again\nsomething else\n",
			`{"v":1,"error":{"doing":"start k0s","cause":"it stopped: ***","hint":"look at its log\nthen run it again","exit":7,"more":[{"cause":"something else","exit":1}]}}` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var text, doc bytes.Buffer
			writeError(&text, tc.err, &secrets)
			if err := writeJSON(&doc, answer{}, tc.err, &secrets); err != nil {
				t.Fatal(err)
			}
			if text.String() != tc.text || doc.String() != tc.json {
				t.Errorf("text %q\njson %q", text.String(), doc.String())
			}
		})
	}
}

func TestACancelledRunIsInterrupted(t *testing.T) {
	for _, err := range []error{context.Canceled, ErrInterrupted, problem.New(problem.ExitInterrupted, "install", ErrInterrupted, "go on")} {
		s := &session{Process: Process{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}}
		if code := s.finish(err); code != 130 {
			t.Errorf("%v: exit %d", err, code)
		}
	}
	s := &session{Process: Process{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}}
	if code := s.finish(problem.New(problem.ExitStep, "start k0s", context.Canceled, "")); code != 7 {
		t.Errorf("a problem's own code is lost: exit %d", code)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestAnAnswerThatCannotBeWrittenIsAnError(t *testing.T) {
	for _, form := range []string{"text", "json"} {
		var stderr bytes.Buffer
		code := Run(t.Context(), Process{Out: broken{}, Err: &stderr}, []string{"version", "-o", form})
		if code != 1 || !strings.Contains(stderr.String(), "broken pipe") {
			t.Errorf("%s: exit %d, %q", form, code, stderr.String())
		}
	}
}

func TestNearestWord(t *testing.T) {
	words := []string{"bundle", "sign-key", "output", "log-file", "yes"}
	for typed, want := range map[string]string{"bundel": "bundle", "bundles": "bundle", "ouput": "output", "log": "log-file",
		"sing-key": "sign-key", "yse": "yes", "zzz": "", "": "", "x": ""} {
		if got := nearest(typed, words); got != want {
			t.Errorf("nearest(%q) = %q, want %q", typed, got, want)
		}
	}
}
