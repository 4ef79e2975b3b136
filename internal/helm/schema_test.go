package helm

import (
	"encoding/json"
	"testing"
)

func TestExternalReference(t *testing.T) {
	for schema, want := range map[string]string{
		`{"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}`:              "",
		`{"$schema": "http://json-schema.org/draft-07/schema#"}`:                 "",
		`{"$schema": "https://json-schema.org/draft/2020-12/schema"}`:            "",
		`{"$id": "https://a.example/values.json", "$ref": "#a"}`:                 "",
		`{"properties": {"$ref": {"type": "string"}}}`:                           "",
		`{"properties": {"a": {"$ref": "https://a.example/b.json"}}}`:            "https://a.example/b.json",
		`{"allOf": [{"$ref": "http:\/\/a.example\/b.json"}]}`:                    "http://a.example/b.json",
		`{"$id": "http://a.example/", "$ref": "b.json"}`:                         "b.json",
		`{"$ref": "file:///etc/passwd"}`:                                         "file:///etc/passwd",
		`{"$dynamicRef": "https://a.example/b#c"}`:                               "https://a.example/b#c",
		`{"$schema": "http://a.example/draft.json"}`:                             "http://a.example/draft.json",
		`{"$schema": "http://json-schema.org/draft-07/schema/../../other.json"}`: "http://json-schema.org/draft-07/schema/../../other.json",
	} {
		t.Run(schema, func(t *testing.T) {
			var decoded any
			if err := json.Unmarshal([]byte(schema), &decoded); err != nil {
				t.Fatal(err)
			}
			if got := externalReference(decoded); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}
