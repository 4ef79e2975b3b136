package app

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kots/release"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// maxManifest is the most that is read of a manifest; spec refuses files of
// more than 1 MiB with a finding.
const maxManifest = 1 << 20

// Lint checks Installer and Application files. The error, exit 3 or 4, is that
// of the findings; the report is complete also then.
func (a *App) Lint(paths []string) (spec.Report, error) {
	files, err := readFiles(paths)
	if err != nil {
		return spec.Report{}, err
	}
	report := spec.Lint(files)
	return report, report.Err("accept the files")
}

// readFiles reads all files, or says of each that it cannot.
func readFiles(paths []string) ([]spec.File, error) {
	var files []spec.File
	var errs []error
	for _, p := range paths {
		data, err := readFile(p, maxManifest)
		if err != nil {
			errs = append(errs, problem.New(problem.ExitConfig, "read "+p, cause(err), "check the path and its permissions"))
		}
		files = append(files, spec.File{Name: p, Data: data})
	}
	return files, errors.Join(errs...)
}

// cause is err without the operation and path that the caller names itself.
func cause(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

// manifests are the Installer and Application that decide an install.
type manifests struct {
	installer   *spec.Installer
	application *spec.File      // the one that decides; nil for none
	appBundle   *release.Bundle // head of the application bundle that will be installed; nil for none
	app         *kots.App       // what to install through the console; nil for none
	appID       string          // names license and bundle of app
	report      spec.Report     // what lint says of both
}

// readManifests reads the Installer from the bundle, finds the Application
// that decides, and lints both.
func (a *App) readManifests(ctx context.Context, b *airgap.Bundle, req InstallRequest) (m manifests, err error) {
	raw, err := b.Installer(ctx)
	if err != nil {
		return m, err
	}
	files := []spec.File{{Name: "installer.yaml in " + req.Bundle, Data: raw}}
	found, err := m.applications(ctx, b, req)
	if err != nil {
		return m, err
	}
	if len(found) > 0 {
		m.application = &found[0]
		files = append(files, found[0])
	}
	for i := 1; i < len(found); i++ {
		if string(found[i].Data) != string(found[0].Data) {
			a.Note(fmt.Sprintf("warning: the Application in %s differs from that in %s, which is the one that counts", found[i].Name, found[0].Name))
		}
	}
	m.report = spec.Lint(files)
	if req.SkipKotsCheck {
		m.report = m.report.WithoutGate()
	}
	m.installer = m.report.Installer
	if err := spec.Problem("accept the manifests", m.report.Findings); err != nil {
		return m, err
	}
	return m, m.readApp(req, a.Now())
}

// readApp checks what the application is installed from, long before KOTS
// would.
func (m *manifests) readApp(req InstallRequest, now time.Time) error {
	const doing = "install the application"
	if req.License == "" {
		if req.AppBundle != "" || req.ConfigValues != "" {
			return problem.New(problem.ExitUsage, doing, errors.New("KOTS installs it only with a license"), "name the license file with --license")
		}
		return nil
	}
	if m.appBundle == nil {
		return problem.New(problem.ExitUsage, doing, errors.New("this install does not reach the vendor, so it needs the application's bundle"), "name the .airgap file with --app-bundle")
	}
	if k := m.installer.Spec; k.Kotsadm == nil || k.Registry == nil {
		return problem.New(problem.ExitConfig, doing, errors.New("the Installer has no kotsadm or no registry, and KOTS needs both"), "add spec.kotsadm and spec.registry to the Installer and build the bundle again")
	}
	names := []string{req.License}
	if req.ConfigValues != "" {
		names = append(names, req.ConfigValues)
	}
	files, err := readFiles(names)
	if err != nil {
		return err
	}
	license, err := release.ReadLicense(files[0].Data, now)
	if err != nil {
		return err
	}
	if err := release.Check(license, m.appBundle, true); err != nil {
		return err
	}
	sum := sha256.New()
	for _, f := range files {
		sum.Write(f.Data)
	}
	m.app = &kots.App{Slug: license.Slug, License: req.License, ConfigValues: req.ConfigValues, Bundle: req.AppBundle}
	m.appID = fmt.Sprintf("%s %s %s %x", license.Slug, m.appBundle.VersionLabel, m.appBundle.UpdateCursor, sum.Sum(nil))
	return nil
}

// applications lists the Application manifests at hand, the one that decides
// first: that of the application bundle, because it is the one that will be
// installed; the bundle's own; the file given beside it.
func (m *manifests) applications(ctx context.Context, b *airgap.Bundle, req InstallRequest) (found []spec.File, err error) {
	if req.AppBundle != "" {
		head, err := release.ReadBundle(req.AppBundle)
		if err != nil {
			return nil, err
		}
		m.appBundle = &head
		if m.appBundle.Application != nil {
			found = append(found, spec.File{Name: "app.tar.gz in " + req.AppBundle, Data: m.appBundle.Application})
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
		files, err := readFiles([]string{req.Application})
		if err != nil {
			return nil, err
		}
		found = append(found, files...)
	}
	return found, nil
}

// gate asks whether this KOTS may carry this application, before anything on
// the host changes.
func (a *App) gate(m manifests, first, skip bool) (warnings []string, err error) {
	verdict := spec.Gate(m.installer, m.report.Application, first)
	title := ""
	if m.report.Application != nil {
		title = m.report.Application.Title
	}
	words := verdict.Explain(title)
	switch {
	case m.installer.Spec.Kotsadm == nil:
		return nil, nil
	case verdict.Allowed() && verdict.Note != "":
		a.Note("note: " + words.Cause)
		return nil, nil
	case verdict.Allowed():
		return nil, nil
	case skip:
		warning := "the KOTS version gate was skipped on request, though " + words.Cause
		a.Note("warning: " + warning)
		return []string{warning}, nil
	}
	return nil, spec.GateProblem("install", verdict, title)
}
