package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/ui"
)

// runPlinth runs a command line without a terminal.
func runPlinth(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = Run(t.Context(), Process{In: strings.NewReader(""), Out: &out, Err: &err, Version: "v1.2.3"}, args)
	return code, out.String(), err.String()
}

func TestRun_RefusesBadCommandLines(t *testing.T) {
	for _, tc := range []struct{ line, first, hint string }{
		{"versoin", `unknown command "versoin"`, "did you mean version?"},
		{"uninstall", `unknown command "uninstall"`, "did you mean plinth reset cluster?"},
		{"nonsense", `unknown command "nonsense"`, "see: plinth --help"},
		{"--bogus", `unknown flag "--bogus"`, "see: plinth --help"},
		{"-x", `unknown flag "-x"`, "see: plinth --help"},
		{"version --outptu json", `unknown flag "--outptu"`, "did you mean --output?"},
		{"version -o xml", `--output must be one of text, json, not "xml"`, "see: plinth version --help"},
		{"version --progress fast", `--progress must be one of auto, plain, none, not "fast"`, "see: plinth version --help"},
		{"version --data-dir", `flag needs an argument: --data-dir`, "see: plinth version --help"},
		{"version now", `unexpected argument "now"`, "see: plinth version --help"},
		{"completion", `missing argument SHELL: bash, zsh or fish`, "see: plinth completion --help"},
		{"completion bahs", `unknown shell "bahs"`, "did you mean bash?"},
		{"completion bash zsh", `unexpected argument "zsh"`, "see: plinth completion --help"},
		{"help instal", `unknown command "instal"`, "did you mean install?"},
		{"help bundle inspct", `unknown command "inspct"`, "did you mean inspect?"},
		{"lint", `missing argument FILE`, "see: plinth lint --help"},
		{"bundle", `missing subcommand: build, diff, embed, inspect, mirror, patch, verify`, "see: plinth bundle --help"},
		{"bundle bild", `unknown command "bild"`, "did you mean build?"},
		{"instal --help", `unknown command "instal"`, "did you mean install?"},
		{"bundle bild -h", `unknown command "bild"`, "did you mean build?"},
		{"bundle inspect", `missing argument BUNDLE`, "see: plinth bundle inspect --help"},
		{"bundle verify a.tar b.tar", `unexpected argument "b.tar"`, "see: plinth bundle verify --help"},
		{"bundle build", `flags --installer and --output-file are missing`, "see: plinth bundle build --help"},
		{"bundle build --installer a.yaml", `flag --output-file is missing`, "see: plinth bundle build --help"},
		{"bundle build --instaler a.yaml", `unknown flag "--instaler"`, "did you mean --installer?"},
		{"bundle diff --output-file d", `missing arguments OLD and NEW`, "see: plinth bundle diff --help"},
		{"bundle diff a.bundle --output-file d", `missing argument NEW`, "see: plinth bundle diff --help"},
		{"bundle patch a.bundle --output-file d", `missing argument DELTA`, "see: plinth bundle patch --help"},
		{"token create", `flag --role is missing`, "did you mean --role worker or --role controller?"},
		{"stat", `unknown command "stat"`, "did you mean plinth status?"},
		{"logs", `there is no command "logs"`, "run: plinth status"},
		{"update --bundle b", `unknown command "update"`, "did you mean plinth upgrade?"},
		{"instal --bundle b", `unknown command "instal"`, "did you mean install?"},
		{"backup", `flag --to is missing`, "see: plinth backup --help"},
		{"backup lst /mnt", `unknown command "lst"`, "did you mean list?"},
		{"backup list", `missing argument FOLDER`, "see: plinth backup list --help"},
		{"backup verify --identity-file k --passphrase-file p f", `--identity-file and --passphrase-file exclude each other`, "see: plinth backup verify --help"},
		{"restore --from a --from-this-node --control-plane b", `--control-plane, --from and --from-this-node exclude each other`, "see: plinth restore --help"},
		{"backup --to a --keep many", `--keep must be a whole number, not "many"`, "see: plinth backup --help"},
		{"backup verify --identity-file= f", `flag --identity-file is empty`, "see: plinth backup verify --help"},
		{"bundle patch a b -o c.bundle", `--output must be one of text, json, not "c.bundle"`, "see: plinth bundle patch --help"},
		{"publish --url https://x", `flag --bundle is missing`, "see: plinth publish --help"},
		{"publish --bundle a.bundle --url https://x", `missing argument DIR`, "see: plinth publish --help"},
		{"debug", `missing subcommand: fault-test`, "see: plinth debug --help"},
		{"debug fault-test", `missing subcommand: list, run`, "see: plinth debug fault-test --help"},
		{"debug fault-test run --point install/kernl:begun", `unknown failpoint "install/kernl:begun"`, "did you mean install/kernel:begun?"},
		{"install my-app.bundle", `unexpected argument "my-app.bundle"`, "did you mean --bundle my-app.bundle?"},
		{"install --bundel my-app.bundle", `unknown flag "--bundel"`, "did you mean --bundle?"},
		{"install --yes=perhaps", `--yes must be true or false, not "perhaps"`, "see: plinth install --help"},
		{"token create --role worker --ttl soon", `--ttl must be a duration such as 90s, 30m or 24h, not "soon"`, "see: plinth token create --help"},
		{"bundle verify --verify-key= a.bundle", `flag --verify-key is empty`, "see: plinth bundle verify --help"},
		{"install --verify-key= --bundle= --yes", `flags --bundle and --verify-key are empty`, "see: plinth install --help"},
		{"install --trace t --plan", "--plan and --trace exclude each other", "see: plinth install --help"},
		{"install --existing-cluster", "--existing-cluster needs --kubeconfig and --registry", "see: plinth install --help"},
		{"install --existing-cluster --kubeconfig f", "--existing-cluster needs --registry", "see: plinth install --help"},
		{"install --existing-cluster --kubeconfig f --registry h --address 10.0.0.1", "--address is for this host, which --existing-cluster does not change", "see: plinth install --help"},
		{"install --existing-cluster --kubeconfig f --registry h --ignore-host-preflight memory", "--ignore-host-preflight is for this host, which --existing-cluster does not change", "see: plinth install --help"},
		{"install --existing-cluster --kubeconfig f --registry h --plan-file p", "--plan-file is for this host, which --existing-cluster does not change", "see: plinth install --help"},
		{"install --data-dir /srv/p --existing-cluster --kubeconfig f --registry h", "--data-dir is for this host, which --existing-cluster does not change", "see: plinth install --help"},
		{"install --existing-cluster --kubeconfig f --registry h --registry-username me", "--registry-username and --registry-password-file need each other", "see: plinth install --help"},
		{"install --kubeconfig f", "--kubeconfig needs --existing-cluster: the cluster on this host has a registry of its own", "see: plinth install --help"},
		{"install --registry-ca f", "--registry-ca needs --existing-cluster: the cluster on this host has a registry of its own", "see: plinth install --help"},
		{"join a b", `unexpected argument "b"`, "see: plinth join --help"},
		{"console", `missing subcommand: reset-password, set-certificate, url`, "see: plinth console --help"},
		{"console set-certificate --cert a.pem", `flag --key is missing`, "see: plinth console set-certificate --help"},
		{"reset", `missing subcommand: cluster, node`, "see: plinth reset --help"},
		{"reset clustr", `unknown command "clustr"`, "did you mean cluster?"},
		{"reset --yes", `unknown flag "--yes"`, "see: plinth reset --help"},
		{"preflight host1", `unexpected argument "host1"`, "see: plinth preflight --help"},
		{"preflight --quik", `unknown flag "--quik"`, "did you mean --quick?"},
		{"addons", `missing subcommand: list, show`, "see: plinth addons --help"},
		{"addons show", `missing argument NAME`, "see: plinth addons show --help"},
		{"status all", `unexpected argument "all"`, "see: plinth status --help"},
	} {
		t.Run(tc.line, func(t *testing.T) {
			code, stdout, stderr := runPlinth(t, strings.Fields(tc.line)...)
			lines := strings.Split(stderr, "\n")
			if code != problem.ExitUsage || stdout != "" ||
				lines[0] != "cannot parse the command line: "+tc.first || lines[1] != "→ "+tc.hint {
				t.Errorf("exit %d, stdout %q, stderr:\n%s", code, stdout, stderr)
			}
			if strings.Count(stderr, "cannot") != 1 {
				t.Errorf("not printed once:\n%s", stderr)
			}
		})
	}
}

