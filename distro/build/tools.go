package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/plinthdev/plinth/internal/problem"
)

// packagesFile lists the Debian packages that the recipes need, one a line.
const packagesFile = "build-packages.txt"

// ensureTools checks that the tools and Debian packages of the build are
// there; as root it installs missing packages, else it says which to install.
func (e *Engine) ensureTools(ctx context.Context) error {
	const doing = "check the build's tools"
	for _, tool := range []string{"go", "npm", "node"} {
		if _, err := exec.LookPath(tool); err != nil {
			return problem.New(problem.ExitUsage, doing, err, "install "+tool)
		}
	}
	b, err := os.ReadFile(filepath.Join(e.Set.Dir, packagesFile))
	if err != nil {
		return problem.New(problem.ExitConfig, doing, err, "")
	}
	missing := missingPackages(packageList(string(b)), func(name string) bool {
		out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Status}", name).Output()
		return err == nil && strings.HasSuffix(string(out), " installed")
	})
	if len(missing) == 0 {
		return nil
	}
	install := "apt-get install -y --no-install-recommends " + strings.Join(missing, " ")
	if os.Geteuid() != 0 {
		return problem.New(problem.ExitUsage, doing, errors.New("missing Debian packages: "+strings.Join(missing, " ")), "run as root: "+install)
	}
	e.say("installing Debian packages: %s", strings.Join(missing, " "))
	script := install + " || { apt-get update && " + install + "; }"
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		return problem.New(problem.ExitStep, "install the build's packages", fmt.Errorf("%w: %s", err, lastLine(out)), "try by hand: "+install)
	}
	return nil
}

// packageList reads the list: blank lines and comments do not count.
func packageList(text string) []string {
	var names []string
	for _, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			names = append(names, line)
		}
	}
	return names
}

func missingPackages(names []string, installed func(string) bool) []string {
	var missing []string
	for _, name := range names {
		if !installed(name) {
			missing = append(missing, name)
		}
	}
	return missing
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}
