package diagnosis

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Lines that k0s 1.36 wrote on a host with a running cluster, at its start or at a stop by a command.
const (
	lineSkippedPlugin = `time="2026-11-30 01:22:50" level=info msg="time=\"2026-11-30T01:22:50.393674128Z\" level=info msg=\"skip loading plugin ` +
		`\\\"io.containerd.snapshotter.v1.aufs\\\"...\" error=\"aufs is not supported (modprobe aufs failed: exit status 1 ` +
		`\\\"modprobe: FATAL: Module aufs not found in directory /lib/modules/6.18.44\\\\n\\\"): skip plugin\" type=io.containerd.snapshotter.v1" ` +
		`component=containerd stream=stderr`
	lineSocketMissing = `time="2026-11-30 01:22:50" level=warning msg="[core] [Channel #9 SubChannel #10] grpc: addrConn.createTransport failed ` +
		`to connect to {Addr: \"/run/k0s/containerd.sock\", ServerName: \"localhost\", ` +
		`Attributes: {\"<%!p(networktype.keyType=grpc.internal.transport.networktype)>\": \"unix\" }, }. ` +
		`Err: connection error: desc = \"transport: Error while dialing: dial unix /run/k0s/containerd.sock: connect: no such file or directory\"" component=grpc`
	lineNoNetwork = `time="2026-11-30 01:22:50" level=info msg="time=\"2026-11-30T01:22:50.399381523Z\" level=error msg=\"failed to load cni during init, ` +
		`please check CRI plugin status before setting up network for pods\" error=\"cni config load failed: no network config found in /etc/cni/net.d: ` +
		`cni plugin not initialized: failed to load cni config\"" component=containerd stream=stderr`
	lineNoImageFS = `time="2026-11-30 01:22:50" level=info msg="E1130 01:22:50.975734     339 eviction_manager.go:267] \"eviction manager: failed to check ` +
		`if we have separate container filesystem. Ignoring.\" err=\"no imagefs label for configured runtime\"" component=kubelet stream=stderr`
	lineSlowApply = `time="2026-11-30 01:22:44" level=info msg="{\"level\":\"warn\",\"ts\":\"2026-11-30T01:22:44.743706Z\",\"caller\":\"etcdserver/util.go:183\",` +
		`\"msg\":\"apply request took too long\",\"took\":\"484.358422ms\",\"expected-duration\":\"100ms\"}" component=etcd stream=stderr`
	lineLostLease = `time="2026-11-30 01:24:28" level=info msg="lost leader lease" component=poolleaderelector`
	lineNodeGone  = `time="2026-11-30 01:24:28" level=error msg="unable to get controlnode 'c1': client rate limiter Wait returned an error: ` +
		`context canceled" component=etcdmember`
	lineStarting  = `Starting k0scontroller.service - k0s - Zero Friction Kubernetes...`
	lineStopping  = `Stopping k0scontroller.service - k0s - Zero Friction Kubernetes...`
	lineRestart   = `k0scontroller.service: Scheduled restart job, restart counter is at 1.`
	lineBadConfig = `Error: failed to load node config: error converting YAML to JSON: yaml: line 135: did not find expected node content`
)

func TestParseLine(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		level      Level
		text       string
	}{
		{"containerd below k0s", lineSkippedPlugin, LevelInfo, `skip loading plugin "io.containerd.snapshotter.v1.aufs"...: aufs is not supported ` +
			`(modprobe aufs failed: exit status 1 "modprobe: FATAL: Module aufs not found in directory /lib/modules/6.18.44\n"): skip plugin`},
		{"etcd below k0s", lineSlowApply, LevelWarning, "apply request took too long"},
		{"k0s", lineLostLease, LevelInfo, "lost leader lease"},
		{"k0s, with an error", `time="2026-11-30 01:24:54" level=error msg="Failed to start" component=k0s error="dial unix /run/a.sock: connect: connection refused"`,
			LevelError, "Failed to start: dial unix /run/a.sock: connect: connection refused"},
		{"kubelet below k0s", `time="2026-11-30 01:24:54" level=info msg="E1130 01:24:54.260360     812 kubelet.go:1] \"No disk\"" component=kubelet stream=stderr`,
			LevelError, `E1130 01:24:54.260360     812 kubelet.go:1] "No disk"`},
		{"a crash below k0s", `time="2026-11-30 01:24:54" level=info msg="panic: page 3 already freed" component=etcd stream=stderr`,
			LevelUnknown, "panic: page 3 already freed"},
		{"the end of k0s", lineBadConfig, LevelUnknown, lineBadConfig},
		{"systemd", lineStarting, LevelUnknown, lineStarting},
		{"cut", `time="2026-11-30 01:24:54" level=error msg="cut`, LevelError, "cut"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if level, text := parseLine(tt.line); level != tt.level || text != tt.text {
				t.Errorf("%d %q", level, text)
			}
		})
	}
}

