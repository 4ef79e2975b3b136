// Package testapp builds the application of the end-to-end tests: KOTS application
// bundles (.airgap) with given KOTS version limits, and a license that KOTS accepts
// for them. It is not part of the product.
package testapp

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Slug is the slug of the application for which the result of License is valid.
const Slug = "my-app"

// kotsModule is the module whose folder contains the licenses.
const kotsModule = "github.com/replicatedhq/kots@v1.131.2"

// Release is one release of the test application: a Deployment "hello" that
// sleeps, and a ConfigMap that shows a field of the license.
type Release struct {
	VersionLabel  string    // "1.0.0"
	Cursor        int       // number of the release in its KOTS channel: 1, 2, …
	MinKOTS       string    // minKotsVersion; empty for none
	TargetKOTS    string    // targetKotsVersion; empty for none
	Volume        bool      // "hello" has a volume at /data, and the release the Backup with which KOTS offers snapshots of it
	StrictLabel   string    // a strict preflight requires a node that has this label with the value "true"; empty for none
	SupportBundle bool      // the release has the spec of a support bundle
	Required      bool      // the vendor has marked the release as required
	Earlier       []Release // required releases before this one, the latest first, as the vendor's platform lists them
	Customer      *Customer // whose license is valid for the release; nil for that of License
	ImageRef      string    // full reference of Image, such as docker.io/library/busybox:1.35.0
	Image         v1.Image
}

// Application returns the release's Application manifest.
func (r Release) Application() []byte {
	var bounds strings.Builder
	if r.MinKOTS != "" {
		fmt.Fprintf(&bounds, "  minKotsVersion: %q\n", r.MinKOTS)
	}
	if r.TargetKOTS != "" {
		fmt.Fprintf(&bounds, "  targetKotsVersion: %q\n", r.TargetKOTS)
	}
	return []byte(`apiVersion: kots.io/v1beta1
kind: Application
metadata:
  name: ` + Slug + `
spec:
  title: Toy Application
` + bounds.String() + `  statusInformers:
    - deployment/hello
`)
}

// backupManifest is the Backup without which KOTS offers no snapshots.
const backupManifest = `apiVersion: velero.io/v1
kind: Backup
metadata:
  name: backup
spec: {}
`

// claimManifest is the claim on the volume of "hello".
const claimManifest = `apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: data
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
`

// preflightManifest has a strict preflight, which users cannot ignore.
const preflightManifest = `apiVersion: troubleshoot.sh/v1beta2
kind: Preflight
metadata:
  name: hello
spec:
  analyzers:
    - nodeResources:
        checkName: A node for the database
        strict: true
        filters: {selector: {matchLabel: {LABEL: "true"}}}
        outcomes:
          - fail: {when: "count() < 1", message: No node has the label LABEL.}
          - pass: {message: A node has the label LABEL.}
`

// supportBundleManifest is the spec of a support bundle, with data and an analysis of "hello".
const supportBundleManifest = `apiVersion: troubleshoot.sh/v1beta2
kind: SupportBundle
metadata:
  name: hello
spec:
  collectors:
    - configMap: {collectorName: hello, name: hello, namespace: 'repl{{ Namespace }}', includeAllData: true}
  analyzers:
    - deploymentStatus:
        checkName: Toy Application
        name: hello
        namespace: repl{{ Namespace }}
        outcomes:
          - fail: {when: "< 1", message: The toy application does not run.}
          - pass: {message: The toy application runs.}
`

