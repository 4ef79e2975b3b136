package charts_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/charts"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/testkit"
)

// newInstaller returns an Installer with these charts.
func newInstaller(all ...spec.Chart) *spec.Installer {
	in := &spec.Installer{Spec: spec.Spec{K0s: spec.K0s{Version: "v1.33.8+k0s.1"}, Kotsadm: &spec.Kotsadm{UIBindPort: 8800}, Charts: all}}
	in.Spec.Network.NodePortRange = "80-32767"
	return in
}

// hello is the example chart.
func hello() spec.Chart {
	return spec.Chart{Name: "hello", Chart: "testdata/hello", Version: "1.2.0", Namespace: "hello", Strict: true}
}

// writeChart writes a chart of version 1.0.0 with these templates, by file name, below dir. Other files have a path.
func writeChart(t *testing.T, dir, name string, files map[string]string) {
	t.Helper()
	all := map[string]string{"Chart.yaml": "apiVersion: v2\nname: " + name + "\nversion: 1.0.0\n"}
	maps.Copy(all, files)
	for file, text := range all {
		if !strings.Contains(file, "/") && file != "Chart.yaml" && file != "values.yaml" && file != "values.schema.json" {
			file = "templates/" + file
		}
		path := filepath.Join(dir, name, file)
		testkit.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		testkit.Must(t, os.WriteFile(path, []byte(text), 0o600))
	}
}

// describe returns violations, one a line.
func describe(all []spec.Violation) string {
	var b strings.Builder
	for _, v := range all {
		fmt.Fprintf(&b, "%s %s: %s (%s)\n", v.Rule, v.Path, v.Message, v.Hint)
	}
	return b.String()
}

func TestInspect_FindsImagesOfTheExample(t *testing.T) {
	got, wrong := charts.Inspect(newInstaller(hello()), charts.Source{Dir: "."})
	if len(wrong) > 0 || len(got) != 1 {
		t.Fatalf("%d charts\n%s", len(got), describe(wrong))
	}
	var refs []string
	for _, i := range got[0].Images {
		refs = append(refs, i.Ref)
	}
	want := []string{"docker.io/library/busybox:1.37.0", "docker.io/library/memcached:1.6.39", "docker.io/library/nginx:1.29.1"}
	if slices.Sort(refs); !slices.Equal(refs, want) {
		t.Errorf("images are %q, want %q", refs, want)
	}
	again, _ := charts.Inspect(newInstaller(hello()), charts.Source{Dir: "."})
	if string(again[0].Archive) != string(got[0].Archive) {
		t.Error("the same folder gives another archive")
	}
	apis, err := charts.DefinedAPIs(addons.AddOn{Release: "hello", Namespace: "hello", Chart: addons.Chart{Archive: got[0].Archive}}, "v1.33.8+k0s.1")
	if want := []string{"example.com/v1", "example.com/v1/Greeting"}; err != nil || !slices.Equal(apis, want) {
		t.Errorf("%q, %v", apis, err)
	}
}

func TestInspect_ReadsValues(t *testing.T) {
	dir := t.TempDir()
	testkit.Must(t, os.WriteFile(filepath.Join(dir, "v.yaml"), []byte("image: docker.io/library/a:1\ncache: {enabled: false}\n"), 0o600))
	testkit.Must(t, os.CopyFS(filepath.Join(dir, "hello"), os.DirFS("testdata/hello")))
	c := hello()
	c.Chart, c.ValuesFile, c.Values = "hello", "v.yaml", map[string]any{"migrate": map[string]any{"image": "docker.io/library/b:2"}, "replicas": 2}
	c.AdditionalImages = []string{"docker.io/library/later:3"}
	in := newInstaller(c)
	got, wrong := charts.Inspect(in, charts.Source{Dir: dir})
	if len(wrong) > 0 {
		t.Fatal(describe(wrong))
	}
	if text := fmt.Sprint(got[0].Images); strings.Contains(text, "memcached") || !strings.Contains(text, "/a:1") || !strings.Contains(text, "/b:2") || !strings.Contains(text, "/later:3 additionalImages") {
		t.Errorf("images are %s", text)
	}
	inlined, changed := charts.Inlined(in, got)
	if c := inlined.Spec.Charts[0]; !changed || c.ValuesFile != "" || c.Values["image"] != "docker.io/library/a:1" || c.Values["replicas"] != 2.0 || in.Spec.Charts[0].ValuesFile == "" {
		t.Errorf("%v %+v", changed, c)
	}
	if _, changed := charts.Inlined(newInstaller(hello()), got); changed {
		t.Error("an Installer without files was changed")
	}
}

