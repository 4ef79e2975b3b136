package cli

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// buildInfo describes the build of this executable. Its JSON format is public.
type buildInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Date     string `json:"date,omitempty"` // of the commit, RFC 3339
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"` // os/arch
}

// BuildInfo returns the version from the linker, completed with what Go
// recorded about the build.
func (s *runner) BuildInfo() buildInfo {
	b := buildInfo{Version: s.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.readSettings(info)
	}
	return b
}

// readSettings fills in the commit from info, and the version if the linker
// did not set it.
func (b *buildInfo) readSettings(info *debug.BuildInfo) {
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Date = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
}

// WriteText writes the build info as text, one to three lines.
func (b *buildInfo) WriteText(w io.Writer) {
	fmt.Fprintf(w, "plinth %s\n", b.Version)
	if b.Commit != "" {
		changed := ""
		if b.Modified {
			changed = ", with local changes"
		}
		fmt.Fprintf(w, "commit %s of %s%s\n", b.Commit, b.Date, changed)
	}
	fmt.Fprintf(w, "%s, %s\n", b.Go, b.Platform)
}