// manifests returns the release's manifests by file name.
func (r Release) manifests() map[string][]byte {
	all := map[string][]byte{
		"application.yaml": r.Application(),
		"hello.yaml": []byte(`apiVersion: v1
kind: ConfigMap
metadata:
  name: hello
data:
  text: repl{{ LicenseFieldValue "` + r.customer().field + `" }}
  release: "` + r.VersionLabel + `"
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: hello
spec:
  selector:
    matchLabels: {app: hello}
  template:
    metadata:
      labels: {app: hello}
` + r.annotations() + `    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: hello
          image: ` + r.ImageRef + `
          command: [sh, -c, "trap exit TERM; while true; do sleep 1; done"]
` + r.volumes()),
	}
	if r.Volume {
		all["backup.yaml"], all["claim.yaml"] = []byte(backupManifest), []byte(claimManifest)
	}
	if r.StrictLabel != "" {
		all["preflight.yaml"] = []byte(strings.ReplaceAll(preflightManifest, "LABEL", r.StrictLabel))
	}
	if r.SupportBundle {
		all["support-bundle.yaml"] = []byte(supportBundleManifest)
	}
	return all
}

// annotations returns the annotations of the pods of "hello", with which Velero backs their volume up.
func (r Release) annotations() string {
	if !r.Volume {
		return ""
	}
	return "      annotations: {backup.velero.io/backup-volumes: data}\n"
}

// volumes returns the volumes of the pods of "hello", after the fields of their container.
func (r Release) volumes() string {
	if !r.Volume {
		return ""
	}
	return `          volumeMounts: [{name: data, mountPath: /data}]
      volumes:
        - name: data
          persistentVolumeClaim: {claimName: data}
`
}

func (r Release) airgapYAML() []byte {
	c := r.customer()
	head := fmt.Appendf(nil, `apiVersion: kots.io/v1beta1
kind: Airgap
metadata:
  name: %s
spec:
  appSlug: %s
  channelID: %s
  channelName: %q
  format: docker-archive
  savedImages: [%s]
  updateCursor: "%d"
  versionLabel: %q
  isRequired: %v
  requiredReleases:
`, c.Slug, c.Slug, c.channelID, c.channelName, r.ImageRef, r.Cursor, r.VersionLabel, r.Required)
	for _, e := range r.Earlier {
		head = fmt.Appendf(head, "    - {updateCursor: \"%d\", versionLabel: %q}\n", e.Cursor, e.VersionLabel)
	}
	return head
}

// WriteFile writes the release as an .airgap file.
func (r Release) WriteFile(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = r.Write(f)
	return errors.Join(err, f.Close())
}

// Write writes the release as an .airgap bundle. The folder entry is "images"
// without a trailing slash: KOTS requires this, and other tar programs write one.
func (r Release) Write(w io.Writer) error {
	app, err := packTarGz(r.manifests())
	if err != nil {
		return err
	}
	ref, err := name.NewTag(r.ImageRef)
	if err != nil {
		return err
	}
	var image bytes.Buffer
	if err := tarball.Write(ref, r.Image, &image); err != nil {
		return err
	}
	zip := gzip.NewWriter(w)
	tw := tar.NewWriter(zip)
	if err := addFiles(tw, []string{"airgap.yaml", "app.tar.gz"}, [][]byte{r.airgapYAML(), app}); err != nil {
		return err
	}
	repo, tag, _ := strings.Cut(r.ImageRef, ":")
	file := filepath.Join("images", "docker-archive", repo, tag)
	for i := range strings.Split(filepath.Dir(file), "/") {
		dir := strings.Join(strings.Split(file, "/")[:i+1], "/")
		if err := tw.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
			return err
		}
	}
	if err := addFiles(tw, []string{file}, [][]byte{image.Bytes()}); err != nil {
		return err
	}
	return errors.Join(tw.Close(), zip.Close())
}

func packTarGz(files map[string][]byte) ([]byte, error) {
	var (
		buf bytes.Buffer
		zip = gzip.NewWriter(&buf)
		tw  = tar.NewWriter(zip)
	)
	for file, content := range files {
		if err := addFiles(tw, []string{file}, [][]byte{content}); err != nil {
			return nil, err
		}
	}
	err := errors.Join(tw.Close(), zip.Close())
	return buf.Bytes(), err
}