const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: "

func TestInspect_NamesBadCharts(t *testing.T) {
	const image = "image: docker.io/library/a:1"
	for name, c := range map[string]struct {
		files  map[string]string
		change func(*spec.Chart)
		want   []string // beginnings of violations
	}{
		"nothing":            {files: map[string]string{"a.yaml": pod + "{containers: [{name: c, " + image + "}]}"}},
		"no such folder":     {change: func(c *spec.Chart) { c.Chart = "absent" }, want: []string{"chart-read spec.charts[0].chart: cannot read absent: no such file or directory"}},
		"not a chart":        {files: map[string]string{"Chart.yaml": "name: ["}, want: []string{"chart-read spec.charts[0].chart: cannot read toy: cannot load Chart.yaml"}},
		"another version":    {change: func(c *spec.Chart) { c.Version = "1.0.1" }, want: []string{"chart-read spec.charts[0].version: is 1.0.1, but the Chart.yaml of toy has 1.0.0"}},
		"a library":          {files: map[string]string{"Chart.yaml": "apiVersion: v2\nname: toy\nversion: 1.0.0\ntype: library\n"}, want: []string{"chart-read spec.charts[0].chart: toy is a library chart"}},
		"dependency missing": {files: map[string]string{"Chart.yaml": "apiVersion: v2\nname: toy\nversion: 1.0.0\ndependencies: [{name: redis, version: 1.x, repository: 'https://a.example'}]\n"}, want: []string{"chart-read spec.charts[0].chart: the dependency redis 1.x of toy is not in the chart"}},
		"does not render":    {files: map[string]string{"a.yaml": "{{ fail \"no way\" }}"}, want: []string{"chart-render spec.charts[0]: the chart does not render: execution error at (toy/templates/a.yaml:1:3): no way"}},
		"not YAML":           {files: map[string]string{"a.yaml": "kind: [\n"}, want: []string{"chart-render spec.charts[0]: the chart does not render: YAML parse error on toy/templates/a.yaml"}},
		"another Kubernetes": {files: map[string]string{"Chart.yaml": "apiVersion: v2\nname: toy\nversion: 1.0.0\nkubeVersion: '<1.30.0'\n"}, want: []string{"chart-render spec.charts[0]: the chart does not render: the chart needs Kubernetes <1.30.0, and this is v1.33.8+k0s"}},
		"schema":             {files: map[string]string{"values.yaml": "a: {b: 1}\n", "values.schema.json": `{"properties": {"a": {"properties": {"b": {"type": "string"}}}}}`}, want: []string{"chart-values spec.charts[0].values.a.b: does not fit the schema of the chart: got number, want string"}},
		"invalid schema":     {files: map[string]string{"values.schema.json": `{`}, want: []string{"chart-values spec.charts[0].values: do not fit the schema"}},
		"schema elsewhere":   {files: map[string]string{"values.yaml": "a: 1\n", "values.schema.json": `{"properties": {"a": {"$ref": "file:///etc/passwd"}}}`}, want: []string{"chart-unchecked spec.charts[0].values: are not checked: the values.schema.json of toy refers to another document: file:///etc/passwd"}},
		"values not there":   {change: func(c *spec.Chart) { c.ValuesFile = "absent.yaml" }, want: []string{"chart-values spec.charts[0].valuesFile: cannot read absent.yaml: no such file"}},
		"values not mapping": {files: map[string]string{"x/v.yaml": "[1]"}, change: func(c *spec.Chart) { c.ValuesFile = "toy/x/v.yaml" }, want: []string{"chart-values spec.charts[0].valuesFile: cannot read toy/x/v.yaml: it is not a mapping"}},
		"10 MB of values":    {files: map[string]string{"x/v.yaml": "a: " + strings.Repeat("x", 10<<20)}, change: func(c *spec.Chart) { c.ValuesFile = "toy/x/v.yaml" }, want: []string{"chart-values spec.charts[0].valuesFile: cannot read toy/x/v.yaml: it has more than 524288 bytes"}},
		"10 MB inline":       {change: func(c *spec.Chart) { c.Values = map[string]any{"a": strings.Repeat("x", 10<<20)} }, want: []string{"chart-values spec.charts[0].values: the values of the chart have 10485768 bytes"}},
		"no kind":            {files: map[string]string{"a.yaml": "apiVersion: v1\nmetadata: {name: b}\n"}, want: []string{"chart-field spec.charts[0]: toy/templates/a.yaml: an object has no kind"}},
		"no apiVersion":      {files: map[string]string{"a.yaml": "kind: ConfigMap\nmetadata: {name: b}\n"}, want: []string{"chart-field spec.charts[0]: toy/templates/a.yaml: ConfigMap b has no apiVersion"}},
		"no name":            {files: map[string]string{"a.yaml": "apiVersion: v1\nkind: ConfigMap\n"}, want: []string{"chart-field spec.charts[0]: toy/templates/a.yaml: a ConfigMap has no name"}},
		"a long name":        {files: map[string]string{"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + strings.Repeat("a", 300) + "}\n"}, want: []string{"chart-field spec.charts[0]: toy/templates/a.yaml: the name of a ConfigMap has 300 characters"}},
		"a generated name":   {files: map[string]string{"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: b-}\n"}},
		"a wrong type":       {files: map[string]string{"a.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: b}\nspec: {replicas: '3'}\n"}, want: []string{"chart-field spec.charts[0]: toy/templates/a.yaml: Deployment b: spec.replicas cannot be a string"}},
		"a wrong quantity":   {files: map[string]string{"a.yaml": pod + "{containers: [{name: c, resources: {limits: {memory: much}}, " + image + "}]}"}, want: []string{"chart-field spec.charts[0]: toy/templates/a.yaml: Pod p: a field has a wrong format: quantities must match"}},
		"an object twice":    {files: map[string]string{"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n", "b.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n"}, want: []string{"chart-object spec.charts[0]: toy/templates/b.yaml: ConfigMap b is created by chart toy (toy/templates/a.yaml), too"}},
		"dependency of another version": {files: map[string]string{"Chart.yaml": "apiVersion: v2\nname: toy\nversion: 1.0.0\ndependencies: [{name: redis, version: 1.x, repository: 'https://a.example'}]\n", "charts/redis/Chart.yaml": "apiVersion: v2\nname: redis\nversion: 9.0.0\n"},
			want: []string{"chart-read spec.charts[0].chart: the dependency redis 1.x of toy is not in the chart"}},
		"no image":            {files: map[string]string{"a.yaml": pod + "{containers: [{name: c, image: ''}]}"}, want: []string{"chart-field spec.charts[0]: toy/templates/a.yaml: Pod p: container c has no image"}},
		"a number as image":   {files: map[string]string{"a.yaml": pod + "{containers: [{name: c, image: 12345}]}"}, want: []string{"chart-field spec.charts[0]: toy/templates/a.yaml: Pod p: spec.containers.image cannot be a number"}},
		"a URL as image":      {files: map[string]string{"a.yaml": pod + "{containers: [{name: c, image: 'http://a.example/b:1'}]}"}, want: []string{`chart-render spec.charts[0]: toy/templates/a.yaml: Pod p: "http://a.example/b:1" is not a reference of an image`}},
		"removed API":         {files: map[string]string{"a.yaml": "apiVersion: policy/v1beta1\nkind: PodDisruptionBudget\nmetadata: {name: b}\n"}, want: []string{"chart-removed-api spec.charts[0]: toy/templates/a.yaml: PodDisruptionBudget b is of policy/v1beta1, which Kubernetes 1.25 has removed"}},
		"unknown kind":        {files: map[string]string{"a.yaml": "apiVersion: a.example/v1\nkind: Thing\nmetadata: {name: b}\n"}, want: []string{"chart-kind spec.charts[0]: toy/templates/a.yaml: Thing b is of a.example/v1, which neither Kubernetes 1.33, this chart nor a chart before it defines"}},
		"no exact tag":        {files: map[string]string{"a.yaml": pod + "{containers: [{name: c, image: nginx}, {name: d, image: 'quay.io/a/b:latest'}]}"}, want: []string{"chart-image-tag spec.charts[0]: toy/templates/a.yaml: Pod p: docker.io/library/nginx:latest has no exact tag", "chart-image-tag spec.charts[0]: toy/templates/a.yaml: Pod p: quay.io/a/b:latest"}},
		"no reference":        {files: map[string]string{"a.yaml": pod + "{containers: [{name: c, image: 'A B'}]}"}, want: []string{`chart-render spec.charts[0]: toy/templates/a.yaml: Pod p: "A B" is not a reference of an image`}},
		"pull policy":         {files: map[string]string{"a.yaml": pod + "{containers: [{name: c, imagePullPolicy: Always, " + image + "}]}"}, want: []string{"chart-image-pull spec.charts[0]: toy/templates/a.yaml: Pod p: container c"}},
		"privileged":          {files: map[string]string{"a.yaml": pod + "{hostPID: true, volumes: [{hostPath: {path: /etc}}], containers: [{name: c, securityContext: {privileged: true}, " + image + "}]}"}, want: []string{"chart-privileged spec.charts[0]: toy/templates/a.yaml: Pod p: its pods have power over their host: hostPID, hostPath /etc, privileged container c"}},
		"host port of Plinth": {files: map[string]string{"a.yaml": pod + "{containers: [{name: c, ports: [{hostPort: 9444}, {hostPort: 53, protocol: UDP}], " + image + "}]}"}, want: []string{"chart-port spec.charts[0]: toy/templates/a.yaml: Pod p has host port 9444, which plinth-agent uses"}},
		"host network":        {files: map[string]string{"a.yaml": pod + "{hostNetwork: true, containers: [{name: c, ports: [{containerPort: 6443}], " + image + "}]}"}, want: []string{"chart-port spec.charts[0]: toy/templates/a.yaml: Pod p has host port 6443, which kube-apiserver uses", "chart-privileged "}},
		"a probe's port": {files: map[string]string{"a.yaml": pod + "{hostNetwork: true, containers: [{name: c, readinessProbe: {tcpSocket: {port: 10250}}, livenessProbe: {httpGet: {port: 2379, host: other.example.com}}, " + image + "}]}"},
			want: []string{"chart-port spec.charts[0]: toy/templates/a.yaml: Pod p has host port 10250, which kubelet uses", "chart-privileged "}},
		"a probe in the pod's network": {files: map[string]string{"a.yaml": pod + "{containers: [{name: c, readinessProbe: {tcpSocket: {port: 10250}}, " + image + "}]}"}},
		"a node port twice": {files: map[string]string{"a.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 1, nodePort: 7000}, {port: 1, nodePort: 7000, protocol: UDP}]}\n", "b.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: t}\nspec: {ports: [{port: 1, nodePort: 7000}]}\n"},
			want: []string{"chart-port spec.charts[0]: toy/templates/b.yaml: Service t has node port 7000, which chart toy (toy/templates/a.yaml: Service s) uses, too"}},
		"a host port of two pods": {files: map[string]string{"a.yaml": pod + "{nodeSelector: {a: b}, containers: [{name: c, ports: [{hostPort: 7000}], " + image + "}]}", "b.yaml": strings.Replace(pod, "name: p", "name: q", 1) + "{nodeSelector: {a: c}, containers: [{name: c, ports: [{hostPort: 7000}], " + image + "}]}"}},
		"node port":               {files: map[string]string{"a.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 1, nodePort: 8800}, {port: 2, nodePort: 40000}]}\n"}, want: []string{"chart-port spec.charts[0]: toy/templates/a.yaml: Service s has node port 8800, which the console uses (spec.kotsadm.uiBindPort)", "chart-port spec.charts[0]: toy/templates/a.yaml: Service s has node port 40000, which is outside"}},
		"image in a ConfigMap": {files: map[string]string{"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {p: \"spec:\\n  - image: busybox:1.36\\n\", q: run ghcr.io/a/b:v2 now, r: 'https://a.example/b:8080'}\n"},
			want: []string{"chart-image-unknown spec.charts[0]: toy/templates/a.yaml: ConfigMap m: docker.io/library/busybox:1.36 looks like an image", "chart-image-unknown spec.charts[0]: toy/templates/a.yaml: ConfigMap m: ghcr.io/a/b:v2 looks like an image"}},
		"image that is added": {files: map[string]string{"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {q: ghcr.io/a/b:v2}\n"}, change: func(c *spec.Chart) { c.AdditionalImages = []string{"ghcr.io/a/b:v2"} }},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeChart(t, dir, "toy", c.files)
			chart := spec.Chart{Name: "toy", Chart: "toy", Version: "1.0.0", Namespace: "toy"}
			if c.change != nil {
				c.change(&chart)
			}
			_, wrong := charts.Inspect(newInstaller(chart), charts.Source{Dir: dir})
			got := strings.Split(strings.TrimSuffix(describe(wrong), "\n"), "\n")
			if len(wrong) != len(c.want) {
				t.Fatalf("%d violations:\n%s", len(wrong), describe(wrong))
			}
			for i, want := range c.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("%s\nwant %s", got[i], want)
				}
			}
		})
	}
}

