// Package release owns what an application's vendor hands to its customer: the
// .airgap bundle and the license. It proves beforehand what KOTS finds out once
// the cluster is up, and refuses to judge what only KOTS can: whether a license
// is genuine.
package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/problem"
)

// Bounds of what is read from an application bundle, so that a damaged or
// hostile one cannot fill the memory: manifests are text.
const (
	maxManifest   = 8 << 20 // airgap.yaml, and each file of a release
	maxRelease    = 2 << 30 // all files of a release, unpacked
	maxReleaseDoc = 1 << 20 // one YAML document of a release
)

// Bundle is what an application's .airgap file says of itself.
type Bundle struct {
	Slug         string   // of the application
	Channel      string   // name of the release channel
	VersionLabel string   // "1.4.2", as the vendor calls the release
	UpdateCursor string   // KOTS's number of the release in its channel
	Format       string   // of the images in it: docker, docker-archive or "" for the latter
	Images       []string // references of the images in it
	Application  []byte   // the kots.io/v1beta1 Application document; nil when the release has none
}

// airgapManifest is what is read of airgap.yaml (kots.io/v1beta1 Airgap).
type airgapManifest struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Spec       struct {
		AppSlug      string   `yaml:"appSlug"`
		ChannelName  string   `yaml:"channelName"`
		VersionLabel string   `yaml:"versionLabel"`
		UpdateCursor string   `yaml:"updateCursor"`
		Format       string   `yaml:"format"`
		SavedImages  []string `yaml:"savedImages"`
	} `yaml:"spec"`
}

// ReadBundle reads the head of an .airgap file: its airgap.yaml and the
// Application of its app.tar.gz. It does not read the images, which follow
// them and are nearly all of the file. A file that KOTS would refuse, or take
// and then fail to run, is a Problem with exit code 6.
func ReadBundle(path string) (Bundle, error) {
	f, err := os.Open(path)
	if err != nil {
		return Bundle{}, problem.New(problem.ExitUsage, "open the application bundle", err, "check the path given with --app-bundle")
	}
	defer func() { _ = f.Close() }()
	b, err := readBundle(f)
	if err != nil {
		return b, problem.New(problem.ExitBundle, "use the application bundle "+path, err,
			"download the .airgap file again, or ask the application's vendor for it")
	}
	return b, nil
}

func readBundle(r io.Reader) (Bundle, error) {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return Bundle{}, fmt.Errorf("not an .airgap file: %w", err)
	}
	var (
		b               Bundle
		manifest        *airgapManifest
		release, images bool
		tr              = tar.NewReader(zip)
	)
	for manifest == nil || !release || !images {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return b, fmt.Errorf("damaged: %w", err)
		}
		switch {
		case h.Name == "airgap.yaml":
			if manifest, err = readAirgap(tr); err != nil {
				return b, fmt.Errorf("airgap.yaml: %w", err)
			}
		case h.Name == "app.tar.gz":
			if b.Application, err = findApplication(tr); err != nil {
				return b, fmt.Errorf("app.tar.gz: %w", err)
			}
			release = true
		case !images && isImages(h.Name):
			images = true
			if err := checkImagesEntry(h, manifest); err != nil {
				return b, err
			}
		}
	}
	if manifest == nil || !release {
		return b, errors.New("it lacks airgap.yaml or app.tar.gz")
	}
	s := manifest.Spec
	b.Slug, b.Channel, b.VersionLabel, b.UpdateCursor = s.AppSlug, s.ChannelName, s.VersionLabel, s.UpdateCursor
	b.Format, b.Images = s.Format, s.SavedImages
	return b, nil
}

func isImages(name string) bool { return name == "images" || strings.HasPrefix(name, "images/") }

// checkImagesEntry refuses what KOTS takes in silence and then cannot run: it
// pushes the images of a docker-archive bundle only if there is a folder entry
// named exactly "images".
func checkImagesEntry(h *tar.Header, m *airgapManifest) error {
	if m == nil || m.Spec.Format != "" && m.Spec.Format != "docker-archive" {
		return nil
	}
	if h.Name == "images" && h.Typeflag == tar.TypeDir {
		return nil
	}
	return fmt.Errorf("its first entry for images is %q, not a folder named \"images\": KOTS would not push the images, and say nothing", h.Name)
}

func readAirgap(r io.Reader) (*airgapManifest, error) {
	b, err := readSmall(r, maxManifest)
	if err != nil {
		return nil, err
	}
	m := &airgapManifest{}
	if err := yaml.Unmarshal(b, m); err != nil {
		return nil, err
	}
	switch {
	case m.APIVersion != "kots.io/v1beta1" || m.Kind != "Airgap":
		return nil, fmt.Errorf("is a %q of %q, not an Airgap of kots.io/v1beta1", m.Kind, m.APIVersion)
	case m.Spec.AppSlug == "":
		return nil, errors.New("spec.appSlug is empty")
	}
	return m, nil
}

// findApplication returns the first Application document of a release, in the
// order in which KOTS walks its files: by path. nil when there is none.
func findApplication(r io.Reader) ([]byte, error) {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	var (
		found, first string
		tr           = tar.NewReader(io.LimitReader(zip, maxRelease))
	)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg || h.Size > maxManifest || found != "" && h.Name >= first {
			continue
		}
		b, err := readSmall(tr, maxManifest)
		if err != nil {
			return nil, err
		}
		if doc := applicationIn(b); doc != "" {
			found, first = doc, h.Name
		}
	}
	if found == "" {
		return nil, nil
	}
	return []byte(found), nil
}

// applicationIn returns the first Application document of a YAML stream.
func applicationIn(b []byte) string {
	if !bytes.Contains(b, []byte("kots.io/v1beta1")) {
		return ""
	}
	docs := splitDocuments(string(b))
	i := slices.IndexFunc(docs, func(doc string) bool {
		var kind struct {
			APIVersion string `yaml:"apiVersion"`
			Kind       string `yaml:"kind"`
		}
		return len(doc) <= maxReleaseDoc && yaml.Unmarshal([]byte(doc), &kind) == nil &&
			kind.APIVersion == "kots.io/v1beta1" && kind.Kind == "Application"
	})
	if i < 0 {
		return ""
	}
	return docs[i]
}

func splitDocuments(text string) []string {
	var (
		docs []string
		doc  strings.Builder
	)
	for line := range strings.Lines(text) {
		if strings.TrimRight(line, " \r\n") == "---" {
			docs = append(docs, doc.String())
			doc.Reset()
			continue
		}
		doc.WriteString(line)
	}
	return append(docs, doc.String())
}

// readSmall reads all of r, which must not be longer than most bytes.
func readSmall(r io.Reader, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(b)) > most {
		return nil, fmt.Errorf("longer than %d MiB", most>>20)
	}
	return b, err
}
