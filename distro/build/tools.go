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

// packagesFile lists the Debian packages that the recipes need, one per line.
const packagesFile = "build-packages.txt"

// ensureTools checks the tools and Debian packages that the build needs. As root
// it installs missing packages; otherwise the error's hint has the command.
func (e *Engine) ensureTools(ctx context.Context) error {
	const operation = "check the tools of the build"
	for _, tool := range []string{"go", "npm", "node"} {
		if _, err := exec.LookPath(tool); err != nil {
			return problem.New(problem.ExitUsage, operation, err, "install "+tool)
		}
	}
	b, err := os.ReadFile(filepath.Join(e.Set.Dir, packagesFile))
	if err != nil {
		return problem.New(problem.ExitConfig, operation, err, "")
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
		return problem.New(problem.ExitUsage, operation, errors.New("missing Debian packages: "+strings.Join(missing, " ")), "run as root: "+install)
	}
	e.logf("installing Debian packages: %s", strings.Join(missing, " "))
	script := install + " || { apt-get update && " + install + "; }"
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		return problem.New(problem.ExitStep, "install the packages of the build", fmt.Errorf("%w: %s", err, lastLine(out)), "run this to see the problem: "+install)
	}
	return nil
}

// packageList returns the package names in text, without blank lines and comments.
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