func TestInspect_WarnsOfAutoscalersWithoutMetrics(t *testing.T) {
	const hpa, api = "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: h}\nspec: {maxReplicas: 2, %s}\n",
		"apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {name: v1beta1.metrics.k8s.io}\n"
	for name, c := range map[string]struct {
		enabled bool
		metrics string
		before  string // an object of an earlier chart
		want    string
	}{
		"by CPU":                {metrics: "metrics: [{type: Resource}]", want: "chart-autoscaler spec.charts[1]: toy/templates/a.yaml: HorizontalPodAutoscaler h scales by CPU or memory"},
		"by that of containers": {metrics: "metrics: [{type: Pods}, {type: ContainerResource}]", want: "chart-autoscaler "},
		"by default":            {metrics: "minReplicas: 1", want: "chart-autoscaler "},
		"by other metrics":      {metrics: "metrics: [{type: External}]"},
		"with metrics-server":   {enabled: true, metrics: "minReplicas: 1"},
		"with another one":      {metrics: "minReplicas: 1", before: api},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeChart(t, dir, "first", map[string]string{"a.yaml": c.before})
			writeChart(t, dir, "toy", map[string]string{"a.yaml": fmt.Sprintf(hpa, c.metrics)})
			in := newInstaller(spec.Chart{Name: "first", Chart: "first", Version: "1.0.0", Namespace: "a"}, spec.Chart{Name: "toy", Chart: "toy", Version: "1.0.0", Namespace: "toy"})
			in.Spec.MetricsServer.Disabled = !c.enabled
			_, wrong := charts.Inspect(in, charts.Source{Dir: dir})
			if got := describe(wrong); (got == "") != (c.want == "") || !strings.HasPrefix(got, c.want) {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestInspect_ReportsSomeOfManyObjects(t *testing.T) {
	dir, files := t.TempDir(), map[string]string{}
	for i := range 30 {
		files[fmt.Sprintf("t%d.yaml", i)] = fmt.Sprintf("apiVersion: a.example/v1\nkind: Thing\nmetadata: {name: n%d}\n", i)
	}
	writeChart(t, dir, "toy", files)
	_, wrong := charts.Inspect(newInstaller(spec.Chart{Name: "toy", Chart: "toy", Version: "1.0.0", Namespace: "toy"}), charts.Source{Dir: dir})
	if len(wrong) != 21 || wrong[20].Message != "10 more like these" {
		t.Error(describe(wrong))
	}
}

func TestInspect_ComparesCharts(t *testing.T) {
	dir := t.TempDir()
	host := func(port int) map[string]string {
		return map[string]string{"a.yaml": fmt.Sprintf(pod+"{containers: [{name: c, image: 'docker.io/library/a:1', ports: [{hostPort: %d}]}]}", port)}
	}
	writeChart(t, dir, "a", host(7000))
	writeChart(t, dir, "b", host(7000))
	writeChart(t, dir, "c", map[string]string{"a.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 1, nodePort: 7000}]}\n"})
	writeChart(t, dir, "user", map[string]string{"a.yaml": "apiVersion: example.com/v1\nkind: Greeting\nmetadata: {name: g}\n",
		"b.yaml": `{{ if .Capabilities.APIVersions.Has "example.com/v1/Greeting" }}` + pod + "{containers: [{name: c, image: 'docker.io/library/seen:1'}]}{{ end }}"})
	testkit.Must(t, os.CopyFS(filepath.Join(dir, "hello"), os.DirFS("testdata/hello")))
	chart := func(name string, after ...string) spec.Chart {
		return spec.Chart{Name: name, Chart: name, Version: "1.0.0", Namespace: name, After: after}
	}
	defining := hello()
	defining.Chart = "hello"
	t.Run("ports", func(t *testing.T) {
		_, wrong := charts.Inspect(newInstaller(chart("a"), chart("b"), chart("c")), charts.Source{Dir: dir})
		if got := describe(wrong); len(wrong) != 2 || !strings.Contains(got, "spec.charts[1]: b/templates/a.yaml: Pod p has host port 7000, which chart a (a/templates/a.yaml: Pod p) uses, too") || !strings.Contains(got, "spec.charts[2]: c/") {
			t.Error(got)
		}
	})
	t.Run("ports of an add-on", func(t *testing.T) {
		for name, c := range map[string]struct {
			expose string
			want   int
		}{"host ports": {spec.ExposeHostPorts, 1}, "an address": {spec.ExposeLoadBalancer, 0}} {
			t.Run(name, func(t *testing.T) {
				in := newInstaller(chart("a"))
				in.Spec.Kotsadm = nil
				in.Spec.Ingress = &spec.Ingress{Version: "3.7.13", Expose: c.expose, HTTPPort: 80, HTTPSPort: 7000}
				_, wrong := charts.Inspect(in, charts.Source{Dir: dir})
				if len(wrong) != c.want || c.want > 0 && !strings.Contains(describe(wrong), "a/templates/a.yaml: Pod p has host port 7000, which Plinth's add-on Traefik (ingress/templates/traefik.yaml: DaemonSet traefik) uses, too") {
					t.Error(describe(wrong))
				}
			})
		}
	})
	t.Run("objects", func(t *testing.T) {
		const class, secret = "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: traefik}\n", "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"
		const crd = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: middlewares.traefik.io}\n"
		writeChart(t, dir, "class", map[string]string{"a.yaml": class, "b.yaml": secret, "crds/c.yaml": crd})
		writeChart(t, dir, "same", map[string]string{"a.yaml": class, "b.yaml": secret})
		with := newInstaller(chart("class"))
		with.Spec.Kotsadm, with.Spec.Ingress = nil, &spec.Ingress{Version: "3.7.13", Expose: spec.ExposeLoadBalancer, HTTPPort: 80, HTTPSPort: 443}
		for name, c := range map[string]struct {
			in   *spec.Installer
			want string
		}{
			"of an add-on":     {with, "chart-object spec.charts[0]: class/templates/a.yaml: IngressClass traefik is created by Plinth's add-on Traefik (ingress/templates/traefik.yaml), too"},
			"of another chart": {newInstaller(chart("class"), chart("same")), "chart-object spec.charts[1]: same/templates/a.yaml: IngressClass traefik is created by chart class (class/templates/a.yaml), too"},
			"of none":          {newInstaller(chart("class")), ""},
		} {
			t.Run(name, func(t *testing.T) {
				_, wrong := charts.Inspect(c.in, charts.Source{Dir: dir})
				if got := describe(wrong); len(wrong) > 1 || (got == "") != (c.want == "") || !strings.HasPrefix(got, c.want) {
					t.Errorf("%s, want %s", got, c.want)
				}
			})
		}
	})
	t.Run("objects of the system", func(t *testing.T) {
		const metrics = "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {name: v1beta1.metrics.k8s.io}\n"
		const dns = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: coredns}\n"
		const proxy = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: kube-proxy, namespace: kube-system}\n"
		space := func(name string) string { return "apiVersion: v1\nkind: Namespace\nmetadata: {name: " + name + "}\n" }
		for name, c := range map[string]struct {
			object    string
			namespace string
			change    func(*spec.Spec)
			want      string
		}{
			"metrics-server":          {metrics, "a", nil, "chart-object spec.charts[0]: system/templates/a.yaml: APIService v1beta1.metrics.k8s.io is created by k0s (its metrics-server), too (set spec.metricsServer.disabled: true if the chart replaces k0s's metrics-server)"},
			"metrics-server disabled": {metrics, "a", func(s *spec.Spec) { s.MetricsServer.Disabled = true }, ""},
			"CoreDNS":                 {dns, "kube-system", nil, "chart-object spec.charts[0]: system/templates/a.yaml: ConfigMap coredns is created by k0s (its coredns), too (leave it out of the chart: k0s writes its own again each time it starts)"},
			"that name elsewhere":     {dns, "a", nil, ""},
			"kube-proxy":              {proxy, "a", nil, "chart-object spec.charts[0]: system/templates/a.yaml: DaemonSet kube-proxy is created by k0s (its kube-proxy), too"},
			"kube-proxy disabled": {proxy, "a", func(s *spec.Spec) {
				s.K0s.Config = map[string]any{"spec": map[string]any{"network": map[string]any{"kubeProxy": map[string]any{"disabled": true}}}}
			}, ""},
			"a namespace of Kubernetes": {space("kube-system"), "a", nil, "chart-object spec.charts[0]: system/templates/a.yaml: Namespace kube-system is created by Kubernetes, too (leave it out of the chart)"},
			"a namespace of an add-on": {space("ingress"), "a", func(s *spec.Spec) {
				s.Ingress = &spec.Ingress{Version: "3.7.13", Expose: spec.ExposeHostPorts, HTTPPort: 80, HTTPSPort: 443}
			}, "chart-object spec.charts[0]: system/templates/a.yaml: Namespace ingress is created by Plinth (for its add-on Traefik), too"},
			"a namespace of no add-on":   {space("ingress"), "a", nil, ""},
			"the namespace of the chart": {space("a"), "a", nil, ""},
		} {
			t.Run(name, func(t *testing.T) {
				writeChart(t, dir, "system", map[string]string{"a.yaml": c.object})
				one := chart("system")
				one.Namespace = c.namespace
				in := newInstaller(one)
				in.Spec.Kotsadm = nil
				if c.change != nil {
					c.change(&in.Spec)
				}
				_, wrong := charts.Inspect(in, charts.Source{Dir: dir})
				if got := describe(wrong); len(wrong) > 1 || (got == "") != (c.want == "") || !strings.HasPrefix(got, c.want) {
					t.Errorf("%s, want %s", got, c.want)
				}
			})
		}
	})
	t.Run("a kind of an add-on before", func(t *testing.T) {
		writeChart(t, dir, "route", map[string]string{"a.yaml": "apiVersion: traefik.io/v1alpha1\nkind: IngressRoute\nmetadata: {name: r}\nspec: {}\n"})
		in := newInstaller(chart("route"))
		in.Spec.Kotsadm = nil
		if _, wrong := charts.Inspect(in, charts.Source{Dir: dir}); len(wrong) != 1 || wrong[0].Rule != "chart-kind" {
			t.Error(describe(wrong))
		}
		in.Spec.Ingress = &spec.Ingress{Version: "3.7.13", Expose: spec.ExposeLoadBalancer, HTTPPort: 80, HTTPSPort: 443}
		if _, wrong := charts.Inspect(in, charts.Source{Dir: dir}); len(wrong) > 0 {
			t.Error(describe(wrong))
		}
	})
	t.Run("a kind of a chart before", func(t *testing.T) {
		got, wrong := charts.Inspect(newInstaller(chart("user", "hello"), defining), charts.Source{Dir: dir})
		if len(wrong) > 0 || len(got) != 2 || got[0].Name != "hello" || !strings.Contains(fmt.Sprint(got[1].Images), "seen:1") {
			t.Errorf("%v\n%s", got[1].Images, describe(wrong))
		}
	})
	t.Run("a kind of a chart behind", func(t *testing.T) {
		if _, wrong := charts.Inspect(newInstaller(chart("user"), defining), charts.Source{Dir: dir}); len(wrong) != 1 || wrong[0].Rule != "chart-kind" {
			t.Error(describe(wrong))
		}
	})
}

