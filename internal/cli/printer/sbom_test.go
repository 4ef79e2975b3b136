package printer

import (
	"strings"
	"testing"

	"github.com/plinthdev/plinth/airgap/sbom"
	"github.com/plinthdev/plinth/internal/action/bundle"
)

func TestWriteSBOM_ListsProgramsAndCountsSources(t *testing.T) {
	var made sbom.Statement
	made.Predicate.Build.Type = "by-recipe"
	b := bundle.Attestations{SBOM: sbom.Document{Packages: []sbom.Package{
		{ID: "1", Name: "example.com/app:1", Version: "1", Comment: "stand-in, built from example.com/app v2", Purpose: "CONTAINER", Declared: "MIT"},
		{ID: "2", Name: "/app", Version: "v1", Purpose: "APPLICATION", Declared: "NOASSERTION"},
		{ID: "3", Name: "example.com/lib", Purpose: "SOURCE"}},
		Relationships: []sbom.Relationship{{Element: "2", Type: "DEPENDS_ON", Related: "3"}}}, Provenance: []sbom.Statement{made}}
	var out strings.Builder
	WriteSBOM(&out, b, "b.bundle")
	for _, want := range []string{"image    example.com/app:1  1        0        MIT\n", "program  /app               v1       1        \n", "Of another version than the name says:\n  example.com/app:1: stand-in, built from example.com/app v2\n", "1 source in total", "1 statement of provenance with build type by-recipe", "Next: plinth bundle inspect --sbom -o json b.bundle"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, &out)
		}
	}
}