func FuzzParseLine(f *testing.F) {
	for _, text := range []string{lineSkippedPlugin, lineSlowApply, lineBadConfig} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if level, got := parseLine(text); level < LevelUnknown || level > LevelError || text == "" && got != "" {
			t.Errorf("%d %q", level, got)
		}
	})
}

func TestCurrentRun(t *testing.T) {
	for _, tt := range []struct{ name, lines, want string }{
		{"restarts are over", "start a restart start b", "start b"},
		{"running", "a start b", "start b"},
		{"no start in the window", "a b", "a b"},
		{"started again by a command", "start a stop b start c", "start c"},
		{"stopped by a command", "start a stop b", "start a"},
		{"stopped before the window", "stop b", ""},
		{"crashes", "start a restart start b restart start c", "start a restart start b restart start c"},
		{"crashes after a start by a command", "start a stop b start c restart start d", "start c restart start d"},
		{"fixed after crashes", "start a restart start b stop start c", "start c"},
		{"started at boot after a power cut", "start a start b", "start b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			words := map[string]string{"start": lineStarting, "stop": lineStopping, "restart": lineRestart}
			var lines []Line
			for w := range strings.FieldsSeq(tt.lines) {
				if text, ok := words[w]; ok {
					w = text
				}
				lines = append(lines, Line{Text: w})
			}
			var got []string
			for _, l := range currentRun(lines, strings.HasSuffix(tt.name, "over")) {
				w := l.Text
				for word, text := range words {
					if w == text {
						w = word
					}
				}
				got = append(got, w)
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("%q", got)
			}
		})
	}
}

// startNoise are lines that k0s writes at every start.
func startNoise() (noise []Line) {
	noise = append(noise, line(lineStarting), line(lineSkippedPlugin), line(lineNoNetwork), line(lineNoImageFS))
	for range 25 {
		noise = append(noise, line(lineSocketMissing), line(lineSlowApply))
	}
	return noise
}

// stopK0s stops k0s as "systemctl stop" does.
func stopK0s(s *Snapshot) {
	s.K0s.Active, s.K0s.Sub, s.K0s.Result, s.K0s.Since = "inactive", "dead", "success", time.Time{}
	s.Cluster, s.ClusterError, s.Etcd, s.EtcdError = nil, "connection refused", nil, "connection refused"
	s.Logs[LogK0s] = append(startNoise(), line(lineStopping), line(lineLostLease), line(lineLostLease), line(lineNodeGone))
}

func TestDiagnose_LinesOfEveryStartAreNoEvidence(t *testing.T) {
	errorsIn := func(s Snapshot) (rules []string) {
		for _, f := range Diagnose(s) {
			if f.Severity == Error {
				rules = append(rules, f.Rule)
			}
		}
		return rules
	}
	starting := healthy()
	starting.Logs[LogK0s] = startNoise()
	nodeNotReady(corev1.ConditionFalse, "KubeletNotReady", "x")(&starting)
	if got := errorsIn(starting); !slices.Equal(got, []string{"node-not-ready"}) {
		t.Errorf("starting: %q", got)
	}
	stopped := healthy()
	stopK0s(&stopped)
	if got := errorsIn(stopped); !slices.Equal(got, []string{"k0s-not-running", "api-not-answering"}) {
		t.Errorf("stopped: %q", got)
	}
	if text := Diagnose(stopped)[0].Evidence[0]; text != "k0scontroller.service is inactive (dead)" {
		t.Errorf("the evidence has lines of the stop: %q", text)
	}
	over := healthy()
	over.Logs[LogK0s] = []Line{line(lineStarting), line(lineBadConfig), line(lineRestart), line(lineStarting), line(lineBadConfig),
		line(lineStopping), line(lineStarting)}
	nodeNotReady(corev1.ConditionFalse, "KubeletNotReady", "x")(&over)
	if got := errorsIn(over); !slices.Equal(got, []string{"node-not-ready"}) {
		t.Errorf("a fault that is over: %q", got)
	}
	crashing := healthy()
	stop(&crashing)
	crashing.Logs[LogK0s] = over.Logs[LogK0s][:5]
	if got := errorsIn(crashing); len(got) == 0 || got[0] != "k0s-config-invalid" {
		t.Errorf("crashing: %q", got)
	}
}

func TestDiagnose_HintsAreRecent(t *testing.T) {
	s := healthy()
	s.Logs[LogK0s] = startNoise()
	found := Diagnose(s)
	if len(found) != 1 || found[0].Rule != "etcd-slow" || found[0].Severity != Warning {
		t.Errorf("%+v", found)
	}
	s.Logs[LogK0s] = append(s.Logs[LogK0s], Line{Time: now.Add(recentLinesRunning), Text: lineSlowApply})
	if found := Diagnose(s); len(found) > 0 {
		t.Errorf("later: %+v", found)
	}
}
