package charts

import (
	"bytes"
	_ "embed"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	"gopkg.in/yaml.v3"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/plinthdev/plinth/internal/spec"
)

//go:embed imagefields.yaml
var imageFieldsFile []byte

// imageFields is the content of imagefields.yaml.
type imageFields struct {
	Fields []struct {
		Group string   `yaml:"group"`
		Kind  string   `yaml:"kind"`
		Paths []string `yaml:"paths"`
	} `yaml:"fields"`
	Flags       []string `yaml:"flags"`
	Environment []string `yaml:"environment"`
}

// knownFields decodes imagefields.yaml once. A test decodes it too, so it cannot fail in a released build.
var knownFields = sync.OnceValue(func() (f imageFields) {
	d := yaml.NewDecoder(bytes.NewReader(imageFieldsFile))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil {
		panic("internal/charts/imagefields.yaml: " + err.Error())
	}
	return f
})

// FoundImages is what the objects of a chart say about images.
type FoundImages struct {
	Images  []Image // each reference once, in order
	Unknown []Image // texts that look like an image, and that no rule finds
	Invalid []Image // texts where an image is expected that are no reference
}

// FindImages returns the images in the objects of a chart: of the containers and volumes of pods in objects of any
// kind, and in the fields, arguments and variables of imagefields.yaml.
func FindImages(objects []Object) FoundImages {
	f := imageFinder{seen: map[string]bool{}, unknown: map[string]bool{}}
	for _, obj := range objects {
		for _, pod := range podTemplates(obj) {
			if !pod.isForWindows() {
				f.addPod(pod)
			}
		}
		f.addFields(obj)
	}
	for _, obj := range objects {
		if obj.GetKind() != "CustomResourceDefinition" {
			f.addUnknown(obj, obj.Object)
		}
	}
	return f.FoundImages
}

// imageFinder collects images.
type imageFinder struct {
	FoundImages
	seen    map[string]bool // references and the texts that named them
	unknown map[string]bool
}

// add adds the image that text names; an empty text is none.
func (f *imageFinder) add(obj Object, text string) {
	if text == "" || f.seen[text] {
		return
	}
	f.seen[text] = true
	ref := normalizeReference(text)
	if ref == "" {
		f.Invalid = append(f.Invalid, Image{text, obj.String()})
		return
	}
	if !slices.ContainsFunc(f.Images, func(i Image) bool { return i.Ref == ref }) {
		f.seen[ref] = true
		f.Images = append(f.Images, Image{ref, obj.String()})
	}
}

// addPod adds the images of a pod spec.
func (f *imageFinder) addPod(pod podTemplate) {
	for _, c := range pod.containers() {
		f.add(pod.Object, textOf(c, "image"))
		f.addArguments(pod.Object, c)
		env, _ := c["env"].([]any)
		for _, item := range env {
			variable, _ := item.(map[string]any)
			for _, pattern := range knownFields().Environment {
				if matched, _ := path.Match(pattern, textOf(variable, "name")); matched {
					f.add(pod.Object, textOf(variable, "value"))
				}
			}
		}
	}
	volumes, _ := pod.spec["volumes"].([]any)
	for _, item := range volumes {
		volume, _ := item.(map[string]any)
		image, _ := volume["image"].(map[string]any) // Kubernetes 1.33: image volumes
		f.add(pod.Object, textOf(image, "reference"))
	}
}

// addArguments adds the images in the arguments of a container that are known to name one.
func (f *imageFinder) addArguments(obj Object, container map[string]any) {
	var all []string
	for _, key := range []string{"command", "args"} {
		items, _ := container[key].([]any)
		for _, item := range items {
			text, _ := item.(string)
			all = append(all, text)
		}
	}
	for i, arg := range all {
		flag, value, hasValue := strings.Cut(arg, "=")
		if !slices.Contains(knownFields().Flags, flag) {
			continue
		}
		if !hasValue && i+1 < len(all) {
			value = all[i+1]
		}
		f.add(obj, value)
	}
}

// addFields adds the images of a custom resource whose kind is known.
func (f *imageFinder) addFields(obj Object) {
	group := schema.FromAPIVersionAndKind(obj.GetAPIVersion(), "").Group
	for _, row := range knownFields().Fields {
		if row.Group != group || row.Kind != obj.GetKind() {
			continue
		}
		for _, field := range row.Paths {
			f.addValue(obj, valueAt(obj.Object, field))
		}
	}
}

// addValue adds the image in the value of a field: a text, or a mapping with repository and tag.
func (f *imageFinder) addValue(obj Object, value any) {
	switch v := value.(type) {
	case string:
		f.add(obj, v)
	case map[string]any:
		if repository, tag := textOf(v, "repository"), textOf(v, "tag"); repository != "" && tag != "" {
			f.add(obj, repository+":"+tag)
		}
	}
}

