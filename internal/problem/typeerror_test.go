package problem_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/plinthdev/plinth/internal/problem"
)

func TestDescribeTypeError_UsesTheTermsOfYAML(t *testing.T) {
	type all struct {
		Text    string
		Flag    *bool
		List    []string
		Whole   int32
		Natural *uint64
		Number  float64
		Map     map[string]int
		Struct  struct{}
	}
	for text, want := range map[string]string{
		`{"text": 1.5}`:    "must be text, found a number",
		`{"text": [1]}`:    "must be text, found a list",
		`{"flag": "no"}`:   "must be true or false, found text",
		`{"list": {}}`:     "must be a list, found a mapping",
		`{"list": [true]}`: "must be text, found true or false",
		`{"whole": 1.5}`:   "must be a whole number, found 1.5",
		`{"whole": 1e99}`:  "must be a whole number, found 1e99",
		`{"natural": -1}`:  "must be a whole number from 0, found -1",
		`{"number": "1"}`:  "must be a number, found text",
		`{"map": []}`:      "must be a mapping, found a list",
		`{"struct": "x"}`:  "must be a mapping, found text",
	} {
		t.Run(text, func(t *testing.T) {
			var wrong *json.UnmarshalTypeError
			if err := json.Unmarshal([]byte(text), &all{}); !errors.As(err, &wrong) || problem.DescribeTypeError(wrong) != want {
				t.Errorf("%v, want %q", err, want)
			}
		})
	}
}
