package k0s

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"github.com/k0sproject/k0s/pkg/apis/k0s/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/plinthdev/plinth/internal/spec"
)

//go:embed images.yaml
var imageTable []byte

// ListImagesArguments are the arguments with which a k0s executable prints the images of its default
// configuration, one reference per line. The configuration comes from standard input: without it k0s
// reads the file of an installed k0s.
func ListImagesArguments() []string { return []string{"airgap", "list-images", "--config", "-"} }

// EmptyConfig is a ClusterConfig without settings, for which k0s uses its defaults.
const EmptyConfig = "apiVersion: " + v1beta1.ClusterConfigAPIVersion + "\nkind: " + v1beta1.ClusterConfigKind + "\nmetadata: {name: k0s}\n"

// KnownImages returns the references of the images in the default configuration of a k0s version,
// such as v1.33.8+k0s.1; none for a version that images.yaml does not list.
func KnownImages(version string) ([]string, error) {
	table, err := readImageTable()
	return table[version], err
}

// KnownImageVersions returns the versions that images.yaml lists, sorted.
func KnownImageVersions() ([]string, error) {
	table, err := readImageTable()
	var all []string
	for version := range table {
		all = append(all, version)
	}
	slices.Sort(all)
	return all, err
}

func readImageTable() (table map[string][]string, err error) {
	if err := yaml.UnmarshalStrict(imageTable, &table); err != nil {
		return nil, fmt.Errorf("images.yaml: %w", err)
	}
	return table, nil
}

// ParseImageList returns the references in the output of a k0s executable that ran with
// ListImagesArguments. It returns an error if an image that a node needs is not among them.
func ParseImageList(out []byte) ([]string, error) {
	refs := strings.Fields(string(out))
	for _, image := range usedImages(v1beta1.DefaultClusterImages()) {
		if findTag(refs, image.Image) == "" {
			return nil, fmt.Errorf("its image list has no tag of %s", image.Image)
		}
	}
	return refs, nil
}

// Images returns the references of the images that a node with these settings runs, in the order in
// which it needs them.
func Images(s Settings) ([]string, error) {
	cfg, err := buildConfig(s)
	if err != nil {
		return nil, err
	}
	var refs []string
	for _, image := range usedImages(cfg.Spec.Images) {
		unused := image == cfg.Spec.Images.KubeProxy && !s.RunsKubeProxy() || image == cfg.Spec.Images.MetricsServer && s.NoMetricsServer
		if !unused {
			refs = append(refs, image.URI())
		}
	}
	return refs, nil
}

// InstallerImages returns the references of the images that nodes run with Installer in, whose k0s
// has the images defaults in its default configuration.
func InstallerImages(in *spec.Installer, defaults []string) ([]string, error) {
	// Any address and name will do: no image depends on them.
	s := NewSettings(in, Loopback, "localhost")
	s.Images = defaults
	return Images(s)
}

// usedImages returns the images that a node runs: the sandbox, those that make the node Ready, those
// of the system pods.
func usedImages(i *v1beta1.ClusterImages) []*v1beta1.ImageSpec {
	return []*v1beta1.ImageSpec{i.Pause, i.KubeRouter.CNI, i.KubeRouter.CNIInstaller, i.KubeProxy, i.CoreDNS, i.MetricsServer}
}

// setImageTags sets the tags of the images that a node runs to those that refs have. An image that
// refs do not contain keeps its tag. The registry is not compared: spec.images.repository of the
// Installer's overlay replaces it in the references of a bundle.
func setImageTags(images *v1beta1.ClusterImages, refs []string) {
	for _, image := range usedImages(images) {
		if tag := findTag(refs, image.Image); tag != "" {
			image.Version = tag
		}
	}
}

// findTag returns the tag that refs have for an image, whichever its registry; "" if they do not
// contain it.
func findTag(refs []string, image string) string {
	_, path, _ := strings.Cut(image, "/")
	for _, ref := range refs {
		at := strings.LastIndex(ref, ":")
		if at > 0 && strings.HasSuffix(ref[:at], "/"+path) {
			return ref[at+1:]
		}
	}
	return ""
}
