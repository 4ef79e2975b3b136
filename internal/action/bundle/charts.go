package bundle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/pull"
	"github.com/plinthdev/plinth/internal/charts"
	"github.com/plinthdev/plinth/internal/lockfile"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// readCharts returns the charts of an Installer, from beside its file or from where s has them, rendered and checked.
// Errors in them have exit code 3 and name their line in the file; warnings are noted.
func (s partSource) readCharts(ctx context.Context, in *spec.Installer, file spec.File, note func(string)) ([]charts.Chart, error) {
	if len(in.Spec.Charts) == 0 {
		return nil, nil
	}
	var failed error
	remote := func(c spec.Chart) ([]byte, error) {
		archive, err := s.fetchChart(ctx, c)
		failed = errors.Join(failed, err)
		return archive, err
	}
	found, violations := charts.Inspect(in, charts.Source{Dir: filepath.Dir(file.Name), Remote: remote})
	if failed != nil {
		return nil, failed
	}
	var findings []spec.Finding
	for _, f := range spec.Lint([]spec.File{file}, func(*spec.Installer) []spec.Violation { return violations }).Findings {
		if strings.HasPrefix(f.Rule, "chart-") {
			findings = append(findings, f)
		}
	}
	if err := spec.FindingsError("use the charts of this Installer", findings); err != nil {
		return nil, err
	}
	for _, f := range findings {
		if note != nil {
			note(f.String())
		}
	}
	return found, nil
}

// fetchChart returns the archive of a chart in a registry or a chart repository, from there or from the layout.
func (s partSource) fetchChart(ctx context.Context, c spec.Chart) ([]byte, error) {
	want := pull.Chart{Ref: c.Chart, Version: c.Version}
	if s.downloads != nil {
		return pull.FetchChart(ctx, *s.downloads, want)
	}
	archive, err := pull.StoredChart(ctx, s.layout, want)
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("the source " + s.layout + " does not contain it")
	}
	if err != nil {
		return nil, problem.New(problem.ExitBundle, "read chart "+want.String(), err, "`plinth bundle mirror` fills such a folder, with the charts of the Installer")
	}
	return archive, nil
}

// addCharts adds the charts of s and their images to a request.
func (s partSource) addCharts(req *build.Request, refs []string) []string {
	for _, c := range s.charts {
		req.Charts = append(req.Charts, build.Chart{Name: c.Name, Version: c.Version, Archive: c.Archive})
		for _, i := range c.Images {
			refs = append(refs, i.Ref)
			if req.ImageUsers == nil {
				req.ImageUsers = map[string]string{}
			}
			req.ImageUsers[i.Ref] = fmt.Sprintf("chart %s (%s)", c.Name, i.Template)
		}
	}
	return refs
}

// lockedCharts returns the charts of s as a lock file has them.
func (s partSource) lockedCharts() (locked []lockfile.Chart) {
	for _, c := range s.charts {
		locked = append(locked, lockfile.Chart{Name: c.Name, Chart: c.Chart.Chart, Version: c.Version, Digest: digest.FromBytes(c.Archive).String(), Size: int64(len(c.Archive))})
	}
	return locked
}

// bundledInstaller returns the content of the Installer for the bundle: file, or its canonical form with the values
// of charts that are in files of their own.
func (s partSource) bundledInstaller(in *spec.Installer, file spec.File) ([]byte, error) {
	inlined, changed := charts.Inlined(in, s.charts)
	if !changed {
		return file.Data, nil
	}
	raw, err := inlined.Marshal()
	if err == nil && len(raw) > maxInstaller {
		err = problem.Newf(problem.ExitConfig, "use the charts of this Installer", "move large texts from the values into the charts",
			"the Installer with the values of all charts has %d bytes, at most %d are possible", len(raw), maxInstaller)
	}
	return raw, err
}

// maxInstaller is the size in bytes of the largest Installer that a host reads (strictyaml).
const maxInstaller = 1 << 20