// valueAt returns the value at a path of keys; nil if there is none.
func valueAt(root map[string]any, path string) any {
	var at any = root
	for key := range strings.SplitSeq(path, ".") {
		m, _ := at.(map[string]any)
		at = m[key]
	}
	return at
}

// likeImage matches a word that looks like an image: a registry with a dot or a port, or docker.io, a path and a tag
// or digest.
var likeImage = regexp.MustCompile(`^(?:[a-z0-9-]+(?:\.[a-z0-9-]+)+(?::[0-9]+)?|localhost(?::[0-9]+)?)(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)+(?::[A-Za-z0-9_][A-Za-z0-9_.-]*[A-Za-z0-9_]|:[0-9]+|@sha256:[0-9a-f]{64})$`)

// imageLine matches a line of a manifest in a text that names an image.
var imageLine = regexp.MustCompile(`(?m)^[ \t]*(?:- )?image:[ \t]*["']?([a-z0-9][A-Za-z0-9._/:@-]*)["']?[ \t]*$`)

// maxScannedText is the length of the longest text that is searched for images, in bytes.
const maxScannedText = 256 << 10

// addUnknown adds the texts in v that look like images and are none that was found. Texts of several lines can be
// manifests themselves.
func (f *imageFinder) addUnknown(obj Object, v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range sortedKeys(v) {
			if key != "labels" && key != "annotations" {
				f.addUnknown(obj, v[key])
			}
		}
	case []any:
		for _, child := range v {
			f.addUnknown(obj, child)
		}
	case string:
		if len(v) > maxScannedText {
			return
		}
		for _, match := range imageLine.FindAllStringSubmatch(v, -1) {
			f.addSuspect(obj, match[1])
		}
		isBreak := func(r rune) bool { return r <= ' ' || strings.ContainsRune("=,;\"'`()[]{}<>|", r) }
		for _, word := range strings.FieldsFunc(v, isBreak) {
			if likeImage.MatchString(word) && !likeAddress.MatchString(word) {
				f.addSuspect(obj, word)
			}
		}
	}
}

// likeAddress matches a host with a path and a port behind, or a name of an API: neither is an image.
var likeAddress = regexp.MustCompile(`\.svc(\.|/|:)|\.cluster\.local|\.k8s\.io/v[0-9]`)

// addSuspect adds a text that looks like an image.
func (f *imageFinder) addSuspect(obj Object, text string) {
	ref := normalizeReference(text)
	if ref == "" || f.seen[text] || f.seen[ref] || f.unknown[ref] {
		return
	}
	f.unknown[ref] = true
	f.Unknown = append(f.Unknown, Image{ref, obj.String()})
}

// normalizeReference returns the full reference that containerd gives to an image: with registry and namespace, with
// the tag latest if there is none, and without the tag if there is a digest. It returns "" for a text that is no
// reference.
func normalizeReference(text string) string {
	if strings.Contains(text, "://") { // a URL; its scheme would count as a registry with an empty port
		return ""
	}
	repository, digest, hasDigest := strings.Cut(text, "@")
	if hasDigest {
		if colon := strings.LastIndex(repository, ":"); colon > strings.LastIndex(repository, "/") {
			repository = repository[:colon]
		}
		text = repository + "@" + digest
	}
	ref, err := name.ParseReference(text)
	if err != nil {
		return ""
	}
	return strings.Replace(ref.Name(), "index.docker.io/", "docker.io/", 1)
}

// checkImages reports what is doubtful about the images of a chart.
func (x *inspection) checkImages(c spec.Chart, found FoundImages) {
	for _, i := range found.Invalid {
		x.report("chart-render", "", fmt.Sprintf("%s: %q is not a reference of an image", i.Template, i.Ref), "correct the values of the chart that name it")
	}
	for _, i := range found.Images {
		if strings.HasSuffix(i.Ref, ":latest") {
			x.report("chart-image-tag", "", fmt.Sprintf("%s: %s has no exact tag: its content can change, and kubelet pulls it at every start", i.Template, i.Ref), "set an exact tag in the values of the chart")
		}
	}
	for _, i := range found.Unknown {
		if !slices.ContainsFunc(c.AdditionalImages, func(ref string) bool { return normalizeReference(ref) == i.Ref }) {
			x.report("chart-image-unknown", "", fmt.Sprintf("%s: %s looks like an image, and is not in the bundle", i.Template, i.Ref), "if pods use it, add it to additionalImages")
		}
	}
}
