package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/lockfile"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/release"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/strictyaml"
)

// maxReleaseFiles is the most files that a folder given to lint may have.
const maxReleaseFiles = 10_000

// LintPaths lints the Installer and Application files at paths, which are files or
// folders with the manifests of a release. Other documents are counted. The error, exit
// code 3 or 4, summarizes the findings; the report is complete in that case too.
func LintPaths(ctx context.Context, paths []string) (spec.Report, error) {
	found, err := readManifests(ctx, paths)
	if err != nil {
		return spec.Report{}, err
	}
	files, ignored := selectManifests(found)
	if len(files) == 0 {
		return spec.Report{}, problem.Newf(problem.ExitConfig, "check "+strings.Join(paths, " and "),
			"name the files, or a folder that holds them", "there is no Installer and no kots.io/v1beta1 Application%s", describeFolder(ignored))
	}
	report := lintFiles(files, validateChartsOf(ctx, files), validateBackupOf(found))
	if len(ignored.Documents) > 0 || ignored.Files > 0 {
		report.Ignored = &ignored
	}
	return report, report.Err("accept the files")
}

// backupKind matches the kind of a Backup of Velero. A manifest with templates is often no YAML before KOTS renders it.
var backupKind = regexp.MustCompile(`(?m)^kind:\s*["']?Backup["']?\s*(#.*)?$`)

// validateBackupOf returns a validator for an Installer with Velero beside a release without a Backup: KOTS offers no snapshots
// of its application then (KOTS 1.131.2, pkg/kotsadmsnapshot/backup.go).
func validateBackupOf(found []manifest) spec.Validator {
	return func(in *spec.Installer) []spec.Violation {
		isRelease := slices.ContainsFunc(found, func(m manifest) bool { return !m.named && m.holds == application })
		hasBackup := slices.ContainsFunc(found, func(m manifest) bool {
			return bytes.Contains(m.Data, []byte("velero.io/v1")) && backupKind.Match(m.Data)
		})
		if in.Spec.Velero == nil || !isRelease || hasBackup {
			return nil
		}
		return []spec.Violation{{Rule: "velero-backup", Path: "spec.velero", Hint: "add one to the release; it can be empty: spec: {}",
			Message: `the release has no velero.io/v1 Backup, and KOTS takes no snapshot of an application that "does not have a backup spec"`}}
	}
}

// describeFolder returns how much else was found, for the end of a sentence.
func describeFolder(ignored spec.Ignored) string {
	n := 0
	for _, count := range ignored.Documents {
		n += count
	}
	return fmt.Sprintf(" among %s and %s", hostpreflight.FormatCount(n, "YAML document"), hostpreflight.FormatCount(ignored.Files, "other file"))
}

// manifest is one file given to lint.
type manifest struct {
	spec.File
	named bool           // the user named the file itself, not its folder
	yaml  bool           // its name is that of a YAML file
	large bool           // it is too large to read
	holds contents       // what Plinth understands of it
	other map[string]int // the other documents, by apiVersion and kind
}

// contents is what Plinth understands of a file.
type contents int

// What a file can hold, from the least to the most that Plinth understands.
const (
	nothing     contents = iota
	unclear              // a document without apiVersion or kind, or that is not YAML
	foreign              // an Installer of kURL
	installer            // something of plinth.dev
	application          // an Application of KOTS
)

// readManifests reads the files at paths and those in the folders at paths.
func readManifests(ctx context.Context, paths []string) ([]manifest, error) {
	var found []manifest
	var errs []error
	for _, p := range paths {
		if info, err := os.Stat(p); p != "" && err == nil && info.IsDir() {
			inside, err := readFolder(ctx, p)
			found, errs = append(found, inside...), append(errs, err)
			continue
		}
		files, err := ReadFiles(ctx, []string{p})
		errs = append(errs, err)
		for _, f := range files {
			found = append(found, newManifest(f, true))
		}
	}
	return found, errors.Join(errs...)
}

