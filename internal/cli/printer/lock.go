package printer

import (
	"fmt"
	"io"

	"github.com/plinthdev/plinth/internal/action/bundle"
	"github.com/plinthdev/plinth/internal/ui"
)

// WriteLockResult writes what was locked for each platform, and what changed.
func WriteLockResult(w io.Writer, r bundle.LockResult) {
	for _, p := range r.Platforms {
		var size int64
		for _, f := range p.HostFiles {
			size += f.Size
		}
		for _, i := range p.Images {
			size += i.Size
		}
		for _, c := range p.Charts {
			size += c.Size
		}
		more := ""
		if len(p.Charts) > 0 {
			more = ", " + ui.FormatCount(len(p.Charts), "chart")
		}
		fmt.Fprintf(w, "%s: %s, %s%s, %s\n", p.Name, ui.FormatCount(len(p.HostFiles), "host file"), ui.FormatCount(len(p.Images), "image"), more, ui.FormatBytes(size))
	}
	for _, c := range r.Changes {
		fmt.Fprintf(w, "\nChanged for %s:\n", c.Platform)
		for _, d := range c.Differences {
			fmt.Fprintln(w, "  "+ui.CleanLine(d.String()))
		}
	}
	fmt.Fprintf(w, "\nWritten to %s: commit it beside the Installer, and build with --locked.\n", ui.CleanLine(r.Path))
}
