// Package config loads and validates the Installer, the Application and the license
// of an install.
package config

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/hostpreflight/troubleshoot"
	"github.com/plinthdev/plinth/internal/agekey"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/release"
	"github.com/plinthdev/plinth/internal/spec"
)

// maxManifestSize is the most that is read of a manifest, in bytes; spec refuses files
// of more than 1 MiB with a finding.
const maxManifestSize = 1 << 20

// LintFiles lints files with all rules that this build has for versions, k0s, the
// add-ons and the vendor's host preflights.
func LintFiles(files []spec.File) spec.Report { return lintFiles(files) }

// lintFiles is LintFiles with more validators.
func lintFiles(files []spec.File, more ...spec.Validator) spec.Report {
	return spec.Lint(files, append([]spec.Validator{spec.ValidateVersions, k0s.Validate, addons.Validate, addons.ValidateCharts, validateHostPreflights, validateBackup}, more...)...)
}

// ParseHostPreflights returns the vendor's own host preflights in Installer in.
func ParseHostPreflights(in *spec.Installer) (troubleshoot.Preflights, error) {
	lists := in.Spec.HostPreflights.Lists()
	return troubleshoot.Parse(lists.Path, lists.Collectors, lists.Analyzers)
}

// validateBackup returns a violation for each public key with which age cannot encrypt.
func validateBackup(in *spec.Installer) (all []spec.Violation) {
	if in.Spec.Backup == nil {
		return nil
	}
	for i, r := range in.Spec.Backup.Recipients {
		if _, err := agekey.ParseRecipients(r); err != nil {
			all = append(all, spec.Violation{Rule: "backup-recipient", Path: fmt.Sprintf("spec.backup.recipients[%d]", i), Message: strings.TrimPrefix(err.Error(), "it "),
				Hint: "copy all of the public key; its last six characters are a checksum"})
		}
	}
	return all
}

// validateHostPreflights returns an objection for each host preflight that is not
// supported.
func validateHostPreflights(in *spec.Installer) []spec.Violation {
	all := in.Spec.HostPreflights.Violations()
	_, err := ParseHostPreflights(in)
	var wrong interface{ Unwrap() []error }
	if !errors.As(err, &wrong) {
		return all
	}
	for _, err := range wrong.Unwrap() {
		where, what, _ := strings.Cut(err.Error(), ": ")
		all = append(all, spec.Violation{Rule: "host-preflights", Path: where, Message: what, Hint: "docs/reference/preflights.md lists what is supported"})
	}
	return all
}

// ReadFiles reads the files at paths, at most 1 MiB (and one byte) of each, until ctx is
// done. The error names every file that cannot be read.
func ReadFiles(ctx context.Context, paths []string) ([]spec.File, error) {
	var files []spec.File
	var errs []error
	for _, p := range paths {
		if p == "" {
			errs = append(errs, problem.New(problem.ExitConfig, "read a file", errors.New("the name of the file is empty"), "name a file; a variable in a script may be empty"))
			continue
		}
		data, err := readLimited(ctx, p, maxManifestSize)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			errs = append(errs, problem.New(problem.ExitConfig, "read "+p, err, "check the path and its permissions"))
		}
		files = append(files, spec.File{Name: p, Data: data})
	}
	return files, errors.Join(errs...)
}

// LoadOptions name the files that configure an install.
type LoadOptions struct {
	Bundle        string // file
	Application   string // Application manifest in a file of its own; "" for none
	License       string // file with a KOTS license; "" for none
	ConfigValues  string // file with KOTS config values; "" for none
	AppBundle     string // .airgap file of the application; "" for none
	SkipKotsCheck bool   // report errors in the Application's KOTS bounds as warnings only
	OwnRegistry   bool   // the images of the application go to a registry of the user, not to that of the cluster
}

// Config is the validated configuration of an install.
type Config struct {
	Installer   *spec.Installer
	Application *spec.File          // the one that takes precedence; nil for none
	Conflicting []*spec.Application // those of LoadOptions.Application, if its file is another one than Application
	LintReport  spec.Report         // findings of lint for both
	App         *kots.App           // the application to install through the console; nil for none
	AppID       string              // identifies the license and the bundle of App
	Trust       trust.Result        // who signed the bundle
	Notices     []string            // notes for the user about the choice of the Application
	appBundle   *kots.AppBundle     // metadata of the application bundle to install; nil for none
}

// Title returns the title of the application, or "" when there is none.
func (c Config) Title() string {
	if len(c.LintReport.Applications) == 0 {
		return ""
	}
	return c.LintReport.Applications[0].Title
}

