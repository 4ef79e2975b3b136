package release

import "sort"

// Application holds the values of an Application that Plinth uses, as KOTS decodes
// them: "" for one that is absent, null or of a wrong type.
type Application struct {
	Name, Title                       string
	MinKotsVersion, TargetKotsVersion string
	WrongTypes                        []WrongType // sorted by path; with any, KOTS cannot decode the Application
}

// WrongType is a value that KOTS does not accept.
type WrongType struct {
	Path        string // such as "spec.title"
	Want, Found string // in words: "text", "a number"
}

// specTypes are the types of the fields of spec (ApplicationSpec of kotskinds
// v0.0.0-20251219184143).
var specTypes = map[string]string{
	"additionalImages":             textList,
	"additionalNamespaces":         textList,
	"allowRollback":                boolean,
	"branding":                     mapping,
	"consoleFeatureFlags":          textList,
	"excludedImages":               textList,
	"graphs":                       list,
	"icon":                         text,
	"minKotsVersion":               text,
	"ports":                        list,
	"proxyPublicImages":            boolean,
	"proxyRegistryDomain":          text,
	"releaseNotes":                 text,
	"replicatedRegistryDomain":     text,
	"requireMinimalRBACPrivileges": boolean,
	"statusInformers":              textList,
	"supportMinimalRBACPrivileges": boolean,
	"targetKotsVersion":            text,
	"title":                        text,
}

// The types in words.
const (
	text     = "text"
	boolean  = "true or false"
	textList = "a list of text"
	list     = "a list"
	mapping  = "a mapping"
)

// DecodeApplication returns the Application in doc, for which IsApplication is true. The
// error is that of the YAML library, for example for a template that is not in quotes.
func DecodeApplication(doc []byte) (Application, error) {
	var m struct{ Metadata, Spec any }
	if err := unmarshal(doc, &m); err != nil {
		return Application{}, err
	}
	var app Application
	read := func(path string, v any, want string) string {
		if found := typeOf(v, want); v != nil && found != want {
			app.WrongTypes = append(app.WrongTypes, WrongType{path, want, found})
		}
		s, _ := v.(string)
		return s
	}
	read("metadata", m.Metadata, mapping)
	read("spec", m.Spec, mapping)
	meta, _ := m.Metadata.(map[any]any)
	spec, _ := m.Spec.(map[any]any)
	app.Name = read("metadata.name", meta["name"], text)
	values := map[string]string{}
	for key, want := range specTypes {
		values[key] = read("spec."+key, spec[key], want)
	}
	app.Title = values["title"]
	app.MinKotsVersion, app.TargetKotsVersion = values["minKotsVersion"], values["targetKotsVersion"]
	sort.Slice(app.WrongTypes, func(i, j int) bool { return app.WrongTypes[i].Path < app.WrongTypes[j].Path })
	return app, nil
}

// typeOf returns the type of v in words. It tells a list of text from another list only
// if want is one.
func typeOf(v any, want string) string {
	switch v := v.(type) {
	case string:
		return text
	case bool:
		return boolean
	case map[any]any:
		return mapping
	case []any:
		if want != textList {
			return list
		}
		for _, item := range v {
			if found := typeOf(item, ""); item != nil && found != text {
				return "a list with " + found
			}
		}
		return textList
	}
	return "a number"
}