func TestUpgrade_RefusesFlagsThatARollbackOrACommitDrops(t *testing.T) {
	for _, mode := range []string{"--rollback", "--commit"} {
		for _, flag := range []string{"--no-drain", "--max-unavailable=2", "--ignore-host-preflight=memory", "--bundle=b", "--source=https://x", "--base=b", "--verify-key=k", "--key-rotation=k",
			"--allow-unsigned", "--application=a", "--skip-kots-compatibility-check", "--plan-file=p", "--rollback --commit"} {
			t.Run(mode+" "+flag, func(t *testing.T) {
				args := append([]string{"upgrade", mode}, strings.Fields(flag)...)
				if code, _, stderr := runPlinth(t, args...); code != problem.ExitUsage || !strings.HasPrefix(stderr, "cannot parse the command line: --") || !strings.Contains(stderr, " exclude each other\n") {
					t.Errorf("exit %d, %s", code, stderr)
				}
			})
		}
	}
	for line, refused := range map[string]bool{"--rollback --skip-node=w1": false, "--rollback --plan": false, "--commit --skip-node=w1": true, "--commit --plan": true} {
		t.Run(line, func(t *testing.T) {
			args := append([]string{"upgrade", "--data-dir", "rel"}, strings.Fields(line)...) // which is refused next
			if _, _, stderr := runPlinth(t, args...); strings.Contains(stderr, "cannot parse the command line") != refused {
				t.Error(stderr)
			}
		})
	}
}

