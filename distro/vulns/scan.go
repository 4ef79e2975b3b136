package vulns

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"debug/gosym"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/problem"
)

// Scanner runs the pinned govulncheck with the pinned database.
type Scanner struct {
	program  string // built executable
	database string // folder of OSV files
}

// NewScanner builds the scanner in the folder dir and verifies the database.
// Both come from the Go module cache, or from the module proxy the first time.
func NewScanner(ctx context.Context, p Policy, dir string) (*Scanner, error) {
	out, err := run(ctx, nil, "go", "mod", "download", "-json", p.Database)
	if err != nil {
		return nil, problem.New(problem.ExitStep, "fetch "+p.Database, err, "")
	}
	var module struct{ Dir, Sum string }
	if err := json.Unmarshal(out, &module); err != nil {
		return nil, problem.New(problem.ExitStep, "fetch "+p.Database, err, "")
	}
	if module.Sum != p.Sum {
		return nil, problem.Newf(problem.ExitConfig, "verify "+p.Database, "compare the sum with a source that you trust, then pin it", "its sum is %s, %s has %s", module.Sum, PolicyFile, p.Sum)
	}
	if _, err := run(ctx, []string{"GOBIN=" + dir}, "go", "install", p.Scanner); err != nil {
		return nil, problem.New(problem.ExitStep, "build "+p.Scanner, err, "")
	}
	return &Scanner{program: filepath.Join(dir, "govulncheck"), database: filepath.Join(module.Dir, "data", "osv")}, nil
}

// LoadDatabase reads the pinned database.
func (s *Scanner) LoadDatabase() (Database, error) { return LoadDatabase(s.database) }

// Scan returns the vulnerabilities whose package is linked into an executable, one
// finding for each id and module. It returns none for a file that Go did not build.
//
// For an executable without a symbol table govulncheck reports every vulnerable
// symbol of every module. The table of line numbers is never stripped, so its
// functions show which packages are linked.
func (s *Scanner) Scan(ctx context.Context, component, file string) ([]Finding, error) {
	linked, err := linkedPackages(file)
	if err != nil || linked == nil {
		return nil, err
	}
	// A folder of OSV files without an index is a database too; govulncheck reads it in half a second.
	out, err := run(ctx, nil, s.program, "-db", "file://"+s.database, "-mode", "binary", "-format", "json", file)
	if err != nil {
		return nil, problem.New(problem.ExitStep, "scan "+file, err, "")
	}
	return parseFindings(out, component, linked)
}

// parseFindings reads govulncheck's stream of JSON messages.
func parseFindings(stream []byte, component string, linked map[string]bool) ([]Finding, error) {
	type message struct {
		OSV *struct {
			ID      string `json:"id"`
			Summary string `json:"summary"`
		} `json:"osv"`
		Finding *struct {
			OSV   string `json:"osv"`
			Fixed string `json:"fixed_version"`
			Trace []struct {
				Module, Version, Package, Function, Receiver string
			} `json:"trace"`
		} `json:"finding"`
	}
	summaries := map[string]string{}
	found := map[[2]string]Finding{}
	dec := json.NewDecoder(bytes.NewReader(stream))
	for {
		var m message
		if err := dec.Decode(&m); err == io.EOF {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read the scanner's output: %w", err)
		}
		if m.OSV != nil {
			summaries[m.OSV.ID] = m.OSV.Summary
		}
		if m.Finding == nil || len(m.Finding.Trace) == 0 {
			continue
		}
		at := m.Finding.Trace[0]
		if at.Function == "" || !linked[at.Package] {
			continue // the module is needed, but its vulnerable code is not linked
		}
		key := [2]string{m.Finding.OSV, at.Module}
		if _, ok := found[key]; ok {
			continue
		}
		symbol := at.Package + "."
		if at.Receiver != "" {
			symbol += strings.TrimPrefix(at.Receiver, "*") + "."
		}
		found[key] = Finding{ID: m.Finding.OSV, Component: component, Module: at.Module, Version: at.Version, Fixed: m.Finding.Fixed, Symbol: symbol + at.Function}
	}
	var findings []Finding
	for _, f := range found {
		f.Summary = summaries[f.ID]
		findings = append(findings, f)
	}
	sortFindings(findings)
	return findings, nil
}

func sortFindings(findings []Finding) {
	slices.SortFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Component, b.Component), cmp.Compare(a.Module, b.Module), cmp.Compare(a.ID, b.ID))
	})
}

// linkedPackages returns the import paths of the packages that have a function in
// an ELF executable, or nil if Go did not build it.
func linkedPackages(file string) (map[string]bool, error) {
	f, err := elf.Open(file)
	var format *elf.FormatError
	if errors.As(err, &format) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil // a script
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	section := cmp.Or(f.Section(".gopclntab"), f.Section(".data.rel.ro.gopclntab"))
	text := f.Section(".text")
	if section == nil || text == nil {
		return nil, nil
	}
	data, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	table, err := gosym.NewTable(nil, gosym.NewLineTable(data, text.Addr))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	packages := map[string]bool{}
	for _, fn := range table.Funcs {
		packages[packageOf(fn.Name)] = true
	}
	return packages, nil
}

// packageOf returns the import path in a linker symbol such as
// gopkg.in/yaml%2ev3.(*Node).Decode.
func packageOf(symbol string) string {
	symbol, _, _ = strings.Cut(symbol, "[")
	slash := strings.LastIndex(symbol, "/") + 1
	name, _, _ := strings.Cut(symbol[slash:], ".")
	return strings.NewReplacer("%2e", ".", "%22", `"`).Replace(symbol[:slash] + name)
}

func run(ctx context.Context, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}
