package kots

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseDeployedApps(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		want   []DeployedApp
		bad    string // in the error
	}{
		"none": {`{"results":[{"columns":["slug","kots_app_spec","resource_states"],"types":["text","text","text"]}]}`, nil, ""},
		"one whose objects are ready": {`{"results":[{"values":[["a","spec: {}","[{\"kind\":\"deployment\",\"namespace\":\"n\",\"name\":\"web\",\"state\":\"ready\"}]"]]}]}`,
			[]DeployedApp{{Slug: "a", Manifest: "spec: {}", Reports: true}}, ""},
		"the worst object is named": {`{"results":[{"values":[["a","x","[{\"kind\":\"deployment\",\"namespace\":\"n\",\"name\":\"web\",\"state\":\"updating\"},{\"kind\":\"service\",\"namespace\":\"n\",\"name\":\"db\",\"state\":\"unavailable\"}]"]]}]}`,
			[]DeployedApp{{Slug: "a", Manifest: "x", Reports: true, Reason: "service n/db is unavailable"}}, ""},
		"without statusInformers":                 {`{"results":[{"values":[["a","x","[]"],["b","y",null]]}]}`, []DeployedApp{{Slug: "a", Manifest: "x"}, {Slug: "b", Manifest: "y"}}, ""},
		"without a manifest":                      {`{"results":[{"values":[["a",null,null]]}]}`, []DeployedApp{{Slug: "a"}}, ""},
		"the database does not have these tables": {`{"results":[{"error":"no such table: app"}]}`, nil, "no such table"},
		"another answer":                          {`<html>`, nil, "database"},
		"other columns":                           {`{"results":[{"values":[["a"]]}]}`, nil, "columns"},
		"states of another form":                  {`{"results":[{"values":[["a","x","{}"]]}]}`, nil, "states"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseDeployedApps([]byte(c.answer))
			if c.bad == "" && err != nil || c.bad != "" && (err == nil || !strings.Contains(err.Error(), c.bad)) {
				t.Fatalf("%v, want %q", err, c.bad)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func FuzzParseDeployedApps(f *testing.F) {
	f.Add([]byte(`{"results":[{"values":[["a","x","[]"]]}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		apps, err := parseDeployedApps(raw)
		if err != nil && apps != nil {
			t.Errorf("%v with %v", apps, err)
		}
	})
}