func TestRun_HelpOfUnknownCommandNamesTheList(t *testing.T) {
	for line, want := range map[string]string{
		"help instal": "see: plinth --help", "help bundle inspct": "see: plinth bundle --help", "help debug fault-test rum": "see: plinth debug fault-test --help",
		"help zzzzzzzz": "see: plinth --help", "help bundle inspect x": "see: plinth bundle inspect --help",
	} {
		t.Run(line, func(t *testing.T) {
			code, _, stderr := runPlinth(t, strings.Fields(line)...)
			if code != problem.ExitUsage || !strings.HasSuffix(strings.TrimSpace(stderr), want) {
				t.Errorf("exit %d: %s", code, stderr)
			}
		})
	}
}

func TestRun_HintsHaveSudoForUsersWhoNeedIt(t *testing.T) {
	for needed, want := range map[bool]string{false: "did you mean plinth reset cluster?", true: "did you mean sudo plinth reset cluster?"} {
		t.Run(fmt.Sprint(needed), func(t *testing.T) {
			var stderr bytes.Buffer
			code := Run(t.Context(), Process{Out: io.Discard, Err: &stderr, NeedsSudo: needed}, []string{"uninstall"})
			if code != problem.ExitUsage || !strings.Contains(stderr.String(), want) {
				t.Errorf("exit %d: %s", code, stderr.String())
			}
		})
	}
}

