package charts

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"sigs.k8s.io/yaml"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// Limits in bytes.
const (
	maxValues  = 512 << 10 // of a chart: they are in the Installer of the bundle, which has at most 1 MiB
	maxArchive = 4 << 20   // of a bundle
)

// readValues returns the values of a chart: those of its file, replaced by those in the Installer key by key.
func (x *inspection) readValues(c spec.Chart) (map[string]any, bool) {
	values := map[string]any{}
	if c.ValuesFile != "" {
		raw, err := readLimited(filepath.Join(x.src.Dir, filepath.FromSlash(c.ValuesFile)), maxValues)
		if err == nil {
			values, err = decodeValues(raw)
		}
		if err != nil {
			x.report("chart-values", "valuesFile", "cannot read "+c.ValuesFile+": "+oneLine(err.Error()), "it must be a YAML file with a mapping, beside the Installer")
			return nil, false
		}
	}
	inline, err := addons.NormalizeValues(c.Values)
	if err != nil {
		x.report("chart-values", "values", oneLine(err.Error()), "")
		return nil, false
	}
	values = mergeValues(values, inline)
	raw, err := json.Marshal(values)
	if err != nil || len(raw) > maxValues {
		x.report("chart-values", "values", fmt.Sprintf("the values of the chart have %d bytes, at most %d are possible", len(raw), maxValues), "move large texts into the chart")
		return nil, false
	}
	return values, true
}

// decodeValues returns the values in a file. Its errors name the cause without the steps of the decoder.
func decodeValues(raw []byte) (map[string]any, error) {
	data, err := yaml.YAMLToJSON(raw)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "), "yaml: "))
	}
	values := map[string]any{}
	if json.Unmarshal(data, &values) != nil {
		return nil, errors.New("it is not a mapping")
	}
	return values, nil
}

// mergeValues returns base with the values of over in it: mappings are merged, everything else is replaced.
func mergeValues(base, over map[string]any) map[string]any {
	out := map[string]any{}
	for key, value := range base {
		out[key] = value
	}
	for key, value := range over {
		was, wasMap := out[key].(map[string]any)
		is, isMap := value.(map[string]any)
		if wasMap && isMap {
			value = mergeValues(was, is)
		}
		out[key] = value
	}
	return out
}

// readLimited returns the content of a file of at most limit bytes.
func readLimited(name string, limit int64) ([]byte, error) {
	info, err := os.Stat(name) // to open a pipe without a writer would take for ever
	if err != nil {
		return nil, problem.PathCause(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, problem.PathCause(err)
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	return raw, problem.PathCause(err)
}

// readArchive returns the archive of a chart.
func (x *inspection) readArchive(c spec.Chart) ([]byte, bool) {
	if c.Origin() != spec.LocalChart {
		if x.src.Remote == nil {
			return nil, false
		}
		raw, err := x.src.Remote(c)
		switch {
		case errors.Is(err, ErrNotStored):
			x.report("chart-unchecked", "chart", "is not checked: it is not in the cache of downloads", "`plinth lock` downloads and checks it")
		case err != nil:
			x.report("chart-read", "chart", oneLine(err.Error()), "")
		}
		return raw, err == nil
	}
	raw, err := ReadLocal(filepath.Join(x.src.Dir, filepath.FromSlash(c.Chart)))
	if err != nil {
		x.report("chart-read", "chart", "cannot read "+c.Chart+": "+oneLine(err.Error()), "it must be the folder of a chart, or a .tgz of `helm package`, relative to the Installer")
	}
	return raw, err == nil
}

// ReadLocal returns the archive of the chart in a folder or a .tgz.
func ReadLocal(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, problem.PathCause(err)
	}
	if !info.IsDir() {
		return readLimited(name, maxArchive)
	}
	ch, err := loader.LoadDir(name)
	if err != nil {
		return nil, err
	}
	return packChart(ch)
}

// packChart returns a chart as an archive. The same files always give the same bytes.
func packChart(ch *chart.Chart) ([]byte, error) {
	files := slices.Clone(ch.Raw)
	slices.SortFunc(files, func(a, b *chart.File) int { return strings.Compare(a.Name, b.Name) })
	var buf bytes.Buffer
	zip := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zip)
	for _, f := range files {
		if err := tw.WriteHeader(&tar.Header{Name: path.Join(ch.Name(), f.Name), Mode: 0o644, Size: int64(len(f.Data)), Format: tar.FormatPAX}); err != nil {
			return nil, err
		}
		if _, err := tw.Write(f.Data); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(tw.Close(), zip.Close()); err != nil {
		return nil, err
	}
	if buf.Len() > maxArchive {
		return nil, fmt.Errorf("it has %d bytes when packed, at most %d are possible", buf.Len(), maxArchive)
	}
	return buf.Bytes(), nil
}

// schemaFinding matches a line of Helm's message about values that do not fit a schema: "- at '/a/b': got string".
var schemaFinding = regexp.MustCompile(`^\s*- at '([^']*)':? (.*)$`)

// reportSchema reports each value that does not fit the values.schema.json of ch or of a dependency, at its line.
// Each part of the error begins with the name of its chart.
func (x *inspection) reportSchema(ch *chart.Chart, err error) {
	parent, reported := "values", false
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimRight(line, "\n")
		if name, isName := strings.CutSuffix(line, ":"); isName && !strings.HasPrefix(strings.TrimSpace(line), "-") {
			parent = "values"
			if name != ch.Name() {
				parent += "." + name
			}
			continue
		}
		match := schemaFinding.FindStringSubmatch(line)
		if match == nil {
			continue
		}
		field := parent
		for key := range strings.SplitSeq(strings.Trim(match[1], "/"), "/") {
			if key != "" {
				field += "." + key
			}
		}
		reported = true
		x.report("chart-values", field, "does not fit the schema of the chart: "+match[2], "")
	}
	if !reported {
		x.report("chart-values", "values", "do not fit the schema of the chart: "+oneLine(err.Error()), "")
	}
}
