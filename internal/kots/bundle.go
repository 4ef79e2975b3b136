package kots

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"unicode/utf16"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/release"
)

// Limits of what is read from an application bundle, so that a damaged or
// malicious one cannot exhaust the memory. Manifests are text.
const (
	maxManifest    = 1 << 20   // airgap.yaml; parsed YAML takes a hundred times as much memory
	maxHeaders     = 128 << 20 // all tar headers of an archive, with their PAX records
	maxRelease     = 512 << 20 // all files of the release, unpacked
	maxReleaseFile = 8 << 20   // each file of the release that is read
	maxCandidates  = 2 << 20   // the documents of the release that may be its Application, together
	maxApplication = 1 << 20   // the Applications of the release, together
)

// AppBundle is the metadata of an application's .airgap file.
type AppBundle struct {
	Slug         string   // slug of the application
	Channel      string   // name of the release channel
	VersionLabel string   // version of the release given by the vendor, such as "1.4.2"
	UpdateCursor string   // number of the release in its channel, given by KOTS
	Format       string   // format of the images in it: docker, docker-archive or "" for docker-archive
	Images       []string // references of the images in it
	Size         int64    // of the file, in bytes
	Application  []byte   // the kots.io/v1beta1 Application documents, as one YAML file; nil if the release has none
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
func ReadAppBundle(name string) (AppBundle, error) {
	f, err := host.OpenInput(name)
	if err != nil {
		return AppBundle{}, problem.New(problem.ExitUsage, "open the application bundle "+name, err, "check the path given with --app-bundle")
	}
	defer func() { _ = f.Close() }()
	b, err := parseAppBundle(f)
	if err != nil {
		return b, problem.New(problem.ExitBundle, "use the application bundle "+name, err,
			"download the .airgap file again, or ask the application's vendor for it")
	}
	if info, err := f.Stat(); err == nil {
		b.Size = info.Size()
	}
	return b, nil
}

func parseAppBundle(r io.Reader) (AppBundle, error) {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return AppBundle{}, fmt.Errorf("not an .airgap file: %w", err)
	}
	var (
		b              AppBundle
		manifest       *airgapManifest
		appTar, images bool
		tr             = newArchive(zip, math.MaxInt64)
	)
	for manifest == nil || !appTar || !images {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return b, fmt.Errorf("damaged: %w", err)
		}
		switch {
		case h.Name == "airgap.yaml" && manifest != nil, h.Name == "app.tar.gz" && appTar:
			return b, fmt.Errorf("it contains %s twice", h.Name)
		case h.Name == "airgap.yaml":
			if manifest, err = readAirgapManifest(tr); err != nil {
				return b, fmt.Errorf("airgap.yaml: %w", err)
			}
		case h.Name == "app.tar.gz":
			if b.Application, err = findApplications(tr); err != nil {
				return b, fmt.Errorf("app.tar.gz: %w", err)
			}
			appTar = true
		case !images && isImagesEntry(h.Name):
			images = true
			if err := checkImagesEntry(h, manifest); err != nil {
				return b, err
			}
		}
	}
	if manifest == nil || !appTar {
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

// findApplications returns the Application documents of a release as one YAML file, nil
// if there is none. The one that KOTS's CLI uses is the first: it walks the folders in
// the order of release.ComparePaths and reads only the first document of a file. KOTS's
// server uses any of them.
func findApplications(r io.Reader) ([]byte, error) {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	var (
		files  = map[string][]release.Document{}
		parsed int
		tr     = newArchive(zip, maxRelease)
	)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		name := path.Clean(h.Name)
		delete(files, name) // an entry replaces an earlier one of the same name
		if h.Size > maxReleaseFile {
			continue
		}
		b, err := readLimited(tr, maxReleaseFile)
		if err != nil {
			return nil, err
		}
		if files[name], parsed, err = applicationsIn(b, parsed); err != nil {
			return nil, fmt.Errorf("%q: %w", h.Name, err)
		}
	}
	var first, others []release.Document
	for _, name := range slices.SortedFunc(maps.Keys(files), release.ComparePaths) {
		for _, doc := range files[name] {
			if doc.Line == 0 {
				first = append(first, doc)
			} else {
				others = append(others, doc)
			}
		}
	}
	found := release.Join(append(first, others...))
	if len(found) > maxApplication {
		return nil, fmt.Errorf("its Applications are larger than %d MiB", maxApplication>>20)
	}
	return found, nil
}

// applicationsIn returns the Applications in a file of the release, and how many bytes
// of the release have been parsed as YAML, of which parsed are those of other files.
func applicationsIn(file []byte, parsed int) ([]release.Document, int, error) {
	var found []release.Document
	for _, doc := range release.Split(decodeUTF16(file)) {
		if !release.MentionsApplication(doc.Text) {
			continue
		}
		if parsed += len(doc.Text); parsed > maxCandidates {
			return nil, parsed, fmt.Errorf("its documents that may be an Application are larger than %d MiB", maxCandidates>>20)
		}
		if release.IsApplication(doc.Text) {
			found = append(found, doc)
		}
	}
	return found, parsed, nil
}

// decodeUTF16 returns a file that begins with a byte order mark of UTF-16 in UTF-8, and
// any other file as it is. KOTS's YAML library reads both.
func decodeUTF16(file []byte) []byte {
	var order binary.ByteOrder = binary.LittleEndian
	switch {
	case bytes.HasPrefix(file, []byte{0xfe, 0xff}):
		order = binary.BigEndian
	case !bytes.HasPrefix(file, []byte{0xff, 0xfe}):
		return file
	}
	units := make([]uint16, 0, len(file)/2)
	for unit := range slices.Chunk(file[2:len(file)&^1], 2) {
		units = append(units, order.Uint16(unit))
	}
	return []byte(string(utf16.Decode(units)))
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