func TestRun_HintsNameTheProgramAsItWasCalled(t *testing.T) {
	for name, c := range map[string]struct {
		calledAs string
		environ  []string
		want     string
	}{
		"on the PATH":        {"plinth", nil, "did you mean sudo plinth reset cluster?"},
		"elsewhere":          {"./my-plinth", nil, "did you mean sudo ./my-plinth reset cluster?"},
		"a name with spaces": {"/opt/my app/plinth", nil, "did you mean sudo '/opt/my app/plinth' reset cluster?"},
		"removed":            {"", nil, "did you mean sudo ./EXECUTABLE reset cluster?"},
		"by install.sh":      {"/tmp/x/plinth", []string{installCommandVariable + "=curl"}, "did you mean sudo plinth reset cluster?"},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			p := Process{Out: io.Discard, Err: &stderr, NeedsSudo: true, Environ: c.environ, CommandName: func() string { return c.calledAs }}
			if code := Run(t.Context(), p, []string{"uninstall"}); code != problem.ExitUsage || !strings.Contains(stderr.String(), c.want) {
				t.Errorf("exit %d: %s", code, stderr.String())
			}
		})
	}
}

func TestConvert_WritesAFileForEveryReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "installer.yaml")
	testkit.Must(t, os.WriteFile(path, []byte("apiVersion: kurl.sh/v1beta1\nkind: Installer\nmetadata: {name: a}\nspec: {ekco: {version: latest}}\n"), 0o600))
	var stdout, stderr bytes.Buffer
	p := Process{Out: &stdout, Err: &stderr, NeedsSudo: true, CommandName: func() string { return "../bin/plinth" }}
	if code := Run(t.Context(), p, []string{"convert", "kurl", path}); code != problem.ExitOK {
		t.Fatalf("exit %d: %s", code, stderr.String())
	}
	if text := stdout.String(); !strings.Contains(text, "# Next: plinth lint") || strings.Contains(text, "../bin") || strings.Contains(text, "sudo") {
		t.Errorf("the file depends on who converted it:\n%s", text)
	}
	if code := Run(t.Context(), p, []string{"lint", path}); code != problem.ExitConfig || !strings.HasSuffix(stderr.String(), " >plinth-installer.yaml\n") {
		t.Errorf("exit %d, the hint empties the kURL Installer: %s", code, stderr.String())
	}
}

