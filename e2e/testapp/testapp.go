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

// Slug and channel for which the result of License is valid.
const (
	Slug        = "my-app"
	channelID   = "1vusIYZLAVxMG6q760OJmRKj5i5"
	channelName = "My Channel"
)

// kotsModule is the module whose folder contains the license.
const kotsModule = "github.com/replicatedhq/kots@v1.131.2"

// Release is one release of the test application: a Deployment "hello" that
// sleeps, and a ConfigMap that shows a field of the license.
type Release struct {
	VersionLabel string // "1.0.0"
	Cursor       int    // number of the release in its KOTS channel: 1, 2, …
	MinKOTS      string // minKotsVersion; empty for none
	TargetKOTS   string // targetKotsVersion; empty for none
	Volume       bool   // "hello" has a volume at /data, and the release the Backup with which KOTS offers snapshots of it
	ImageRef     string // full reference of Image, such as docker.io/library/busybox:1.35.0
	Image        v1.Image
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

// manifests returns the release's manifests by file name.
func (r Release) manifests() map[string][]byte {
	all := map[string][]byte{
		"application.yaml": r.Application(),
		"hello.yaml": []byte(`apiVersion: v1
kind: ConfigMap
metadata:
  name: hello
data:
  text: repl{{ LicenseFieldValue "string_field" }}
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
	return fmt.Appendf(nil, `apiVersion: kots.io/v1beta1
kind: Airgap
metadata:
  name: %s
spec:
  appSlug: %s
  channelID: %s
  channelName: %s
  format: docker-archive
  savedImages: [%s]
  updateCursor: "%d"
  versionLabel: %q
`, Slug, Slug, channelID, channelName, r.ImageRef, r.Cursor, r.VersionLabel)
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

// License returns the license for Slug from the folder of KOTS's Go module. It is a
// test fixture of KOTS's public source, signed so that KOTS accepts it. It is not an
// entitlement to anything and must not be copied or sent anywhere.
func License() ([]byte, error) {
	path := filepath.Join(moduleCache(), filepath.FromSlash(kotsModule), "pkg/license/testdata/valid.yaml")
	b, err := os.ReadFile(path)
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
