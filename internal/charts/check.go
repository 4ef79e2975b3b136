package charts

import (
	"bytes"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"gopkg.in/yaml.v3"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/plinthdev/plinth/internal/helm"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/upgrade"
)

//go:embed removedapis.yaml
var removedAPIsFile []byte

// removedBefore are the APIs that no Kubernetes of this build serves. A test decodes them too.
var removedBefore = sync.OnceValue(func() (rows []upgrade.RemovedAPI) {
	d := yaml.NewDecoder(bytes.NewReader(removedAPIsFile))
	d.KnownFields(true)
	if err := d.Decode(&rows); err != nil {
		panic("internal/charts/removedapis.yaml: " + err.Error())
	}
	return rows
})

// checkObjects checks the objects of a chart.
func (x *inspection) checkObjects(c spec.Chart, objects []Object) {
	objects = slices.DeleteFunc(slices.Clone(objects), func(o Object) bool { return !x.checkFields(o) })
	x.checkKinds(c, objects)
	x.metricsAPI = x.metricsAPI || slices.ContainsFunc(objects, func(o Object) bool { return o.GetKind() == "APIService" && o.GetName() == "v1beta1.metrics.k8s.io" })
	for _, obj := range objects {
		x.checkOwner(c, obj)
		x.checkPorts(c, obj)
		x.checkAutoscaler(obj)
		for _, pod := range podTemplates(obj) {
			if pod.isForWindows() {
				continue
			}
			x.checkContainers(pod)
			x.checkPrivileges(pod)
			x.checkPullPolicy(pod)
		}
	}
}

// checkKinds checks that the cluster has the kinds of the objects.
func (x *inspection) checkKinds(c spec.Chart, objects []Object) {
	known := map[string]bool{}
	for _, api := range slices.Concat(helm.ServedAPIs(x.kubernetes), x.apis, x.ownAPIs[c.Name]) {
		known[api] = true
	}
	removed := slices.DeleteFunc(append(slices.Clone(removedBefore()), upgrade.AllRemovedAPIs()...),
		func(r upgrade.RemovedAPI) bool { return r.Minor > spec.KubernetesMinor(x.in.Spec.K0s.Version) })
	for _, obj := range objects {
		apiVersion, kind := obj.GetAPIVersion(), obj.GetKind()
		switch row, isRemoved := upgrade.FindRemoved(removed, apiVersion, kind); {
		case isRemoved:
			x.report("chart-removed-api", "", fmt.Sprintf("%s is of %s, which Kubernetes 1.%d has removed", obj, apiVersion, row.Minor), "use a version of the chart with "+row.Use)
		case known[apiVersion+"/"+kind] || strings.HasSuffix(schema.FromAPIVersionAndKind(apiVersion, kind).Group, ".k0sproject.io"):
		default:
			x.report("chart-kind", "", fmt.Sprintf("%s is of %s, which neither Kubernetes 1.%d, this chart nor a chart before it defines", obj, apiVersion, spec.KubernetesMinor(x.in.Spec.K0s.Version)),
				"add the chart that defines it, and name it in after")
		}
	}
}

// checkPrivileges reports what gives a pod power over its host.
func (x *inspection) checkPrivileges(pod podTemplate) {
	found := map[string]bool{}
	for _, field := range []string{"hostNetwork", "hostPID", "hostIPC"} {
		found[field] = pod.spec[field] == true
	}
	volumes, _ := pod.spec["volumes"].([]any)
	for _, item := range volumes {
		volume, _ := item.(map[string]any)
		if host, ok := volume["hostPath"].(map[string]any); ok {
			found["hostPath "+textOf(host, "path")] = true
		}
	}
	for _, container := range pod.containers() {
		context, _ := container["securityContext"].(map[string]any)
		found["privileged container "+textOf(container, "name")] = context["privileged"] == true
	}
	maps.DeleteFunc(found, func(_ string, is bool) bool { return !is })
	if len(found) > 0 {
		x.report("chart-privileged", "", fmt.Sprintf("%s: its pods have power over their host: %s", pod.Object, strings.Join(slices.Sorted(maps.Keys(found)), ", ")), "check that the chart needs it")
	}
}

// checkAutoscaler reports an autoscaler that reads the CPU or the memory of pods in a cluster that does not measure them.
// Without metrics it reads the CPU.
func (x *inspection) checkAutoscaler(obj Object) {
	if !x.in.Spec.MetricsServer.Disabled || x.metricsAPI || obj.GetKind() != "HorizontalPodAutoscaler" {
		return
	}
	root, _ := obj.Object["spec"].(map[string]any)
	metrics, _ := root["metrics"].([]any)
	needs := func(item any) bool {
		metric, _ := item.(map[string]any)
		return strings.HasSuffix(textOf(metric, "type"), "Resource") // or ContainerResource
	}
	if len(metrics) == 0 || slices.ContainsFunc(metrics, needs) {
		x.report("chart-autoscaler", "", fmt.Sprintf("%s scales by CPU or memory, which spec.metricsServer.disabled leaves unmeasured", obj), "enable metrics-server, or put the chart of another one before this one")
	}
}

// checkPullPolicy reports containers that pull their image at every start.
func (x *inspection) checkPullPolicy(pod podTemplate) {
	for _, container := range pod.containers() {
		if textOf(container, "imagePullPolicy") == "Always" {
			x.report("chart-image-pull", "", fmt.Sprintf("%s: container %s has imagePullPolicy Always: in an air gap it does not start", pod.Object, textOf(container, "name")), "set IfNotPresent in the values of the chart")
		}
	}
}

// sortedKeys returns the keys of a mapping, sorted.
func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }
