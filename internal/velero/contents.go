package velero

import (
	"archive/tar"
	"cmp"
	"compress/flate"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/problem"
)

// Contents are the contents of a snapshot, as far as a restore depends on them.
type Contents struct {
	Volumes []VolumeData // with data, sorted
	// Missing are the volumes that a pod has marked and that are not in it: Velero leaves out volumes of the type hostPath, and
	// those of markedNames.
	Missing []string
	// RegistryPassword is the password by which the application pulls its images from the built-in registry; "" for none.
	// It is secret.
	RegistryPassword string
	// Images are the images of the console and its database, by the containers that have them.
	Images []ContainerImage
}

// ContainerImage is the image of a container of the console.
type ContainerImage struct {
	Resource  string // "pods" or "statefulsets.apps"
	Namespace string
	Name      string // of the object
	List      string // "containers" or "initContainers"
	Container string
	Ref       string
}

// Bytes returns the size of the data of all volumes.
func (c Contents) Bytes() (n int64) {
	for _, v := range c.Volumes {
		n += v.Bytes
	}
	return n
}

// ErrDamaged is the error of a snapshot whose files are not as Velero has written them.
var ErrDamaged = errors.New("it is damaged or not complete")

// ReadContents reads a complete snapshot: its objects, and which data of volumes belong to it. The data are not read. A
// snapshot that is not as its description says is an error that wraps ErrDamaged.
func ReadContents(ctx context.Context, b Objects, s Snapshot) (c Contents, err error) {
	damaged := func(file string, err error) error {
		var corrupt *json.SyntaxError
		var packed flate.CorruptInputError
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, io.ErrUnexpectedEOF) ||
			errors.Is(err, tar.ErrHeader) || errors.Is(err, errTooLarge) || errors.As(err, &corrupt) || errors.As(err, &packed) {
			return fmt.Errorf("%w: %s: %w", ErrDamaged, file, problem.PathCause(err))
		}
		return err
	}
	dir := backupsPrefix + s.Name + "/"
	if c.Volumes, err = readVolumes(ctx, b, dir+s.Name+volumesSuffix); err != nil {
		return c, damaged(s.Name+volumesSuffix, err)
	}
	marked, err := readObjects(ctx, b, dir+s.Name+contentsSuffix, s, &c)
	if err != nil {
		return c, damaged(s.Name+contentsSuffix, err)
	}
	for _, m := range marked {
		if !slices.ContainsFunc(c.Volumes, func(v VolumeData) bool { return v.String() == m }) {
			c.Missing = append(c.Missing, m)
		}
	}
	slices.Sort(c.Missing)
	if err := checkRepositories(ctx, b, c.Volumes); err != nil {
		return c, err
	}
	return c, nil
}

// podVolumeBackup is the part of a PodVolumeBackup that is read.
type podVolumeBackup struct {
	Spec struct {
		Pod    struct{ Namespace, Name string } `json:"pod"`
		Volume string                           `json:"volume"`
	} `json:"spec"`
	Status struct {
		Phase    string `json:"phase"`
		Message  string `json:"message"`
		Progress struct {
			TotalBytes int64 `json:"totalBytes"`
		} `json:"progress"`
	} `json:"status"`
}

// readVolumes returns the volumes with data in a snapshot.
func readVolumes(ctx context.Context, b Objects, key string) (volumes []VolumeData, err error) {
	r, err := openZip(ctx, b, key)
	if err != nil {
		return nil, err
	}
	raw, err := readLimited(r, maxVolumes)
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	var all []podVolumeBackup
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, err
	}
	for _, p := range all {
		v := VolumeData{p.Spec.Pod.Namespace, p.Spec.Pod.Name, p.Spec.Volume, p.Status.Progress.TotalBytes}
		if p.Status.Phase != phaseCompleted {
			return nil, fmt.Errorf("%w: the volume %s is %q %s", ErrDamaged, v, p.Status.Phase, p.Status.Message)
		}
		volumes = append(volumes, v)
	}
	slices.SortFunc(volumes, func(x, y VolumeData) int { return strings.Compare(x.String(), y.String()) })
	return volumes, nil
}

// openZip opens an object that is packed with gzip.
func openZip(ctx context.Context, b Objects, key string) (io.ReadCloser, error) {
	r, err := b.Open(ctx, key)
	if err != nil {
		return nil, err
	}
	zip, err := gzip.NewReader(r)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{zip, r}, nil
}

// readObjects reads the objects in a snapshot into c, and returns the volumes that running pods have marked.
func readObjects(ctx context.Context, b Objects, key string, s Snapshot, c *Contents) (marked []string, err error) {
	r, err := openZip(ctx, b, key)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	in := &io.LimitedReader{R: r, N: maxContents}
	archive := tar.NewReader(in)
	for {
		h, err := archive.Next()
		switch {
		case in.N == 0:
			return nil, errTooLarge
		case errors.Is(err, io.EOF):
			_, err = io.Copy(io.Discard, in) // the checksum of gzip is at the end
			return marked, err
		case err != nil:
			return nil, err
		}
		resource, namespace, ok := objectPath(h.Name)
		if !ok || h.Typeflag != tar.TypeReg {
			continue
		}
		raw, err := readLimited(archive, maxObject)
		if err != nil {
			return nil, err
		}
		var obj unstructured.Unstructured
		if err := json.Unmarshal(raw, &obj.Object); err != nil {
			return nil, err
		}
		switch resource {
		case "secrets":
			if password := pullPassword(&obj, s.Registry); password != "" && namespace == s.Namespace {
				c.RegistryPassword = password
			}
			continue
		case "pods":
			marked = append(marked, markedVolumes(&obj)...)
		}
		if namespace == s.Namespace && obj.GetLabels()[consoleLabel] == "true" {
			c.Images = append(c.Images, containerImages(resource, &obj)...)
		}
	}
}

// consoleLabel is the label of the objects of a console (KOTS 1.131.2, pkg/kotsadm/types/constants.go).
const consoleLabel = "kots.io/kotsadm"

// objectPath returns the resource and the namespace of an object by its path in the archive, for the resources that are
// read. The archive has each object a second time below the version of its API.
func objectPath(name string) (resource, namespace string, ok bool) {
	parts := strings.Split(path.Clean(name), "/")
	if len(parts) != 5 || parts[0] != "resources" || parts[2] != "namespaces" {
		return "", "", false
	}
	return parts[1], parts[3], slices.Contains([]string{"pods", "secrets", "statefulsets.apps"}, parts[1])
}

// markedVolumes returns the volumes that a running pod has marked for snapshots. A name that none of its volumes has marks
// nothing, as for Velero.
func markedVolumes(pod *unstructured.Unstructured) (marked []string) {
	if phase, _, _ := unstructured.NestedString(pod.Object, "status", "phase"); phase != "Running" {
		return nil
	}
	volumes, _, _ := unstructured.NestedSlice(pod.Object, "spec", "volumes")
	for _, name := range markedNames(pod.GetAnnotations()) {
		if slices.ContainsFunc(volumes, func(v any) bool { m, _ := v.(map[string]any); return name != "" && m["name"] == name }) {
			marked = append(marked, VolumeData{Namespace: pod.GetNamespace(), Pod: pod.GetName(), Name: name}.String())
		}
	}
	return marked
}

// pullPassword returns the password for the registry in a pull secret, "" for none.
func pullPassword(secret *unstructured.Unstructured, registry string) string {
	text, _, _ := unstructured.NestedString(secret.Object, "data", ".dockerconfigjson")
	raw, err := base64.StdEncoding.DecodeString(text)
	if registry == "" || err != nil {
		return ""
	}
	var config struct {
		Auths map[string]struct{ Auth, Password string } `json:"auths"`
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		return ""
	}
	found := config.Auths[registry]
	if found.Password != "" {
		return found.Password
	}
	pair, _ := base64.StdEncoding.DecodeString(found.Auth)
	_, password, _ := strings.Cut(string(pair), ":")
	return password
}

// containerImages returns the images of the containers of a pod or a StatefulSet.
func containerImages(resource string, obj *unstructured.Unstructured) (images []ContainerImage) {
	prefix := []string{"spec"}
	if resource != "pods" {
		prefix = []string{"spec", "template", "spec"}
	}
	for _, list := range []string{"initContainers", "containers"} {
		fields := append(slices.Clone(prefix), list)
		containers, _, _ := unstructured.NestedSlice(obj.Object, fields...)
		for _, x := range containers {
			m, _ := x.(map[string]any)
			if ref, _ := m["image"].(string); ref != "" {
				name, _ := m["name"].(string)
				images = append(images, ContainerImage{resource, obj.GetNamespace(), obj.GetName(), list, name, ref})
			}
		}
	}
	return images
}

// ReplaceImages returns the rules by which Velero restores the images of a console with those of a bundle: the ones
// that the bundle has under another tag or digest. An image of a repository that the bundle does not have stays. Lists of
// containers are merged by name, because Velero adds a container of its own to pods.
func ReplaceImages(images []ContainerImage, bundle []string) (rules []ModifierRule) {
	newest := map[string]string{}
	for _, ref := range bundle {
		newest[repository(ref)] = ref
	}
	patches := map[ModifierConditions]map[string][]any{}
	for _, i := range images {
		ref := newest[repository(i.Ref)]
		if ref == "" || ref == i.Ref {
			continue
		}
		on := ModifierConditions{Namespace: i.Namespace, GroupResource: i.Resource, Name: i.Name}
		if patches[on] == nil {
			patches[on] = map[string][]any{}
		}
		patches[on][i.List] = append(patches[on][i.List], map[string]string{"name": i.Container, "image": ref})
	}
	for on, lists := range patches {
		var patch any = map[string]any{"spec": lists}
		if on.GroupResource != "pods" {
			patch = map[string]any{"spec": map[string]any{"template": patch}}
		}
		rules = append(rules, ModifierRule{on, patch})
	}
	slices.SortFunc(rules, func(x, y ModifierRule) int {
		return cmp.Or(strings.Compare(x.On.GroupResource, y.On.GroupResource), strings.Compare(x.On.Namespace+"/"+x.On.Name, y.On.Namespace+"/"+y.On.Name))
	})
	return rules
}

// repository returns an image reference without its tag and digest.
func repository(ref string) string {
	ref, _, _ = strings.Cut(ref, "@")
	if i := strings.LastIndex(ref, ":"); i > strings.LastIndex(ref, "/") {
		return ref[:i]
	}
	return ref
}
