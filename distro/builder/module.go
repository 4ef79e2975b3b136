package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/plinthdev/plinth/distro/recipe"
	"github.com/plinthdev/plinth/internal/problem"
)

// module is a module in the module cache.
type module struct{ Dir, Sum string }

// ModuleDir returns the folder of the recipe's module in the module cache. It
// downloads the module if it is missing. A sum that is not the pinned one is an
// error.
func ModuleDir(ctx context.Context, r recipe.Recipe) (string, error) {
	got, err := downloadModule(ctx, r.Module)
	if err != nil && ctx.Err() == nil {
		if required, otherErr := requireModule(ctx, r.Module); otherErr == nil {
			got, err = required, nil
		}
	}
	if err == nil && got.Sum != r.Sum {
		err = fmt.Errorf("its sum is %s, the recipe says %s", got.Sum, r.Sum)
	}
	if err != nil {
		return "", problem.New(problem.ExitStep, "download module "+r.Module, err, "")
	}
	return got.Dir, nil
}

// goOutput runs a go command in a folder without a module, or with one that it may change, and
// returns its output.
func goOutput(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(append(inheritedEnv(), goEnv()...), "GOFLAGS=-mod=mod")
	return cmd.Output()
}

// downloadModule downloads path@version with `go mod download`.
func downloadModule(ctx context.Context, pathVersion string) (module, error) {
	out, err := goOutput(ctx, os.TempDir(), "mod", "download", "-json", pathVersion)
	var got struct {
		module
		Error string
	}
	if jsonErr := json.Unmarshal(out, &got); jsonErr == nil && got.Error != "" {
		err = errors.New(got.Error)
	}
	return got.module, err
}

// requireModule downloads path@version by requiring it. Unlike `go mod download`, this does not read
// the version's time (.info), which a module proxy can refuse for a version that it only has because
// another module requires it.
func requireModule(ctx context.Context, pathVersion string) (got module, err error) {
	path, version, _ := strings.Cut(pathVersion, "@")
	dir, err := os.MkdirTemp("", "plinth-module-")
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	requires := fmt.Sprintf("module download\n\ngo 1.21\n\nrequire %s %s\n", path, version)
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(requires), 0o600); err != nil {
		return got, err
	}
	// To learn whether the module has this package, go downloads the module, but none that its packages import.
	if _, err := goOutput(ctx, dir, "list", "-find", "-e", path+"/no-such-package"); err != nil {
		return got, err
	}
	sums, err := os.ReadFile(filepath.Join(dir, "go.sum"))
	if err != nil {
		return got, err
	}
	for line := range strings.Lines(string(sums)) {
		if sum, ok := strings.CutPrefix(line, path+" "+version+" "); ok {
			got.Sum = strings.TrimSpace(sum)
		}
	}
	cache, err := goOutput(ctx, dir, "env", "GOMODCACHE")
	if err != nil {
		return got, err
	}
	got.Dir = filepath.Join(strings.TrimSpace(string(cache)), escapeModule(path)+"@"+escapeModule(version))
	_, err = os.Stat(got.Dir)
	return got, err
}

// escapeModule returns a path or version as the module cache has it: upper-case letters are written
// as "!" and the lower-case letter (https://go.dev/ref/mod#goproxy-protocol).
func escapeModule(text string) string {
	var b strings.Builder
	for _, c := range text {
		if unicode.IsUpper(c) {
			b.WriteByte('!')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}
