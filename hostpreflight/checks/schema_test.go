package checks

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/testkit"
)

const schemaFile = "../../docs/reference/preflight.schema.json"

// TestReport_MatchesItsSchema compares docs/reference/preflight.schema.json with the types, and
// validates the golden report against it.
func TestReport_MatchesItsSchema(t *testing.T) {
	r := jsonschema.Reflector{DoNotReference: true, ExpandedStruct: true, AllowAdditionalProperties: true}
	s := r.Reflect(&hp.Report{})
	s.ID, s.Title = "", "result of plinth preflight -o json, schema 1"
	entry, _ := s.Properties.Get("results")
	state, _ := entry.Items.Properties.Get("state")
	for _, x := range []hp.State{hp.Pass, hp.Skipped, hp.Unknown, hp.Warn, hp.Fail} {
		state.Enum = append(state.Enum, x)
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	testkit.Golden(t, schemaFile, append(b, '\n'))
	doc, err := validator.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := validator.NewCompiler()
	if err := c.AddResource("report", doc); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("testdata/report.json")
	if err != nil {
		t.Fatal(err)
	}
	golden, err := validator.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.MustCompile("report").Validate(golden); err != nil {
		t.Error(err)
	}
	golden.(map[string]any)["results"].([]any)[0].(map[string]any)["state"] = "perhaps"
	if c.MustCompile("report").Validate(golden) == nil {
		t.Error("a state that does not exist is accepted")
	}
}
