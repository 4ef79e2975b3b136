package addons

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"gopkg.in/yaml.v3"
)

// Media types of a chart that is stored as an OCI artifact, as Helm defines them.
const (
	ChartConfigType  = "application/vnd.cncf.helm.config.v1+json"
	ChartContentType = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
)

// Chart is a packaged Helm chart.
type Chart struct {
	Name    string // from Chart.yaml
	Version string // from Chart.yaml
	Archive []byte // .tgz; the same chart always gives the same bytes
	Config  []byte // Chart.yaml as JSON, the config blob of the OCI artifact
}

// packChart returns the chart in the folder root as an archive. File names are
// sorted, and owners, modes and times are fixed, so that the bytes depend only
// on the content.
func packChart(root fs.FS) (Chart, error) {
	meta, err := fs.ReadFile(root, "Chart.yaml")
	if err != nil {
		return Chart{}, err
	}
	var fields map[string]any
	if err := yaml.Unmarshal(meta, &fields); err != nil {
		return Chart{}, fmt.Errorf("cannot parse Chart.yaml: %w", err)
	}
	name, _ := fields["name"].(string)
	version, _ := fields["version"].(string)
	if name == "" || version == "" {
		return Chart{}, errors.New("name and version must be set in Chart.yaml")
	}
	config, err := json.Marshal(fields)
	if err != nil {
		return Chart{}, err
	}
	var buf bytes.Buffer
	zip := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zip)
	err = fs.WalkDir(root, ".", func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		return addFile(tw, root, file, path.Join(name, file))
	})
	if err != nil {
		return Chart{}, err
	}
	if err := tw.Close(); err != nil {
		return Chart{}, err
	}
	if err := zip.Close(); err != nil {
		return Chart{}, err
	}
	return Chart{Name: name, Version: version, Archive: buf.Bytes(), Config: config}, nil
}

// addFile writes a file of root to tw under the name as, with mode 0644.
func addFile(tw *tar.Writer, root fs.FS, file, as string) error {
	b, err := fs.ReadFile(root, file)
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Name: as, Mode: 0o644, Size: int64(len(b)), Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err = tw.Write(b)
	return err
}
