package printer

import (
	"bytes"
	"errors"
	"testing"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/ui"
)

func TestWriteErrorAndWriteJSON_PrintEachErrorOnce(t *testing.T) {
	var secrets ui.Secrets
	secrets.Hide("hunter22")
	one := problem.Newf(problem.ExitStep, "start k0s", "look at its log\nthen run it again", "it stopped: hunter22")
	two := errors.New("something else")
	for name, tc := range map[string]struct {
		err        error
		text, json string
	}{
		"none":    {nil, "", ""},
		"one":     {one, "cannot start k0s: it stopped: ***\n→ look at its log\n  then run it again\n", `{"v":1,"error":{"operation":"start k0s","cause":"it stopped: ***","hint":"look at its log\nthen run it again","exit":7}}` + "\n"},
		"unknown": {two, "something else\n", `{"v":1,"error":{"cause":"something else","exit":1}}` + "\n"},
		"several": {errors.Join(one, nil, two), "cannot start k0s: it stopped: ***\n→ look at its log\n  then run it again\nsomething else\n",
			`{"v":1,"error":{"operation":"start k0s","cause":"it stopped: ***","hint":"look at its log\nthen run it again","exit":7,"more":[{"cause":"something else","exit":1}]}}` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var text, doc bytes.Buffer
			WriteError(&text, tc.err, &secrets)
			if err := WriteJSON(&doc, nil, tc.err, &secrets); err != nil {
				t.Fatal(err)
			}
			if text.String() != tc.text || doc.String() != tc.json {
				t.Errorf("text %q\njson %q", text.String(), doc.String())
			}
		})
	}
}