func TestRun_RefusesRelativeDataDir(t *testing.T) {
	code, _, stderr := runPlinth(t, "--data-dir=rel", "status")
	if code != problem.ExitUsage || !strings.Contains(stderr, "cannot use the data directory rel: it is not an absolute path") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestRun_RefusesDataDirThatOthersMayWrite(t *testing.T) {
	root := t.TempDir()
	open := filepath.Join(root, "open")
	testkit.Must(t, os.Mkdir(open, 0o700), os.Chmod(open, 0o777), os.Symlink(open, filepath.Join(root, "link")))
	for _, dir := range []string{open, open + "/data", root + "/link/data"} {
		for _, verb := range []string{"status", "install", "join -", "reset cluster", "kubectl get pods"} {
			code, _, stderr := runPlinth(t, append([]string{"--data-dir", dir}, strings.Fields(verb)...)...)
			if code != problem.ExitUsage || !strings.HasPrefix(stderr, "cannot use the data directory "+dir+": "+open+" is writable by other users (mode 0777)\n→ ") {
				t.Errorf("%s: exit %d: %s", verb, code, stderr)
			}
		}
	}
}

func TestRun_ReturnsExitCodeOfBadInput(t *testing.T) {
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
		{problem.ExitConfig, []string{"bundle", "build", "--installer", nothing, "--output-file", nothing}},
		{problem.ExitUsage, []string{"bundle", "build", "--installer", nothing, "--output-file", dir}},
		{problem.ExitUsage, []string{"bundle", "build", "--installer", nothing, "--output-file", "json"}},
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
			code, stdout, stderr := runPlinth(t, tc.args...)
			lines := strings.Split(stderr, "\n")
			if code != tc.code || !strings.HasPrefix(lines[0], "cannot ") || !strings.Contains(stderr, "\n→ ") {
				t.Errorf("exit %d, want %d; stdout %q, stderr:\n%s", code, tc.code, stdout, stderr)
			}
			code, stdout, stderr = runPlinth(t, append([]string{"-o", "json"}, tc.args...)...)
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

func TestOverrideEnviron_ReplacesVariables(t *testing.T) {
	got := overrideEnviron([]string{"PATH=/bin", "KUBECONFIG=/home", "KUBE=1"}, []string{"KUBECONFIG=/k0s"})
	if want := "PATH=/bin KUBE=1 KUBECONFIG=/k0s"; strings.Join(got, " ") != want {
		t.Errorf("environment %v, want %s", got, want)
	}
}

func TestToolCommands_PassArgumentsUnchanged(t *testing.T) {
	root := newRootCommand(&runner{})
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

func TestToolCommands_ExplainThemselvesWithoutACluster(t *testing.T) {
	for _, tool := range []string{"kubectl", "kots", "shell"} {
		for _, flag := range []string{"--help", "-h"} {
			t.Run(tool+" "+flag, func(t *testing.T) {
				code, stdout, stderr := runPlinth(t, "--data-dir", t.TempDir(), tool, flag)
				if code != problem.ExitOK || stderr != "" || !strings.Contains(stdout, "\nUsage: plinth "+tool+" ARGUMENT...\n") {
					t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
				}
			})
		}
		t.Run(tool+" without --help", func(t *testing.T) {
			if code, stdout, _ := runPlinth(t, "--data-dir", t.TempDir(), tool, "get", "--help"); code != problem.ExitUsage || stdout != "" {
				t.Errorf("exit %d\n%s", code, stdout)
			}
		})
	}
}

func TestRun_ReportsBadCommandLineInRequestedFormat(t *testing.T) {
	for _, line := range []string{"-o json nonsense", "--bogus -o json", "version --bogus --output=json", "-ojson version now", "version -o json now", "bundle build -o json"} {
		t.Run(line, func(t *testing.T) {
			code, stdout, stderr := runPlinth(t, strings.Fields(line)...)
			var doc struct {
				V     int
				Error *struct{ Exit int }
			}
			err := json.Unmarshal([]byte(stdout), &doc)
			if err != nil || stderr != "" || doc.V != 1 || doc.Error == nil || doc.Error.Exit != 2 || code != 2 {
				t.Errorf("exit %d, %v, stdout %q, stderr %q", code, err, stdout, stderr)
			}
		})
	}
}

// allCommands returns root and all commands below it, hidden ones included.
func allCommands(root *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{root}
	for _, c := range root.Commands() {
		all = append(all, allCommands(c)...)
	}
	return all
}

func TestHelp_IsCompleteForEveryCommand(t *testing.T) {
	known := map[string]bool{}
	for _, c := range allCommands(newRootCommand(&runner{})) {
		path := c.CommandPath()
		known[strings.ReplaceAll(path, " ", "-")+".txt"] = true
		t.Run(path, func(t *testing.T) {
			if c.Short == "" || strings.HasSuffix(c.Short, ".") || len(c.Short) > 75 {
				t.Errorf("summary %q", c.Short)
			}
			if len(c.Long) < 80 || c.Example == "" || !strings.Contains(c.Example, "plinth") {
				t.Errorf("description or examples are too short")
			}
			var help strings.Builder
			writeHelp(&help, c, 0)
			_, exits, _ := strings.Cut(help.String(), "\nExit codes: ")
			if strings.Contains(exits, " unknown") || !strings.HasPrefix(exits, "0 done") {
				t.Errorf("exit codes:\n%s", exits)
			}
			_, page, _ := strings.Cut(help.String(), "\nGuide: ")
			page, _, _ = strings.Cut(page, "\n")
			if !strings.HasPrefix(page, "docs/") || !strings.HasSuffix(page, ".md") {
				t.Errorf("guide %q", page)
			}
			if _, err := os.Stat("../../docs/guide"); err == nil {
				if _, err := os.Stat("../../" + page); err != nil {
					t.Errorf("guide: %v", err)
				}
			}
		})
	}
	files, err := os.ReadDir("help")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !known[f.Name()] {
			t.Errorf("help/%s belongs to no command", f.Name())
		}
	}
}

// The help of a command fits one screen. That of plinth itself lists all commands and the global flags.
const (
	maxHelpLines     = 40
	maxRootHelpLines = 48
	maxHelpWidth     = 100
)

func TestHelp_FitsOneScreen(t *testing.T) {
	for _, c := range allCommands(newRootCommand(&runner{})) {
		t.Run(c.CommandPath(), func(t *testing.T) {
			args := strings.Fields(c.CommandPath())[1:]
			if c.DisableFlagParsing { // passes --help on
				args = append([]string{"help"}, args...)
			} else {
				args = append(args, "--help")
			}
			code, help, stderr := runPlinth(t, args...)
			if code != 0 || stderr != "" {
				t.Fatalf("exit %d, %q", code, stderr)
			}
			lines, most := strings.Split(strings.TrimRight(help, "\n"), "\n"), maxHelpLines
			if !c.HasParent() {
				most = maxRootHelpLines
			}
			if len(lines) > most {
				t.Errorf("%d lines, at most %d are allowed; move explanations to the guide", len(lines), most)
			}
			for _, line := range lines {
				if n := utf8.RuneCountInString(line); n > maxHelpWidth {
					t.Errorf("line of %d columns, at most %d are allowed: %q", n, maxHelpWidth, line)
				}
			}
		})
	}
}

func TestHelp_FitsNarrowTerminals(t *testing.T) {
	const width = 40
	for _, c := range allCommands(newRootCommand(&runner{})) {
		t.Run(c.CommandPath(), func(t *testing.T) {
			var help strings.Builder
			writeHelp(&help, c, width)
			_, long, _ := strings.Cut(ui.Wrap(help.String(), width), "\n\nUsage: ")
			long, _, _ = strings.Cut(long, "\nExamples:")
			long, _, _ = strings.Cut(long, "\nGlobal flags:") // plinth itself has no examples
			_, long, _ = strings.Cut(long, "\n\n")
			long, _, _ = strings.Cut(long, "\nCommands:")
			if strings.HasSuffix(c.Long, "-") || strings.Contains(c.Long, "-\n") {
				t.Errorf("a word is broken:\n%s", c.Long)
			}
			lines := strings.Split(strings.TrimSpace(long), "\n")
			for i, line := range lines[:len(lines)-1] {
				next, _, _ := strings.Cut(lines[i+1], " ")
				if line != "" && next != "" && len(line)+1+len(next) <= width && !strings.Contains(line+next, "plinth") { // commands are not broken
					t.Errorf("broken too early: %q, then %q", line, lines[i+1])
				}
			}
		})
	}
}

func TestHelp_AlignsTheListOfCommands(t *testing.T) {
	for _, c := range allCommands(newRootCommand(&runner{})) {
		columns := map[int]bool{}
		for _, child := range c.Commands() {
			for line := range strings.Lines(commandList(c)) {
				if strings.HasPrefix(line, "  "+child.Name()+" ") {
					columns[strings.Index(line, child.Short)] = true
				}
			}
		}
		if len(columns) > 1 {
			t.Errorf("%s:\n%s", c.CommandPath(), commandList(c))
		}
	}
}

// commandReference returns docs/reference/cli.md: the help of every command.
func commandReference(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# Command reference\n\n" +
		"<!-- Generated by the tests of internal/cli; refresh with: go test ./internal/cli -update -->\n\n" +
		"This page shows the output of `plinth help` for every command.\n\n## Exit codes\n\n")
	writeExitCodes(&b)
	for _, c := range allCommands(root) {
		if c.Hidden { // only a service runs it
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n```text\n", c.CommandPath())
		writeHelp(&b, c, 0)
		b.WriteString("```\n")
	}
	return b.String()
}

func TestCommandReference_IsUpToDate(t *testing.T) {
	testkit.Golden(t, "../../docs/reference/cli.md", []byte(commandReference(newRootCommand(&runner{}))))
}

func TestVersion_PrintsTextAndJSON(t *testing.T) {
	code, stdout, stderr := runPlinth(t, "version")
	if code != 0 || !strings.HasPrefix(stdout, "plinth v1.2.3\n") || stderr != "" {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
	if code, short, _ := runPlinth(t, "--version"); code != 0 || short != stdout {
		t.Errorf("--version: exit %d, %q", code, short)
	}
	_, stdout, _ = runPlinth(t, "version", "-o", "json")
	if !strings.HasPrefix(stdout, `{"v":1,"result":{"version":"v1.2.3",`) || strings.Count(stdout, "\n") != 1 {
		t.Errorf("%q", stdout)
	}
}

func TestCompletion_PrintsScriptForEachShell(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			code, stdout, stderr := runPlinth(t, "completion", shell)
			if code != 0 || !strings.Contains(stdout, "plinth") || stderr != "" {
				t.Errorf("exit %d, %q", code, stderr)
			}
		})
	}
	if code, stdout, _ := runPlinth(t, "__complete", "ver"); code != 0 || !strings.Contains(stdout, "version") {
		t.Errorf("completing ver: exit %d, %q", code, stdout)
	}
}

