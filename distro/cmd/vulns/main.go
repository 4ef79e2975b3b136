// Command vulns fails on known vulnerabilities of what Plinth ships that have no
// exception in distro/vulnerabilities.yaml.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/plinthdev/plinth/distro/cache"
	"github.com/plinthdev/plinth/distro/recipe"
	"github.com/plinthdev/plinth/distro/vulns"
	"github.com/plinthdev/plinth/internal/problem"
)

const usage = `usage: vulns [flags] host FILE         scan the plinth executable FILE, built with a symbol table
       vulns [flags] payload [FILE]     scan the built payload, write the report to FILE
flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		if hint := problem.Hint(err); hint != "" {
			fmt.Fprintln(os.Stderr, "→", hint)
		}
		stop()
		os.Exit(problem.ExitCode(err))
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("vulns", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage); flags.PrintDefaults() }
	distro := flags.String("distro", "distro", "folder of the recipes and of "+vulns.PolicyFile)
	dir := flags.String("cache", os.Getenv("PLINTH_CACHE"), "cache folder of the payload")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return problem.New(problem.ExitUsage, "read the flags", err, "run: vulns -h")
	}
	args = flags.Args()
	isHost, isPayload := len(args) == 2 && args[0] == "host", len(args) > 0 && len(args) < 3 && args[0] == "payload"
	if !isHost && !isPayload || *dir == "" {
		return problem.Newf(problem.ExitUsage, "run vulns", usage, "a command and the cache folder are required")
	}
	policy, err := vulns.LoadPolicy(filepath.Join(*distro, vulns.PolicyFile), time.Now())
	if err != nil {
		return err
	}
	scanner, err := vulns.NewScanner(ctx, policy, filepath.Join(*dir, "vulns"))
	if err != nil {
		return err
	}
	if isHost {
		findings, err := scanner.Scan(ctx, vulns.Host, args[1])
		if err != nil {
			return err
		}
		return check(policy, findings, []string{vulns.Host})
	}
	c, err := cache.Open(ctx, *distro, "", *dir)
	if err != nil {
		return err
	}
	report := ""
	if len(args) == 2 {
		report = args[1]
	}
	return scanPayload(ctx, c, scanner, policy, report)
}

// scanPayload scans every file of every recipe's output.
func scanPayload(ctx context.Context, c *cache.Cache, scanner *vulns.Scanner, policy vulns.Policy, report string) error {
	db, err := scanner.LoadDatabase()
	if err != nil {
		return err
	}
	var findings []vulns.Finding
	var components []vulns.Component
	for _, name := range c.Set.Order {
		if !c.IsBuilt(name) {
			return problem.Newf(problem.ExitUsage, "scan "+name, "run: make payload", "it is not built")
		}
		r := c.Set.Recipes[name]
		components = append(components, vulns.Component{Name: name, Version: r.Version, Module: r.Module})
		if slices.ContainsFunc(r.Steps, func(s recipe.Step) bool { return s.Go != nil }) {
			found, err := db.Lookup(name, r.Module)
			if err != nil {
				return err
			}
			findings = append(findings, found...)
		}
		err := filepath.WalkDir(c.PartDir(name), func(file string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			found, err := scanner.Scan(ctx, name, file)
			findings = append(findings, found...)
			return err
		})
		if err != nil {
			return err
		}
	}
	findings = vulns.Unique(findings)
	if report != "" {
		if err := os.WriteFile(report, vulns.Report(policy, components, findings, c.Lock.Entries), 0o644); err != nil {
			return err
		}
	}
	return check(policy, findings, append(c.Set.Order, slices.DeleteFunc(policy.Components(), func(name string) bool { return name == vulns.Host })...))
}

func check(policy vulns.Policy, findings []vulns.Finding, scanned []string) error {
	if err := policy.Check(findings, scanned); err != nil {
		return problem.New(problem.ExitConfig, "accept the vulnerabilities of what is shipped", err,
			"use a fixed version, or add an exception to distro/"+vulns.PolicyFile)
	}
	fmt.Fprintf(os.Stderr, "vulns: %d known, each with an exception; database %s\n", len(findings), policy.Database)
	return nil
}