// readFolder reads the YAML files in folder dir and below it. Folders whose name begins
// with a dot, such as .git, are left out.
func readFolder(ctx context.Context, dir string) ([]manifest, error) {
	var found []manifest
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return problem.New(problem.ExitConfig, "read "+path, problem.PathCause(err), "check the path and its permissions")
		case d.IsDir() && path != dir && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case d.IsDir():
			return nil
		case len(found) == maxReleaseFiles:
			return problem.Newf(problem.ExitConfig, "read "+dir, "name the folder of the release itself", "it has more than %d files", maxReleaseFiles)
		}
		f := spec.File{Name: path}
		// A link counts as what it leads to; reading a pipe would wait for ever.
		if info, err := os.Stat(path); hasYAMLName(path) && err == nil && info.Mode().IsRegular() {
			files, err := ReadFiles(ctx, []string{path})
			if err != nil {
				return err
			}
			f = files[0]
		}
		found = append(found, newManifest(f, false))
		return nil
	})
	return found, err
}

// hasYAMLName reports whether the name of a file is that of a YAML file.
func hasYAMLName(path string) bool {
	return slices.Contains([]string{".yaml", ".yml"}, strings.ToLower(filepath.Ext(path)))
}

// newManifest classifies the documents of a file.
func newManifest(f spec.File, named bool) manifest {
	m := manifest{File: f, named: named, yaml: hasYAMLName(f.Name), other: map[string]int{}}
	if len(f.Data) > maxManifestSize {
		m.holds, m.large = unclear, true
		return m
	}
	if !named && !m.yaml {
		return m
	}
	for _, doc := range release.Split(f.Data) {
		holds, label := classifyDocument(doc.Text)
		m.holds = max(m.holds, holds)
		if label != "" && holds < installer {
			m.other[label]++
		}
	}
	return m
}

// classifyDocument returns what Plinth understands of a document, and its type in words,
// "" for an empty document.
func classifyDocument(text []byte) (contents, string) {
	r := strictyaml.NewReader("", nil)
	text, ok := r.CheckText(text)
	if !ok {
		return unclear, "not text"
	}
	if release.MentionsApplication(text) && release.IsApplication(text) {
		return application, "" // also if only KOTS can read it
	}
	if onlyDirectives(text) {
		return nothing, ""
	}
	roots := r.ParseDocuments(text)
	if len(r.Findings()) > 0 { // often a template; KOTS reads it all the same
		switch {
		case release.MentionsApplication(text) && bytes.Contains(text, []byte("kind: "+release.Kind)):
			return application, ""
		case bytes.Contains(text, []byte("apiVersion: plinth.dev/")):
			return installer, ""
		}
		return unclear, "not YAML"
	}
	if len(roots) == 0 {
		return nothing, ""
	}
	apiVersion, kind := spec.DocumentType(roots[0])
	switch {
	case strings.HasPrefix(apiVersion, "plinth.dev/") && kind != lockfile.Kind:
		return installer, apiVersion + " " + kind
	case spec.IsKURL(apiVersion, kind):
		return foreign, apiVersion + " " + kind
	case strings.HasPrefix(apiVersion, "kots.io/") && kind == release.Kind:
		return application, apiVersion + " " + kind // of another version than KOTS reads
	case apiVersion == "" || kind == "":
		return unclear, "without apiVersion and kind"
	}
	return nothing, apiVersion + " " + kind
}

// onlyDirectives reports whether each line of a document is empty, a comment or a directive such as
// "%YAML 1.1", which is in front of the first separator.
func onlyDirectives(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && line[0] != '%' {
			return false
		}
	}
	return true
}

// selectManifests returns the files to lint and counts the others. A file in a folder is
// linted if Plinth understands a document of it. One that the user named is linted too
// if it is unclear, so that a mistake in its head is found; and whatever it holds if
// there is nothing else. A YAML file that is too large to read is linted, which is an error:
// it can hold the Application.
func selectManifests(found []manifest) ([]spec.File, spec.Ignored) {
	holds := func(least contents) bool {
		return slices.ContainsFunc(found, func(m manifest) bool { return m.holds >= least })
	}
	understood, hasInstaller := holds(foreign), slices.ContainsFunc(found, func(m manifest) bool { return m.holds == installer })
	var files []spec.File
	ignored := spec.Ignored{Documents: map[string]int{}}
	for _, m := range found {
		lint := m.holds >= installer || m.large && (m.yaml || m.named) || m.holds == foreign && (m.named || !hasInstaller) ||
			m.named && (!understood || m.holds == unclear && m.yaml)
		if lint {
			files = append(files, m.File)
		}
		if !lint && !m.yaml {
			ignored.Files++
			continue
		}
		if lint && m.holds < installer {
			continue // its findings say what it is
		}
		for label, n := range m.other {
			ignored.Documents[label] += n
		}
	}
	return files, ignored
}
