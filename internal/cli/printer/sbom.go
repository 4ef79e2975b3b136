package printer

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/plinthdev/plinth/internal/action/bundle"
	"github.com/plinthdev/plinth/internal/ui"
)

// WriteSBOM writes what the images, host files and programs of a bundle were
// built from.
func WriteSBOM(w io.Writer, b bundle.Attestations, path string) {
	sources := map[string]int{}
	for _, r := range b.SBOM.Relationships {
		if r.Type == "DEPENDS_ON" || r.Type == "GENERATED_FROM" {
			sources[r.Element]++
		}
	}
	t := newTable(w, "KIND", "NAME", "VERSION", "SOURCES", "LICENSE")
	total := 0
	var standIns []string
	for _, p := range b.SBOM.Packages {
		kind := map[string]string{"CONTAINER": "image", "APPLICATION": "program"}[p.Purpose]
		if kind == "" {
			total++
			continue
		}
		if p.Comment != "" {
			standIns = append(standIns, ui.CleanLine(p.Name+": "+p.Comment))
		}
		writeRow(t, kind, p.Name, p.Version, strconv.Itoa(sources[p.ID]), strings.TrimPrefix(p.Declared, "NOASSERTION"))
	}
	_ = t.Flush()
	if len(standIns) > 0 {
		fmt.Fprintln(w)
		writeList(w, "Of another version than the name says:", standIns)
	}
	types := map[string]int{}
	for _, s := range b.Provenance {
		types[s.Predicate.Build.Type]++
	}
	fmt.Fprintf(w, "\n%s in total, each with version and checksum; SPDX 2.3, created %s\n", ui.FormatCount(total, "source"), ui.CleanLine(b.SBOM.Created.Created))
	for _, k := range slices.Sorted(maps.Keys(types)) {
		fmt.Fprintf(w, "%s of provenance with build type %s\n", ui.FormatCount(types[k], "statement"), ui.CleanLine(k))
	}
	fmt.Fprintf(w, "\nNext: plinth bundle inspect --sbom -o json %s\n", QuoteShellWord(path))
}
