package helm

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
)

// ErrSchemaNotFollowed means that values were not compared with a schema, because it refers to another document. To follow
// that would make the result depend on the network and on files of the machine.
var ErrSchemaNotFollowed = errors.New("refers to another document")

// ValidateValues returns an error if the values of the release do not fit the values.schema.json of its chart or of
// its dependencies, or an ErrSchemaNotFollowed.
func (r Release) ValidateValues() (err error) {
	defer recoverRender(&err)
	ch, err := LoadChart(r.Archive)
	if err != nil {
		return err
	}
	given := maps.Clone(r.Values)
	if given == nil {
		given = map[string]any{}
	}
	if err := chartutil.ProcessDependenciesWithMerge(ch, given); err != nil {
		return err
	}
	if err := checkReferences(ch); err != nil {
		return err
	}
	values, err := chartutil.CoalesceValues(ch, given)
	if err != nil {
		return err
	}
	return chartutil.ValidateAgainstSchema(ch, values)
}

// checkReferences returns an ErrSchemaNotFollowed for the first schema of ch or of its dependencies that refers to another document.
func checkReferences(ch *chart.Chart) error {
	var schema any
	if json.Unmarshal(ch.Schema, &schema) == nil { // ValidateAgainstSchema reports invalid JSON
		if ref := externalReference(schema); ref != "" {
			return fmt.Errorf("the values.schema.json of %s %w: %s", ch.Name(), ErrSchemaNotFollowed, ref)
		}
	}
	for _, sub := range ch.Dependencies() {
		if err := checkReferences(sub); err != nil {
			return err
		}
	}
	return nil
}

// metaSchema matches the drafts of JSON Schema that the validation has built in
// (github.com/santhosh-tekuri/jsonschema, draft.go). It would download another one.
var metaSchema = regexp.MustCompile(`^https?://json-schema\.org/(draft-0[467]/|draft/20(19-09|20-12)/)?schema#?$`)

// externalReference returns the first reference of a schema, in the order of its keys, that is not one within it: a $ref
// or $dynamicRef without a leading #, or a $schema that is not a draft of JSON Schema. It returns "" if there is none.
func externalReference(schema any) string {
	switch s := schema.(type) {
	case []any:
		for _, item := range s {
			if ref := externalReference(item); ref != "" {
				return ref
			}
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(s)) {
			text, isText := s[key].(string)
			switch {
			case !isText:
				if ref := externalReference(s[key]); ref != "" {
					return ref
				}
			case (key == "$ref" || key == "$dynamicRef" || key == "$recursiveRef") && !strings.HasPrefix(text, "#"),
				key == "$schema" && !metaSchema.MatchString(text):
				return text
			}
		}
	}
	return ""
}