func TestCompletion_IsRegisteredForTheNameOfTheProgram(t *testing.T) {
	for called, want := range map[string]string{"plinth": "plinth", "my-plinth": "my-plinth", "": "plinth", "my app": "plinth", "plinth.1": "plinth", "$(reboot)": "plinth"} {
		t.Run(called, func(t *testing.T) {
			var out bytes.Buffer
			code := Run(t.Context(), Process{Out: &out, Err: io.Discard, Name: called}, []string{"completion", "bash"})
			if code != 0 || !strings.Contains(out.String(), "-F __start_"+want+" "+want+"\n") {
				t.Errorf("exit %d:\n%s", code, out.String())
			}
		})
	}
}

func TestCompletion_InBashNeedsNoPackage(t *testing.T) {
	_, script, _ := runPlinth(t, "completion", "bash")
	path := filepath.Join(t.TempDir(), "script")
	testkit.Must(t, os.WriteFile(path, []byte(script), 0o600))
	for name, c := range map[string]struct {
		line, words string // as bash splits the line
		asked       string // the arguments of the program
	}{
		"a command":        {"plinth ver", "plinth ver", "__complete ver"},
		"a new word":       {"plinth version ", "plinth version ''", "__complete version "},
		"a flag's value":   {"plinth version --output=te", "plinth version --output = te", "__complete version --output=te"},
		"an empty value":   {"plinth version --output=", "plinth version --output =", "__complete version --output="},
		"a word with ':'":  {"plinth publish a:b", "plinth publish a : b", "__complete publish a:b"},
		"several spaces":   {"plinth   ver", "plinth ver", "__complete ver"},
		"an absolute path": {"plinth lint /srv/a", "plinth lint /srv/a", "__complete lint /srv/a"},
	} {
		t.Run(name, func(t *testing.T) {
			run := "source " + path + `
compopt() { :; }
COMP_LINE='` + c.line + `' COMP_POINT=${#COMP_LINE} COMP_WORDS=(` + c.words + `) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
exec 3>&2 2>/dev/null
plinth() { local IFS=' '; echo "$*" >&3; printf '%s\n' answer :4; }
__start_plinth
`
			out, err := exec.CommandContext(t.Context(), "bash", "--noprofile", "--norc", "-c", run).CombinedOutput()
			if err != nil || strings.TrimSuffix(string(out), "\n") != c.asked {
				t.Errorf("%v: %q, want %q", err, out, c.asked)
			}
		})
	}
}

