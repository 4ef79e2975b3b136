package printer

import (
	"cmp"
	"fmt"
	"io"

	"github.com/plinthdev/plinth/internal/action/config"
)

// WriteAddOnList writes a table of the add-ons that this build knows.
func WriteAddOnList(w io.Writer, l config.AddOnList) {
	t := newTable(w, "ADD-ON", "PROJECT", "KEY", "VERSIONS", "LICENSE")
	for _, a := range l.AddOns {
		writeRow(t, a.Name, a.Title, "spec."+a.Key, shortenVersions(a.Supported), cmp.Or(a.License, "-"))
	}
	_ = t.Flush()
	fmt.Fprintln(w, "\nAny other Helm chart: spec.charts of the Installer, see docs/guide/addons.md.")
	writeNextCommand(w, "plinth addons show NAME")
}

// WriteAddOn writes an add-on with its images.
func WriteAddOn(w io.Writer, a config.AddOnInfo) {
	fmt.Fprintf(w, "%s (%s)\n\n", a.Title, a.Name)
	t := newTable(w, "KEY", "spec."+a.Key)
	writeRow(t, "VERSIONS", a.Supported)
	writeRow(t, "LICENSE", cmp.Or(a.License, "-"))
	_ = t.Flush()
	switch {
	case a.Note != "":
		fmt.Fprintln(w, "\n"+a.Note)
	case a.Version != "":
		fmt.Fprintf(w, "\nImages of %s:\n", a.Version)
	default:
		fmt.Fprintln(w, "\nImages of the newest versions; for those of one, add --addon-version VERSION:")
	}
	for _, ref := range a.Images {
		fmt.Fprintln(w, "  "+ref)
	}
}

// maxVersionsText is the length of the longest list of versions in a table.
const maxVersionsText = 40

// shortenVersions returns the versions of an add-on for a table.
func shortenVersions(text string) string {
	if len(text) <= maxVersionsText {
		return text
	}
	return text[:maxVersionsText] + "…"
}
