// Package lockfile reads, writes and compares installer.lock.yaml: what every version that an
// Installer pins resolved to, as URLs, digests and sizes.
package lockfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/strictyaml"
)

// The type of a lock file.
const (
	APIVersion = spec.APIVersion
	Kind       = "InstallerLock"
)

// File is the content of a lock file. Its JSON and YAML formats are public.
type File struct {
	APIVersion string `json:"apiVersion" yaml:"apiVersion" required:"true" rule:"lock-api-version"`
	Kind       string `json:"kind" yaml:"kind" required:"true" rule:"lock-kind"`
	// Digest of the fields of the Installer that decide what is locked; see InstallerDigest.
	Installer string     `json:"installer" yaml:"installer" required:"true" rule:"lock-digest"`
	Platforms []Platform `json:"platforms" yaml:"platforms" required:"true"`
	// SHA-256 of everything else, so that a changed file is noticed; see the method Checksum.
	Checksum string `json:"checksum" yaml:"checksum" required:"true" rule:"lock-digest"`
}

// Platform is what the versions resolved to for one platform.
type Platform struct {
	Name      string     `json:"name" yaml:"name" required:"true" rule:"lock-platform"` // such as linux/amd64
	Charts    []Chart    `json:"charts,omitempty" yaml:"charts,omitempty"`
	HostFiles []HostFile `json:"hostFiles" yaml:"hostFiles" required:"true"`
	Images    []Image    `json:"images" yaml:"images" required:"true"`
}

// HostFile is a program for the host. With a URL, digest and size are those of the download, which
// can be an archive; without one, those of the program in an OCI layout. Program is the digest of the
// program in an archive, "" if the archive was not unpacked.
type HostFile struct {
	Name    string `json:"name" yaml:"name" required:"true"`
	Version string `json:"version" yaml:"version" required:"true"`
	URL     string `json:"url,omitempty" yaml:"url,omitempty"`
	Digest  string `json:"digest" yaml:"digest" required:"true" rule:"lock-digest"`
	Size    int64  `json:"size" yaml:"size" required:"true" rule:"lock-size"` // bytes
	Program string `json:"program,omitempty" yaml:"program,omitempty" rule:"lock-digest"`
}

// Image is a container image. The digest is that of its manifest for the platform, the size that of
// all its blobs.
type Image struct {
	Reference string `json:"reference" yaml:"reference" required:"true"`
	Digest    string `json:"digest" yaml:"digest" required:"true" rule:"lock-digest"`
	Size      int64  `json:"size" yaml:"size" required:"true" rule:"lock-size"` // bytes
}

// Chart is a Helm chart of spec.charts. Digest and size are those of its archive.
type Chart struct {
	Name    string `json:"name" yaml:"name" required:"true"`   // of the release
	Chart   string `json:"chart" yaml:"chart" required:"true"` // where it is from, as in the Installer
	Version string `json:"version" yaml:"version" required:"true"`
	Digest  string `json:"digest" yaml:"digest" required:"true" rule:"lock-digest"`
	Size    int64  `json:"size" yaml:"size" required:"true" rule:"lock-size"` // bytes
}

// Path returns the path of the lock file of an Installer: beside it, installer.lock.yaml for
// installer.yaml.
func Path(installer string) string {
	return strings.TrimSuffix(installer, filepath.Ext(installer)) + ".lock.yaml"
}

// InstallerDigest returns the digest of the fields of an Installer that decide which host files and
// images its bundle has: the version and configuration of k0s, the versions of the add-ons, and the charts.
func InstallerDigest(in *spec.Installer) (string, error) {
	raw, err := json.Marshal(struct {
		K0s    spec.K0s
		AddOns []spec.Pin
		Charts []spec.Chart `json:",omitempty"`
	}{in.Spec.K0s, in.AddOns(), in.Spec.Charts})
	return digest.FromBytes(raw).String(), err
}

// New returns the lock of an Installer for platforms.
func New(in *spec.Installer, platforms []Platform) (File, error) {
	sum, err := InstallerDigest(in)
	f := File{APIVersion: APIVersion, Kind: Kind, Installer: sum, Platforms: platforms}
	f.Checksum = f.checksum()
	return f, err
}

