package spec

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/strictyaml"
)

// kubeletSettings are the keys of a KubeletConfiguration by the type of their values (k8s.io/kubelet
// 0.33, config/v1beta1/types.go), without those that Plinth owns.
var kubeletSettings = []struct {
	want  string // the type in words
	valid func(*yaml.Node) bool
	keys  string
}{
	{"a whole number", hasTag("!!int"), `registryPullQPS registryBurst eventRecordQPS eventBurst oomScoreAdj nodeLeaseDurationSeconds
		imageGCHighThresholdPercent imageGCLowThresholdPercent maxPods podPidsLimit nodeStatusMaxImages maxOpenFiles kubeAPIQPS kubeAPIBurst
		maxParallelImagePulls evictionMaxPodGracePeriod podsPerCore iptablesMasqueradeBit iptablesDropBit containerLogMaxFiles
		containerLogMaxWorkers`},
	{"a number", hasTag("!!int", "!!float"), `memoryThrottlingFactor`},
	{"true or false", hasTag("!!bool"), `enableDebuggingHandlers enableContentionProfiling cgroupsPerQOS singleProcessOOMKill runOnce cpuCFSQuota
		serializeImagePulls mergeDefaultEvictionSettings enableControllerAttachDetach protectKernelDefaults makeIPTablesUtilChains failSwapOn
		kernelMemcgNotification enableSystemLogHandler enableSystemLogQuery enableProfilingHandler enableDebugFlagsHandler seccompDefault
		localStorageCapacityIsolation failCgroupV1`},
	{"a duration such as 30s", isDuration, `syncFrequency fileCheckFrequency httpCheckFrequency streamingConnectionIdleTimeout
		nodeStatusUpdateFrequency nodeStatusReportFrequency imageMinimumGCAge imageMaximumGCAge volumeStatsAggPeriod cpuManagerReconcilePeriod
		runtimeRequestTimeout cpuCFSQuotaPeriod evictionPressureTransitionPeriod containerLogMonitorInterval shutdownGracePeriod
		shutdownGracePeriodCriticalPods`},
	{"text", func(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode }, `staticPodPath podLogsDir tlsMinVersion
		imagePullCredentialsVerificationPolicy kubeletCgroups systemCgroups cgroupRoot cgroupDriver cpuManagerPolicy memoryManagerPolicy
		topologyManagerPolicy topologyManagerScope hairpinMode podCIDR contentType containerLogMaxSize configMapAndSecretChangeDetectionStrategy
		reservedSystemCPUs showHiddenMetricsForVersion systemReservedCgroup kubeReservedCgroup volumePluginDir providerID`},
	{"a list", func(n *yaml.Node) bool { return n.Kind == yaml.SequenceNode }, `tlsCipherSuites preloadedImagesVerificationAllowlist
		enforceNodeAllocatable allowedUnsafeSysctls shutdownGracePeriodByPodPriority reservedMemory`},
	{"a mapping", func(n *yaml.Node) bool { return n.Kind == yaml.MappingNode }, `staticPodURLHeader cpuManagerPolicyOptions
		topologyManagerPolicyOptions qosReserved evictionHard evictionSoft evictionSoftGracePeriod evictionMinimumReclaim featureGates memorySwap
		systemReserved kubeReserved logging crashLoopBackOff tracing userNamespaces`},
}

// hasTag returns a function that reports whether a node is a scalar with one of the tags.
func hasTag(tags ...string) func(*yaml.Node) bool {
	return func(n *yaml.Node) bool { return slices.Contains(tags, n.ShortTag()) }
}

func isDuration(n *yaml.Node) bool {
	_, err := time.ParseDuration(n.Value)
	return n.ShortTag() == "!!str" && err == nil
}

// checkKubeletSetting checks a key of the values of a worker profile, whose path is path, and the type
// of its value. k0s ignores a key that kubelet does not know. It cannot read a value of another type,
// and then configures no node at all.
func (r reader) checkKubeletSetting(path string, key, value *yaml.Node) {
	if findK0sField("spec.workerProfiles[].values."+key.Value, "").Treatment == Owned || isNull(value) {
		return
	}
	for _, s := range kubeletSettings {
		if slices.Contains(strings.Fields(s.keys), key.Value) {
			if !s.valid(value) {
				r.Report("k0s-config", path, value, "must be "+s.want+", found "+strictyaml.DescribeNode(value), "")
			} else {
				r.checkNestedKeys(path, value)
			}
			return
		}
	}
	if r.reportCase(path, key, kubeletKeys()) {
		return
	}
	hint := ""
	if near := problem.Nearest(key.Value, kubeletKeys()); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	r.Report("k0s-config-effect", path, key, "kubelet 1.33 has no such setting; k0s ignores what its kubelet does not know", hint)
}

// kubeletNested are the keys of the structures in a KubeletConfiguration, without those of owned ones.
const kubeletNested = `swapBehavior maxContainerRestartPeriod endpoint samplingRatePerMillion idsPerPod format flushFrequency verbosity
	vmodule options text json splitStream infoBufferSize filePattern priority shutdownGracePeriodSeconds numaNode limits`

// checkNestedKeys reports the keys below n, whose path is path, that are known in another case.
func (r reader) checkNestedKeys(path string, n *yaml.Node) {
	for i, item := range n.Content {
		switch {
		case n.Kind == yaml.SequenceNode:
			r.checkNestedKeys(fmt.Sprintf("%s[%d]", path, i), item)
		case n.Kind == yaml.MappingNode && i%2 == 1:
			below := strictyaml.JoinPath(path, n.Content[i-1].Value)
			r.reportCase(below, n.Content[i-1], strings.Fields(kubeletNested))
			r.checkNestedKeys(below, item)
		}
	}
}

// reportCase reports a key, whose path is path, that is one of known in another case, and reports
// whether it is. k0s ignores the case of keys, so the value would be used without having been checked.
func (r reader) reportCase(path string, key *yaml.Node, known []string) bool {
	for _, name := range known {
		if strings.EqualFold(name, key.Value) && name != key.Value {
			r.Report("k0s-config", path, key, "is not a key of kubelet", fmt.Sprintf("did you mean %q?", name))
			return true
		}
	}
	return false
}

// kubeletKeys returns the names of all settings of kubelet.
func kubeletKeys() (keys []string) {
	for _, s := range kubeletSettings {
		keys = append(keys, strings.Fields(s.keys)...)
	}
	return keys
}
