package kots

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/problem"
)

// Limits of what is read from an application bundle, so that a damaged or
// malicious one cannot exhaust the memory. Manifests are text.
const (
	maxManifest    = 1 << 20   // airgap.yaml; parsed YAML takes a hundred times as much memory
	maxHeaders     = 128 << 20 // all tar headers of an archive, with their PAX records
	maxRelease     = 512 << 20 // all files of the release, unpacked
	maxReleaseFile = 8 << 20   // each file of the release that is read
	maxReleaseDoc  = 1 << 20   // one YAML document of the release
	maxCandidates  = 2 << 20   // the documents of the release that may be its Application, together
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
		tr              = newArchive(zip, math.MaxInt64)
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
		case h.Name == "airgap.yaml" && manifest != nil, h.Name == "app.tar.gz" && release:
			return b, fmt.Errorf("it contains %s twice", h.Name)
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

// archive reads an untrusted tar. The headers of all entries, and their content,
// are bounded.
type archive struct {
	*tar.Reader
	in               *io.LimitedReader
	headers, content int64 // bytes that may still be read
}

// newArchive returns the archive in r, whose entries have at most content bytes.
func newArchive(r io.Reader, content int64) *archive {
	in := &io.LimitedReader{R: r, N: content}
	return &archive{tar.NewReader(in), in, maxHeaders, content}
}

// Next skips the rest of the current entry and returns the header of the next one.
func (a *archive) Next() (*tar.Header, error) {
	_, err := io.Copy(io.Discard, a.Reader)
	a.content = a.in.N
	if a.content == 0 {
		return nil, errors.New("it unpacks to too many bytes")
	}
	if err != nil {
		return nil, err
	}
	a.in.N = a.headers
	h, err := a.Reader.Next()
	if a.headers, a.in.N = a.in.N, a.content; a.headers == 0 {
		return nil, errors.New("its headers have too many bytes")
	}
	if err == nil && isSparse(h) {
		err = fmt.Errorf("%q is a sparse file", h.Name)
	}
	return h, err
}

// isSparse reports whether an entry is a sparse file, whose size can be any number.
func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
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
		candidates   int
		tr           = newArchive(zip, maxRelease)
	)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg || h.Size > maxReleaseFile || found != "" && h.Name >= first {
			continue
		}
		b, err := readLimited(tr, maxReleaseFile)
		if err != nil {
			return nil, err
		}
		doc, parsed := firstApplication(b)
		if candidates += parsed; candidates > maxCandidates {
			return nil, fmt.Errorf("its documents that may be an Application are larger than %d MiB", maxCandidates>>20)
		}
		if doc != "" {
			found, first = doc, h.Name
		}
	}
	if found == "" {
		return nil, nil
	}
	return []byte(found), nil
}

// firstApplication returns the first Application document of a YAML stream, or ""
// if there is none, and how many bytes were parsed to find it. It parses little
// more than maxCandidates.
func firstApplication(b []byte) (doc string, parsed int) {
	if !bytes.Contains(b, []byte("kots.io/v1beta1")) {
		return "", 0
	}
	for _, doc := range splitDocuments(string(b)) {
		var kind struct {
			APIVersion string `yaml:"apiVersion"`
			Kind       string `yaml:"kind"`
		}
		if len(doc) > maxReleaseDoc || parsed > maxCandidates || !strings.Contains(doc, "kots.io/v1beta1") || !strings.Contains(doc, "Application") {
			continue
		}
		parsed += len(doc)
		if yaml.Unmarshal([]byte(doc), &kind) == nil && kind.APIVersion == "kots.io/v1beta1" && kind.Kind == "Application" {
			return doc, parsed
		}
	}
	return "", parsed
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

// readLimited returns all of r, or an error if it is longer than limit bytes, a
// whole number of MiB.
func readLimited(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		return nil, fmt.Errorf("larger than %d MiB", limit>>20)
	}
	return b, err
}
