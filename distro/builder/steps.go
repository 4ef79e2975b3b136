package builder

import (
	"context"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/plinthdev/plinth/distro/recipe"
)

// passedVariables returns the names of the caller's environment variables that the
// steps see: locations of tools, caches and mirrors, none that changes the output.
func passedVariables() []string {
	return []string{"PATH", "HOME", "GOPATH", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOTMPDIR", "XDG_CACHE_HOME",
		"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR",
		"NODE_EXTRA_CA_CERTS", "npm_config_registry", "npm_config_cafile", "npm_config_userconfig"}
}

// baseEnv returns an environment that is the same on every machine and for every
// user, except for the variables in passedVariables. Sums are checked against
// go.sum and the recipe, so the checksum database is off.
func (ws *workspace) baseEnv() []string {
	r := ws.recipe
	env := append(inheritedEnv(), goEnv()...)
	return append(env,
		"LC_ALL=C", "TZ=UTC", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.Epoch), "VERSION="+r.Version,
		"WORK="+ws.work, "OUT="+ws.out, "TMPDIR="+filepath.Join(ws.work, "tmp"))
}

func inheritedEnv() []string {
	var env []string
	for _, name := range passedVariables() {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func goEnv() []string {
	return []string{"GOFLAGS=-trimpath -buildvcs=false -mod=readonly", "GOTOOLCHAIN=local", "GOWORK=off", "GOSUMDB=off",
		"GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "GOEXPERIMENT=", "CC=gcc"}
}

// runCommand runs a command in the workspace. Its output goes to the part's log;
// an error contains the last lines.
func (ws *workspace) runCommand(ctx context.Context, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = ws.src, append(slices.Clone(ws.env), env...)
	cmd.Stdout, cmd.Stderr = ws.log, ws.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	runtime.LockOSThread() // Pdeathsig is tied to the thread that started the command
	err := cmd.Run()
	runtime.UnlockOSThread()
	if p := cmd.ProcessState; p != nil {
		ws.cpu += p.UserTime() + p.SystemTime()
	}
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("%s: %w; its last lines (all of them in %s):\n%s", name, err, ws.log.Name(), lastLines(ws.log.Name(), 15))
	}
	return nil
}

func lastLines(file string, n int) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// goBuild builds all binaries of the step with one go command and moves them to
// the output folder under their names.
func (ws *workspace) goBuild(ctx context.Context, g recipe.GoBuild) error {
	bin := filepath.Join(ws.work, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	target := bin + "/"
	names, pkgs := sortedBinaries(g)
	if len(names) == 1 {
		target = filepath.Join(bin, names[0])
	}
	args := []string{"build", "-tags", strings.Join(g.Tags, ","), "-ldflags", ws.linkerFlags(g), "-o", target}
	if err := ws.runCommand(ctx, ws.goBuildEnv(g), "go", append(args, pkgs...)...); err != nil {
		return err
	}
	for i, name := range names {
		from := filepath.Join(bin, name)
		if len(names) > 1 {
			from = filepath.Join(bin, goName(pkgs[i]))
		}
		if err := os.Rename(from, filepath.Join(ws.out, name)); err != nil {
			return err
		}
	}
	return nil
}

func sortedBinaries(g recipe.GoBuild) (names, pkgs []string) {
	for name := range g.Binaries {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		pkgs = append(pkgs, g.Binaries[name])
	}
	return names, pkgs
}

var majorSuffix = regexp.MustCompile(`/v[0-9]+$`)

// goName returns the file name that `go build -o dir/` gives a package's binary.
func goName(pkg string) string { return path.Base(majorSuffix.ReplaceAllString(pkg, "")) }

func (ws *workspace) linkerFlags(g recipe.GoBuild) string {
	flags := []string{"-s -w -buildid="}
	if g.Cgo {
		flags = append(flags, "-linkmode external -extldflags '-static -Wl,--build-id=none'")
	}
	vars := map[string]string{"VERSION": ws.recipe.Version, "BUILD_DATE": time.Unix(ws.recipe.Epoch, 0).UTC().Format(time.RFC3339)}
	for _, f := range g.Ldflags {
		flags = append(flags, os.Expand(f, func(name string) string { return vars[name] }))
	}
	return strings.Join(flags, " ")
}

// goBuildEnv returns the step's own environment. Its values may use $DEBS, $WORK
// and every other variable of a shell step.
func (ws *workspace) goBuildEnv(g recipe.GoBuild) []string {
	env := []string{"CGO_ENABLED=0"}
	if g.Cgo {
		env = []string{"CGO_ENABLED=1"}
	}
	for name, v := range g.Env {
		env = append(env, name+"="+os.Expand(v, ws.lookupEnv))
	}
	return env
}

func (ws *workspace) lookupEnv(name string) string {
	for _, v := range ws.env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// fetchNpm downloads and unpacks the recipe's npm packages. An integrity that is
// not the pinned one is an error.
func (ws *workspace) fetchNpm(ctx context.Context) error {
	for name, pin := range ws.recipe.Npm {
		version, want, _ := strings.Cut(pin, " ")
		dir := filepath.Join(ws.work, "npm", name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := ws.runCommand(ctx, nil, "npm", "pack", "--silent", "--pack-destination", dir, name+"@"+version); err != nil {
			return err
		}
		file := filepath.Join(dir, name+"-"+version+".tgz")
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		sum := sha512.Sum512(b)
		if got := "sha512-" + base64.StdEncoding.EncodeToString(sum[:]); got != want {
			return fmt.Errorf("npm package %s@%s has the integrity %s, the recipe says %s", name, version, got, want)
		}
		if err := ws.runCommand(ctx, nil, "tar", "-xzf", file, "-C", dir, "--strip-components=1"); err != nil {
			return err
		}
		ws.env = append(ws.env, "NPM_"+shellName(name)+"="+dir)
	}
	return nil
}
