package bundle

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/airgap/pull"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/problem"
)

func TestOpenSource_RefusesInvalidSourcesBeforeDownloads(t *testing.T) {
	lines := write(t, "docker.io=harbor.example.com/hub\nnonsense\n")
	for name, c := range map[string]struct {
		source string
		d      Downloads
		part   string
	}{
		"URL as source":        {"https://example.com", Downloads{}, "--source is a URL"},
		"mirror with a folder": {"parts", Downloads{Mirrors: []string{"quay.io=example.com"}}, "are for --source registry"},
		"cache with a folder":  {"parts", Downloads{Cache: "c"}, "are for --source registry"},
		"bad mirror":           {fromRegistry, Downloads{Mirrors: []string{"quay.io"}}, "is not HOST=HOST/PATH"},
		"bad mirrors file":     {fromRegistry, Downloads{MirrorsFile: lines}, "line 2: "},
		"endless mirrors file": {fromRegistry, Downloads{MirrorsFile: "/dev/zero"}, "/dev/zero: it has more than 1048576 bytes"},
		"folder of mirrors":    {fromRegistry, Downloads{MirrorsFile: filepath.Dir(lines)}, ": is a directory"},
		"releases at no port":  {fromRegistry, Downloads{Releases: "https://example.com:99999/a"}, "is not an https URL"},
		"no mirrors file":      {fromRegistry, Downloads{MirrorsFile: "/no/such/file"}, "no such file"},
		"releases without TLS": {fromRegistry, Downloads{Releases: "ftp://example.com"}, "is not an https URL"},
		"releases with a path": {fromRegistry, Downloads{Releases: "example.com/github"}, "is not an https URL"},
		"releases, http":       {fromRegistry, Downloads{Releases: "http://example.com"}, "is plain http"},
		"releases, fragment":   {fromRegistry, Downloads{Releases: "http://127.0.0.1/rel#f"}, "is not an https URL"},
		"releases, query":      {fromRegistry, Downloads{Releases: "https://example.com/rel?"}, "is not an https URL"},
		"releases, user":       {fromRegistry, Downloads{Releases: "https://u:abc@example.com/rel"}, "has no user and no password"},
		"mirror above a path":  {fromRegistry, Downloads{Mirrors: []string{"docker.io=harbor.example.com/../d"}}, "is not the name of a repository"},
		"cache is a file":      {fromRegistry, Downloads{Cache: filepath.Join(lines, "x")}, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.source == fromRegistry && c.d.Cache == "" {
				c.d.Cache = t.TempDir()
			}
			_, _, err := openSource(t.Context(), c.source, c.d, "", "out")
			if problem.ExitCode(err) != problem.ExitUsage || problem.Hint(err) == "" || !strings.Contains(err.Error(), c.part) {
				t.Errorf("want %q, got %v", c.part, err)
			}
		})
	}
}

func TestOpenSource_WaitsForOtherBuildWithTheSameCache(t *testing.T) {
	noted := make(chan string, 9)
	d := Downloads{Cache: t.TempDir(), Note: func(text string) { noted <- text }}
	src, first, err := openSource(t.Context(), fromRegistry, d, "", "out")
	if err != nil || src.layout != d.Cache {
		t.Fatal(src.layout, err)
	}
	go func() {
		<-noted
		_ = first()
	}()
	_, second, err := openSource(t.Context(), fromRegistry, d, "", "out")
	if err != nil {
		t.Fatal(err)
	}
	if err := second(); err != nil {
		t.Error(err)
	}
}

func TestMirror_RefusesAnEmptyName(t *testing.T) {
	_, err := Mirror(t.Context(), MirrorRequest{Installer: "installer.yaml"})
	if problem.ExitCode(err) != problem.ExitUsage || problem.Hint(err) == "" || !strings.Contains(err.Error(), "the name of the folder is empty") {
		t.Error(err)
	}
}

func TestCacheFolder_FollowsXDG(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/var/cache/ci")
	if got, err := config.DownloadCache(""); got != "/var/cache/ci/plinth/parts" || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	if _, err := config.DownloadCache(""); problem.ExitCode(err) != problem.ExitUsage {
		t.Errorf("%v", err)
	}
}

func TestDownloads_FlagsComeBeforeTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mirrors")
	if err := os.WriteFile(file, []byte("quay.io=second.example.com\nghcr.io=third.example.com\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Downloads{Mirrors: []string{"quay.io=first.example.com"}, MirrorsFile: file}.parseMirrors()
	if err != nil || len(got) != 3 || got[0] != (pull.Mirror{Host: "quay.io", Target: "first.example.com"}) {
		t.Errorf("%+v, %v", got, err)
	}
}