func TestInspect_UsesRemoteCharts(t *testing.T) {
	archive, err := charts.ReadLocal("testdata/hello")
	testkit.Must(t, err)
	c := hello()
	c.Chart = "oci://registry.example.com/charts/hello"
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"stored":     {nil, ""},
		"not stored": {fmt.Errorf("x: %w", charts.ErrNotStored), "chart-unchecked spec.charts[0].chart"},
		"damaged":    {os.ErrInvalid, "chart-read spec.charts[0].chart: invalid argument"},
	} {
		t.Run(name, func(t *testing.T) {
			got, wrong := charts.Inspect(newInstaller(c), charts.Source{Remote: func(spec.Chart) ([]byte, error) { return archive, tc.err }})
			if text := describe(wrong); (tc.want == "") != (len(got) == 1) || !strings.HasPrefix(text, tc.want) || tc.want == "" && text != "" {
				t.Errorf("%d charts: %s", len(got), text)
			}
		})
	}
}

// The images of objects that only an operator reads.
func TestFindImages_KnowsFieldsOfOperators(t *testing.T) {
	for name, c := range map[string]struct{ object, want string }{
		"cert-manager":    {pod + "{containers: [{name: c, image: 'quay.io/aa:1', args: ['--acme-http01-solver-image=quay.io/jetstack/solver:v1']}]}", "quay.io/aa:1 quay.io/jetstack/solver:v1"},
		"longhorn":        {pod + "{containers: [{name: c, command: [m, --engine-image, 'longhornio/engine:v1']}]}", "docker.io/longhornio/engine:v1"},
		"prometheus":      {"apiVersion: monitoring.coreos.com/v1\nkind: Prometheus\nmetadata: {name: p}\nspec: {image: 'quay.io/pp:v3', containers: [{name: x, image: 'quay.io/xx:1'}]}\n", "quay.io/xx:1 quay.io/pp:v3"},
		"a mapping":       {"apiVersion: operator.victoriametrics.com/v1beta1\nkind: VMSingle\nmetadata: {name: p}\nspec: {image: {repository: victoriametrics/vm, tag: v1}}\n", "docker.io/victoriametrics/vm:v1"},
		"another group":   {"apiVersion: a.example/v1\nkind: Prometheus\nmetadata: {name: p}\nspec: {image: 'quay.io/pp:v3'}\n", ""},
		"related images":  {pod + "{containers: [{name: c, env: [{name: RELATED_IMAGE_X, value: 'quay.io/xx:1'}, {name: OTHER, value: y}]}]}", "quay.io/xx:1"},
		"ephemeral, init": {pod + "{initContainers: [{image: 'aa:1'}], ephemeralContainers: [{image: 'bb:1'}], volumes: [{image: {reference: 'cc:1'}}]}", "docker.io/library/aa:1 docker.io/library/bb:1 docker.io/library/cc:1"},
		"windows":         {pod + "{nodeSelector: {kubernetes.io/os: windows}, containers: [{image: 'aa:1'}]}", ""},
		"a cron job":      {"apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: p}\nspec: {jobTemplate: {spec: {template: {spec: {containers: [{image: 'aa:1'}]}}}}}\n", "docker.io/library/aa:1"},
		"tag and digest":  {pod + "{containers: [{image: 'aa:1@sha256:" + strings.Repeat("a", 64) + "'}]}", "docker.io/library/aa@sha256:" + strings.Repeat("a", 64)},
		"twice":           {pod + "{containers: [{image: 'aa:1'}, {image: 'docker.io/library/aa:1'}]}", "docker.io/library/aa:1"},
	} {
		t.Run(name, func(t *testing.T) {
			var refs []string
			for _, i := range charts.FindImages([]charts.Object{decode(t, c.object)}).Images {
				refs = append(refs, i.Ref)
			}
			if got := strings.Join(refs, " "); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// decode returns the object in a YAML text.
func decode(t testing.TB, text string) charts.Object {
	t.Helper()
	obj := charts.NewObject("t.yaml", nil)
	if err := yaml.Unmarshal([]byte(text), &obj.Object); err != nil {
		t.Fatal(err)
	}
	return obj
}

func FuzzFindImages(f *testing.F) {
	f.Add(pod + "{containers: [{image: 'a:1', args: [--engine-image]}], volumes: [1]}")
	f.Add("kind: List\nitems: [1]\ndata: {a: \"- image: x\\nhttps://a.b/c:1\"}")
	f.Fuzz(func(t *testing.T, text string) {
		obj := charts.NewObject("t.yaml", nil)
		if yaml.Unmarshal([]byte(text), &obj.Object) != nil || obj.Object == nil {
			return
		}
		found := charts.FindImages([]charts.Object{obj})
		for _, i := range found.Images {
			if !strings.Contains(i.Ref, "/") || i.Template == "" {
				t.Errorf("%+v", i)
			}
		}
	})
}

func FuzzInspect_Archive(f *testing.F) {
	archive, err := charts.ReadLocal("testdata/hello")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(archive)
	f.Add([]byte("x"))
	c := hello()
	c.Chart = "oci://registry.example.com/charts/hello"
	f.Fuzz(func(t *testing.T, archive []byte) {
		done, wrong := charts.Inspect(newInstaller(c), charts.Source{Remote: func(spec.Chart) ([]byte, error) { return archive, nil }})
		if len(done) == 0 && len(wrong) == 0 {
			t.Error("no chart and no violation")
		}
	})
}