// Load reads the Installer from bundle b, finds the Application that takes precedence
// and lints both. now is the time for the check of the license.
func Load(ctx context.Context, b *airgap.Bundle, req LoadOptions, now time.Time) (m Config, err error) {
	raw, err := b.Installer(ctx)
	if err != nil {
		return m, err
	}
	files := []spec.File{{Name: "installer.yaml in " + req.Bundle, Data: raw}}
	found, err := m.findApplications(ctx, b, req)
	if err != nil {
		return m, err
	}
	if len(found) > 0 {
		m.Application = &found[0]
		files = append(files, found[0])
	}
	var extra []spec.Finding
	for i := 1; i < len(found); i++ {
		apps, wrong := spec.ParseApplications(found[i].Name, found[i].Data)
		extra = append(extra, wrong...)
		switch {
		case release.SameContent(found[i].Data, found[0].Data):
		case found[i].Name == req.Application: // requested explicitly, so precedence does not settle it
			if m.Conflicting = apps; len(apps) == 0 {
				m.Conflicting = []*spec.Application{{File: found[i].Name}} // with bounds that only a skipped gate accepts
			}
		default:
			m.Notices = append(m.Notices, fmt.Sprintf("warning: the Application in %s differs from that in %s, which takes precedence", found[i].Name, found[0].Name))
		}
	}
	m.LintReport = LintFiles(files)
	m.LintReport.Findings = append(m.LintReport.Findings, extra...)
	for _, f := range m.LintReport.Findings {
		if f.Rule == "wrong-type" && f.Severity == spec.Warning {
			m.Notices = append(m.Notices, "warning: "+f.String())
		}
	}
	if req.SkipKotsCheck {
		m.LintReport = m.LintReport.WithoutGate()
	}
	m.Installer = m.LintReport.Installer
	if err := spec.FindingsError("accept the manifests", m.LintReport.Findings); err != nil {
		return m, err
	}
	if m.Installer == nil {
		return m, problem.New(problem.ExitBundle, "use bundle "+req.Bundle, errors.New("its installer.yaml is not an Installer"), "build the bundle again")
	}
	return m, m.loadApp(ctx, req, now)
}

// loadApp validates the license, the config values and the bundle of the application,
// long before KOTS would.
func (c *Config) loadApp(ctx context.Context, req LoadOptions, now time.Time) error {
	const doing = "install the application"
	if req.License == "" {
		if req.AppBundle != "" || req.ConfigValues != "" {
			return problem.New(problem.ExitUsage, doing, errors.New("KOTS installs it only with a license"), "name the license file with --license")
		}
		return nil
	}
	if c.appBundle == nil {
		return problem.New(problem.ExitUsage, doing, errors.New("this install has no connection to the vendor, so it needs the application's bundle"), "name the .airgap file with --app-bundle")
	}
	if k := c.Installer.Spec; k.Kotsadm == nil || k.Registry == nil && !req.OwnRegistry {
		return problem.New(problem.ExitConfig, doing, errors.New("the Installer has no kotsadm or no registry, and KOTS needs both"), "add spec.kotsadm and spec.registry to the Installer and build the bundle again")
	}
	names := []string{req.License}
	if req.ConfigValues != "" {
		names = append(names, req.ConfigValues)
	}
	files, err := ReadFiles(ctx, names)
	if err != nil {
		return err
	}
	license, err := kots.ReadLicense(files[0].Data, now)
	if err != nil {
		return err
	}
	if err := kots.CheckLicense(license, c.appBundle, true); err != nil {
		return err
	}
	sum := sha256.New()
	for _, f := range files {
		sum.Write(f.Data)
	}
	c.App = &kots.App{Slug: license.Slug, License: req.License, ConfigValues: req.ConfigValues, Bundle: req.AppBundle}
	c.AppID = fmt.Sprintf("%s %s %s %x", license.Slug, c.appBundle.VersionLabel, c.appBundle.UpdateCursor, sum.Sum(nil))
	return nil
}

// findApplications returns all Application manifests in order of precedence: the one
// in the application bundle, because it is the one that will be installed; the one in
// bundle b; the file given with it.
func (c *Config) findApplications(ctx context.Context, b *airgap.Bundle, req LoadOptions) (found []spec.File, err error) {
	if req.AppBundle != "" {
		head, err := kots.ReadAppBundle(req.AppBundle)
		if err != nil {
			return nil, err
		}
		c.appBundle = &head
		if c.appBundle.Application != nil {
			found = append(found, spec.File{Name: "app.tar.gz in " + req.AppBundle, Data: c.appBundle.Application})
		}
	}
	data, ok, err := b.Application(ctx)
	if err != nil {
		return nil, err
	}
	if ok {
		found = append(found, spec.File{Name: "the Application in " + req.Bundle, Data: data})
	}
	if req.Application != "" {
		files, err := ReadFiles(ctx, []string{req.Application})
		if err != nil {
			return nil, err
		}
		found = append(found, files...)
	}
	return found, nil
}

// readLimited reads up to limit+1 bytes of a file that a user named.
func readLimited(ctx context.Context, path string, limit int64) ([]byte, error) {
	f, err := host.OpenInput(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	// The additional byte shows the caller that the file is too large.
	return host.ReadInput(ctx, f, limit+1)
}
