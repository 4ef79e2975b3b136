// Package bill owns how a bundle's SBOM and provenance are written for a
// person. It refuses to decide anything.
package bill

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/plinthdev/plinth/internal/app/vendor"
	"github.com/plinthdev/plinth/internal/cli/answer"
)

// Write lists what a bundle's images, host files and programs were made of.
func Write(w io.Writer, b vendor.Bill, path string) {
	sources := map[string]int{}
	for _, r := range b.SBOM.Relationships {
		if r.Type == "DEPENDS_ON" || r.Type == "GENERATED_FROM" {
			sources[r.Element]++
		}
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "KIND\tNAME\tVERSION\tSOURCES\tLICENCE")
	total := 0
	for _, p := range b.SBOM.Packages {
		kind := map[string]string{"CONTAINER": "image", "APPLICATION": "program"}[p.Purpose]
		if kind == "" {
			total++
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\n", kind, p.Name, p.Version, sources[p.ID], strings.TrimPrefix(p.Declared, "NOASSERTION"))
	}
	_ = t.Flush()
	types := map[string]int{}
	for _, s := range b.Provenance {
		types[s.Predicate.Build.Type]++
	}
	fmt.Fprintf(w, "\n%s in all, each with version and sum; SPDX 2.3 of %s\n", answer.Count(total, "source"), b.SBOM.Created.Created)
	for _, k := range slices.Sorted(maps.Keys(types)) {
		fmt.Fprintf(w, "%s of provenance by %s\n", answer.Count(types[k], "statement"), k)
	}
	fmt.Fprintf(w, "\nNext: plinth bundle inspect --sbom -o json %s\n", answer.Quote(path))
}
