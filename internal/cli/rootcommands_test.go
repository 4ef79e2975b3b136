package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/cli/printer"
	"github.com/plinthdev/plinth/internal/diagnosis"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/ui"
)

// Each command is in one of the two lists from which hints get their sudo, and the lists name no other.
func TestCommandLists_AreThoseOfTheTree(t *testing.T) {
	var tree []string
	for _, c := range newRootCommand(&runner{}).Commands() {
		tree = append(tree, c.Name())
	}
	listed := slices.Concat(ui.RootCommands, ui.UserCommands)
	slices.Sort(tree)
	slices.Sort(listed)
	if !slices.Equal(tree, listed) {
		t.Errorf("the commands are\n%q, listed are\n%q", tree, listed)
	}
}

// sudoExample matches an example of a help text that begins with sudo, or pipes something into it.
var sudoExample = regexp.MustCompile(`^(.*\| )?sudo (-E )?plinth `)

// A hint gets the sudo that the help texts, which are written by hand, have for the same command.
func TestHints_HaveTheSudoOfTheExamples(t *testing.T) {
	found := 0
	for _, c := range allCommands(newRootCommand(&runner{})) {
		for line := range strings.Lines(c.Example) {
			line = strings.TrimSpace(line)
			if !sudoExample.MatchString(line) || strings.Contains(line, "plinth preflight") { // which runs without, too
				continue
			}
			found++
			without := strings.Replace(strings.Replace(line, "sudo -E plinth", "plinth", 1), "sudo plinth", "plinth", 1)
			if got := printer.AddSudo(without, true); got != line {
				t.Errorf("%s: the hint is %q, the help has %q", c.CommandPath(), got, line)
			}
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(c.CommandPath(), "plinth "), " ")
		if example := "plinth " + name + " x"; slices.Contains(ui.UserCommands, name) && printer.AddSudo(example, false) != example {
			t.Errorf("%s gets sudo", example)
		}
	}
	if found < 50 {
		t.Errorf("only %d examples", found)
	}
}

// usedCommand matches a command of plinth to type, in a text: with sudo, or quoted. Its second group has the words and flags.
var usedCommand = regexp.MustCompile("(sudo (?:-E )?|`)plinth ([^`|;)<>]+)")

// checkUsedCommands verifies that the commands of plinth in a text and their flags exist.
func checkUsedCommands(t *testing.T, text string) (found int) {
	t.Helper()
	root := newRootCommand(&runner{})
	for line := range strings.Lines(text) {
		for _, m := range usedCommand.FindAllStringSubmatch(line, -1) {
			found++
			cmd, rest, err := root.Find(strings.Fields(m[2]))
			if err != nil || cmd == root || cmd.HasSubCommands() && !cmd.Runnable() {
				t.Errorf("there is no command %q", m[0])
				continue
			}
			if slices.Contains([]string{"kubectl", "kots", "shell"}, cmd.Name()) { // others parse their flags
				continue
			}
			for _, word := range rest {
				name, isFlag := strings.CutPrefix(word, "--")
				name, _, _ = strings.Cut(name, "=")
				name = strings.TrimRight(name, ".,:")
				if isFlag && name != "" && name != "help" && cmd.Flags().Lookup(name) == nil && cmd.InheritedFlags().Lookup(name) == nil {
					t.Errorf("%q: %s has no flag --%s", m[0], cmd.CommandPath(), name)
				}
			}
		}
	}
	return found
}

func TestDiagnosis_FixesNameCommandsThatExist(t *testing.T) {
	found := 0
	for _, r := range diagnosis.Rules() {
		t.Run(r.ID, func(t *testing.T) { found += checkUsedCommands(t, r.Fix) })
		if hinted := printer.AddSudo(r.Fix, false); hinted != r.Fix {
			t.Errorf("%s: a command lacks its sudo: %s", r.ID, r.Fix)
		}
	}
	if found < 30 {
		t.Errorf("only %d commands", found)
	}
}

func TestGuide_NamesCommandsThatExist(t *testing.T) {
	pages, err := filepath.Glob("../../docs/guide/*.md")
	testkit.Must(t, err)
	for _, page := range pages {
		t.Run(filepath.Base(page), func(t *testing.T) {
			raw, err := os.ReadFile(page)
			testkit.Must(t, err)
			checkUsedCommands(t, string(raw))
		})
	}
	if len(pages) < 15 {
		t.Errorf("only %d pages", len(pages))
	}
}
