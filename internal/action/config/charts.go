package config

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/plinthdev/plinth/airgap/pull"
	"github.com/plinthdev/plinth/internal/charts"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// DownloadCache returns the absolute path of the folder for downloaded parts called name; for "" that of the user
// (https://specifications.freedesktop.org/basedir-spec).
func DownloadCache(name string) (string, error) {
	if name != "" {
		return filepath.Abs(name)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", problem.New(problem.ExitUsage, "find the cache of the user", err, "name a folder for downloaded parts with --cache")
	}
	return filepath.Join(dir, "plinth", "parts"), nil
}

// validateChartsOf returns a validator that renders and checks the charts of the Installer among files. It uses no
// network: a chart that is neither beside the Installer nor in the user's cache of downloads is not checked.
func validateChartsOf(ctx context.Context, files []spec.File) spec.Validator {
	return func(in *spec.Installer) []spec.Violation {
		if len(in.Spec.Charts) == 0 {
			return nil
		}
		_, violations := charts.Inspect(in, charts.Source{Dir: installerFolder(files), Remote: func(c spec.Chart) ([]byte, error) { return cachedChart(ctx, c) }})
		return violations
	}
}

// installerFolder returns the folder of the Installer among files.
func installerFolder(files []spec.File) string {
	for _, f := range files {
		if in, _ := spec.ParseInstaller(f.Name, f.Data); in != nil {
			return filepath.Dir(f.Name)
		}
	}
	return "."
}

// cachedChart returns the archive of a chart from the user's cache of downloads.
func cachedChart(ctx context.Context, c spec.Chart) ([]byte, error) {
	dir, err := DownloadCache("")
	if err != nil {
		return nil, charts.ErrNotStored // a machine without a cache
	}
	archive, err := pull.StoredChart(ctx, dir, pull.Chart{Ref: c.Chart, Version: c.Version})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, charts.ErrNotStored
	}
	return archive, err
}