func addFiles(tw *tar.Writer, names []string, contents [][]byte) error {
	for i, file := range names {
		h := &tar.Header{Name: file, Mode: 0o644, Size: int64(len(contents[i])), ModTime: time.Unix(0, 0)}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := tw.Write(contents[i]); err != nil {
			return err
		}
	}
	return nil
}

// LoadImage returns the image with this reference from an OCI layout folder, with
// layers in the format of a docker-archive.
func LoadImage(dir, ref string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, m := range manifest.Manifests {
		if m.Annotations["org.opencontainers.image.ref.name"] != ref {
			continue
		}
		img, err := index.Image(m.Digest)
		if err != nil {
			return nil, err
		}
		return repackGzip(img)
	}
	return nil, fmt.Errorf("%s has no image %s", dir, ref)
}

// repackGzip returns the image with its layers packed again, with gzip.
func repackGzip(img v1.Image) (v1.Image, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	out := empty.Image
	for _, l := range layers {
		zipped, err := tarball.LayerFromOpener(l.Uncompressed)
		if err != nil {
			return nil, err
		}
		if out, err = mutate.AppendLayers(out, zipped); err != nil {
			return nil, err
		}
	}
	return mutate.Config(out, config.Config)
}

// Customer is a customer of the vendor in KOTS's own tests, in its public source. Its licenses are signed so that KOTS accepts
// them. They are not an entitlement to anything and must not be copied or sent anywhere.
type Customer struct {
	Slug                   string // of the customer's application
	channelID, channelName string
	field                  string   // the name of the field of the license that the application shows
	licenses               []string // files in KOTS's source, the oldest license first
}

// firstCustomer is the customer of License.
var firstCustomer = Customer{
	Slug: Slug, channelID: "1vusIYZLAVxMG6q760OJmRKj5i5", channelName: "My Channel", field: "string_field",
	licenses: []string{"pkg/license/testdata/valid.yaml"},
}

// RenewedCustomer has two licenses with the same id: the vendor has changed the text in the field that the application shows
// from "require me" to "require me required".
var RenewedCustomer = Customer{
	Slug: "qakotsregression", channelID: "1tUkwrJYi35BfFp1jJUxIMOlkUa",
	channelName: "type=existing cluster, env=airgapped, phase=upgraded install, rbac=cluster admin", field: "required_field_1",
	licenses: []string{regressionTest + "license.yaml", regressionTest + "new-license.yaml"},
}

const regressionTest = "e2e/playwright/regression/@existing-airgapped-upgrade-admin/"

// customer returns whose license is valid for the release.
func (r Release) customer() Customer {
	if r.Customer != nil {
		return *r.Customer
	}
	return firstCustomer
}

// License returns the license for Slug.
func License() ([]byte, error) { return firstCustomer.License(0) }

// License returns the license with an index, the oldest first.
func (c Customer) License(i int) ([]byte, error) { return readKOTS(c.licenses[i]) }

// CommunityLicense returns a license of another application that does not allow air-gapped installs.
func CommunityLicense() ([]byte, error) {
	return readKOTS("e2e/playwright/tests/@change-license/community-license.yaml")
}

// readKOTS reads a file in the folder of KOTS's Go module.
func readKOTS(file string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(moduleCache(), filepath.FromSlash(kotsModule), filepath.FromSlash(file)))
	if err != nil {
		return nil, fmt.Errorf("%w (run: go mod download %s)", err, kotsModule)
	}
	return b, nil
}

func moduleCache() string {
	if dir := os.Getenv("GOMODCACHE"); dir != "" {
		return dir
	}
	if dir := os.Getenv("GOPATH"); dir != "" {
		return filepath.Join(filepath.SplitList(dir)[0], "pkg", "mod")
	}
	home, _ := os.UserHomeDir()
	return filepath.Join(home, "go", "pkg", "mod")
}