// brokenPipe fails every write with err.
type brokenPipe struct{ err error }

func (b brokenPipe) Write([]byte) (int, error) { return 0, b.err }

func TestRun_FailsIfOutputCannotBeWritten(t *testing.T) {
	full, gone := errors.New("no space left"), errors.New("broken pipe")
	for _, format := range []string{"text", "json"} {
		run := func(err error) (int, string) {
			var stderr bytes.Buffer
			code := Run(t.Context(), Process{Out: brokenPipe{err}, Err: &stderr, ErrNoReader: gone}, []string{"version", "-o", format})
			return code, stderr.String()
		}
		t.Run(format+", pipe without a reader", func(t *testing.T) {
			if code, stderr := run(gone); code != 0 || stderr != "" {
				t.Errorf("exit %d, %q", code, stderr)
			}
		})
		t.Run(format+", disk full", func(t *testing.T) {
			if code, stderr := run(full); code != 1 || !strings.Contains(stderr, "no space left") {
				t.Errorf("exit %d, %q", code, stderr)
			}
		})
	}
}

// panickingWriter panics on every write.
type panickingWriter struct{}

func (panickingWriter) Write([]byte) (int, error) { panic("hunter22") }

func TestRun_ReportsPanicAsInternalError(t *testing.T) {
	var stderr bytes.Buffer
	code := Run(t.Context(), Process{Out: panickingWriter{}, Err: &stderr}, []string{"version"})
	if code != problem.ExitInternal || !strings.Contains(stderr.String(), "\ncannot continue: hunter22\n→ this is a bug") {
		t.Errorf("exit %d:\n%s", code, stderr.String())
	}
}

