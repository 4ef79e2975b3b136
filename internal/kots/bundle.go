package kots

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/problem"
)

// Limits of what is read from an application bundle, so that a damaged or
// malicious one cannot exhaust the memory. Manifests are text.
const (
	maxManifest   = 8 << 20 // airgap.yaml, and each file of the release
	maxRelease    = 2 << 30 // all files of the release, unpacked
	maxReleaseDoc = 1 << 20 // one YAML document of the release
)

// AppBundle is the metadata of an application's .airgap file.
type AppBundle struct {
	Slug         string   // slug of the application
	Channel      string   // name of the release channel
	VersionLabel string   // version of the release given by the vendor, such as "1.4.2"
	UpdateCursor string   // number of the release in its channel, given by KOTS
	Format       string   // format of the images in it: docker, docker-archive or "" for docker-archive
	Images       []string // references of the images in it
	Application  []byte   // the kots.io/v1beta1 Application document; nil if the release has none
}

// airgapManifest are the fields that are read from airgap.yaml (kots.io/v1beta1
// Airgap).
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

// ReadAppBundle returns the metadata of an .airgap file, from its airgap.yaml
// and the Application in its app.tar.gz. It does not read the images, which
// follow them and are nearly all of the file. If KOTS would reject the file, or
// accept it and then fail to run the application, the error is a Problem with
// exit code 6. It finds before an install what KOTS finds only once the cluster
// is up.
func ReadAppBundle(path string) (AppBundle, error) {
	f, err := os.Open(path)
	if err != nil {
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		return AppBundle{}, problem.New(problem.ExitUsage, "open the application bundle "+path, err, "check the path given with --app-bundle")
	}
	defer func() { _ = f.Close() }()
	b, err := parseAppBundle(f)
	if err != nil {
		return b, problem.New(problem.ExitBundle, "use the application bundle "+path, err,
			"download the .airgap file again, or ask the application's vendor for it")
	}
	return b, nil
}

func parseAppBundle(r io.Reader) (AppBundle, error) {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return AppBundle{}, fmt.Errorf("not an .airgap file: %w", err)
	}
	var (
		b               AppBundle
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
			if manifest, err = readAirgapManifest(tr); err != nil {
				return b, fmt.Errorf("airgap.yaml: %w", err)
			}
		case h.Name == "app.tar.gz":
			if b.Application, err = findApplication(tr); err != nil {
				return b, fmt.Errorf("app.tar.gz: %w", err)
			}
			release = true
		case !images && isImagesEntry(h.Name):
			images = true
			if err := checkImagesEntry(h, manifest); err != nil {
				return b, err
			}
		}
	}
	if manifest == nil || !release {
		return b, errors.New("it does not contain airgap.yaml or app.tar.gz")
	}
	s := manifest.Spec
	b.Slug, b.Channel, b.VersionLabel, b.UpdateCursor = s.AppSlug, s.ChannelName, s.VersionLabel, s.UpdateCursor
	b.Format, b.Images = s.Format, s.SavedImages
	return b, nil
}

func isImagesEntry(name string) bool { return name == "images" || strings.HasPrefix(name, "images/") }

// checkImagesEntry rejects a bundle that KOTS accepts without an error and then
// cannot run: KOTS pushes the images of a docker-archive bundle only if there
// is a folder entry named exactly "images".
func checkImagesEntry(h *tar.Header, m *airgapManifest) error {
	if m == nil || m.Spec.Format != "" && m.Spec.Format != "docker-archive" {
		return nil
	}
	if h.Name == "images" && h.Typeflag == tar.TypeDir {
		return nil
	}
	return fmt.Errorf("its first entry for images is %q, not a folder named \"images\": KOTS would skip the images without an error", h.Name)
}

func readAirgapManifest(r io.Reader) (*airgapManifest, error) {
	b, err := readLimited(r, maxManifest)
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
// order in which KOTS reads its files: by path. It returns nil if there is
// none.
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
		b, err := readLimited(tr, maxManifest)
		if err != nil {
			return nil, err
		}
		if doc := firstApplication(b); doc != "" {
			found, first = doc, h.Name
		}
	}
	if found == "" {
		return nil, nil
	}
	return []byte(found), nil
}

// firstApplication returns the first Application document of a YAML stream, or
// "" if there is none.
func firstApplication(b []byte) string {
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

// readLimited returns all of r, or an error if it is longer than limit bytes.
func readLimited(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		return nil, fmt.Errorf("larger than %d MiB", limit>>20)
	}
	return b, err
}