// checksum returns the digest of everything in f except the field Checksum. It depends on values only,
// not on comments or on the notation of the file.
func (f File) checksum() string {
	f.Checksum = ""
	raw, _ := json.Marshal(f) // strings and numbers can always be marshaled
	return digest.FromBytes(raw).String()
}

// header is the comment at the beginning of a lock file.
const header = `# What the versions in the Installer resolved to. Written by: plinth lock
# Commit this file beside the Installer; do not edit it.
`

// Marshal returns the content of the file. The same lock always gives the same bytes.
func (f File) Marshal() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(header)
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	err := errors.Join(enc.Encode(f), enc.Close())
	return b.Bytes(), err
}

// Platform returns what is locked for a platform.
func (f File) Platform(name string) (Platform, bool) {
	i := slices.IndexFunc(f.Platforms, func(p Platform) bool { return p.Name == name })
	if i < 0 {
		return Platform{}, false
	}
	return f.Platforms[i], true
}

// PlatformNames returns the platforms that are locked, in the order of the file.
func (f File) PlatformNames() (names []string) {
	for _, p := range f.Platforms {
		names = append(names, p.Name)
	}
	return names
}

// Parse returns the lock in data, the content of the file called name. A file that is not a lock, has
// unknown keys or was changed by hand is a Problem with exit code 3 that names every finding with its
// line. command is the one that writes the file again.
func Parse(name string, data []byte, command string) (File, error) {
	r, f := strictyaml.NewReader(name, strictyaml.Rules()), File{}
	if data, ok := r.CheckText(data); ok {
		roots := r.ParseDocuments(data)
		switch {
		case len(roots) > 1:
			r.Report("one-document", "", roots[1], "is a second document", "a lock file has exactly one")
		case len(roots) == 1:
			r.CheckStructure(roots[0], true)
			r.Decode(roots[0], &f, checkRule)
			if sum := f.checksum(); len(r.Findings()) == 0 && f.Checksum != sum {
				r.Report("lock-checksum", "checksum", r.NodeAt("checksum"), "is "+f.Checksum+", but the content of this file has "+sum, "the file was changed by hand")
			}
		case len(r.Findings()) == 0:
			r.Report("empty-file", "", nil, "contains no YAML document", "")
		}
	}
	findings := r.Findings()
	if len(findings) == 0 {
		return f, nil
	}
	lines := []string{"it is not valid"}
	for _, finding := range findings {
		lines = append(lines, "  "+finding.String())
	}
	return File{}, problem.New(problem.ExitConfig, "use lock file "+name, errors.New(strings.Join(lines, "\n")),
		"restore it from version control, or write it again with: "+command)
}

// Patterns of values.
const (
	digestPattern   = `^sha256:[0-9a-f]{64}$`
	platformPattern = `^linux/(amd64|arm64)$`
)

// CheckPlatform returns an error unless name is a platform for which bundles are built.
func CheckPlatform(name string) error {
	if !regexp.MustCompile(platformPattern).MatchString(name) {
		return fmt.Errorf("%q is not a platform for which bundles are built: linux/amd64 or linux/arm64", name)
	}
	return nil
}

// checkRule is the strictyaml.CheckFunc of a lock file.
func checkRule(rule, value string) (message, hint string) {
	switch rule {
	case "lock-api-version":
		return unless(value == APIVersion, "is "+value, "this version of plinth reads "+APIVersion)
	case "lock-kind":
		return unless(value == Kind, "is "+value, "a lock file has the kind "+Kind)
	case "lock-digest":
		return unless(regexp.MustCompile(digestPattern).MatchString(value), "is "+strictyaml.QuoteValue(value), "a digest is sha256: and 64 hexadecimal digits")
	case "lock-platform":
		return unless(CheckPlatform(value) == nil, "is "+strictyaml.QuoteValue(value), "a platform is linux/amd64 or linux/arm64")
	case "lock-size":
		return unless(!strings.HasPrefix(value, "-") && value != "0", "is "+value, "a size is a number of bytes above 0")
	}
	return "", ""
}

// unless returns message and hint unless ok.
func unless(ok bool, message, hint string) (string, string) {
	if ok {
		return "", ""
	}
	return message, hint
}