func TestRun_RefusesDamagedReceiptAndJournal(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the commands need root")
	}
	bundle := airgaptest.WriteBundle(t, airgaptest.NewRequest(t))
	for file, c := range map[string]struct {
		content string
		lines   []string
	}{
		"receipt.json": {`{"version":1,`, []string{"status", "console url", "console reset-password", "node drain n --plan", "node remove n --plan", "certificates list", "certificates renew --plan", "token list",
			"token create --role worker", "token revoke abcdefgh", "install --plan --allow-unsigned --bundle " + bundle}},
		"journal.json": {"\x00", []string{"status", "preflight --quick", "reset node --dry-run", "reset cluster --dry-run"}},
	} {
		dir := t.TempDir()
		testkit.WriteFiles(t, dir, 0o600, map[string]string{"/journal.json": `{"version":1,"runs":[]}`, "/" + file: c.content})
		for _, line := range c.lines {
			t.Run(line+", "+file, func(t *testing.T) {
				code, _, stderr := runPlinth(t, append([]string{"--data-dir", dir}, strings.Fields(line)...)...)
				if code != problem.ExitUsage || !strings.Contains(stderr, "cannot read the ") || !strings.Contains(stderr, "mv "+dir+"/"+file) {
					t.Errorf("exit %d: %s", code, stderr)
				}
			})
		}
	}
}

func TestNeedsSudo_UnlessTheShellIsRoots(t *testing.T) {
	for name, c := range map[string]struct {
		uid     int
		environ []string
		want    bool
	}{
		"a user":         {1000, nil, true},
		"root":           {0, []string{"HOME=/root"}, false},
		"a user by sudo": {0, []string{"SUDO_UID=1000"}, true},
		"root by sudo":   {0, []string{"SUDO_UID=0"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := NeedsSudo(c.uid, c.environ); got != c.want {
				t.Errorf("%v", got)
			}
		})
	}
}
