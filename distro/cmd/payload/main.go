// Command payload builds Plinth's payload from source: an OCI image layout
// with the host's executables and every image that a cluster needs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/plinthdev/plinth/distro/build"
	"github.com/plinthdev/plinth/distro/builder"
	"github.com/plinthdev/plinth/internal/problem"
)

const usage = `usage: payload [flags] [build]      build missing parts, print the layout's folder
       payload [flags] verify           build everything a second time in another folder, compare all digests
       payload [flags] repin            update the Debian pins to the mirror's versions, print the changes
       payload [flags] module-dir NAME  print the folder of a recipe's module
flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	out, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		if hint := problem.Hint(err); hint != "" {
			fmt.Fprintln(os.Stderr, "→", hint)
		}
		stop()
		os.Exit(problem.ExitCode(err))
	}
	if out != "" {
		fmt.Println(out)
	}
}

func run(ctx context.Context, args []string) (string, error) {
	flags := flag.NewFlagSet("payload", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage); flags.PrintDefaults() }
	distro := flags.String("distro", "distro", "folder of the recipes")
	variant := flags.String("variant", "", "build this variant of the payload, a file in variants below the folder of the recipes")
	cache := flags.String("cache", "", "cache folder (default $PLINTH_CACHE, else plinth in the user's cache folder)")
	only := flags.String("only", "", "build only these recipes and those that they need, separated by commas")
	jobs := flags.Int("jobs", 2, "number of parts to build in parallel")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return "", nil
		}
		return "", problem.New(problem.ExitUsage, "read the flags", err, "run: payload -h")
	}
	dir, err := cacheDir(*cache)
	if err != nil {
		return "", err
	}
	e, err := build.New(ctx, *distro, *variant, dir)
	if err != nil {
		return "", err
	}
	e.Jobs, e.Out = *jobs, os.Stderr
	return runCommand(ctx, e, flags.Args(), splitList(*only))
}

func runCommand(ctx context.Context, e *build.Engine, args, only []string) (string, error) {
	switch {
	case len(args) == 0 || len(args) == 1 && args[0] == "build":
		return e.Run(ctx, only)
	case len(args) == 1 && args[0] == "verify":
		return e.Verify(ctx, only)
	case len(args) == 1 && args[0] == "repin":
		return e.Repin(ctx)
	case len(args) == 2 && args[0] == "module-dir":
		r, ok := e.Set.Recipes[args[1]]
		if !ok || r.Module == "" {
			return "", problem.Newf(problem.ExitUsage, "find module "+args[1], fmt.Sprintf("recipes are: %v", e.Set.Order), "no recipe with this name has a module")
		}
		return builder.ModuleDir(ctx, r)
	}
	return "", problem.Newf(problem.ExitUsage, "run payload", usage, "unknown command %q", strings.Join(args, " "))
}

func splitList(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

// cacheDir returns the folder in which everything that is built is kept: the flag's
// value, else $PLINTH_CACHE, else plinth in the user's cache folder.
func cacheDir(flagged string) (string, error) {
	if flagged == "" {
		flagged = os.Getenv("PLINTH_CACHE")
	}
	if flagged != "" {
		return filepath.Abs(flagged)
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", problem.New(problem.ExitUsage, "find the cache folder", err, "set PLINTH_CACHE")
	}
	return filepath.Join(base, "plinth"), nil
}
