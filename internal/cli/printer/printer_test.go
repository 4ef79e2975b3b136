package printer

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/action/backup"
	bundleaction "github.com/plinthdev/plinth/internal/action/bundle"
	"github.com/plinthdev/plinth/internal/action/certificates"
	"github.com/plinthdev/plinth/internal/action/install"
	"github.com/plinthdev/plinth/internal/action/nodes"
	"github.com/plinthdev/plinth/internal/action/planfile"
	"github.com/plinthdev/plinth/internal/action/preflight"
	"github.com/plinthdev/plinth/internal/action/repair"
	"github.com/plinthdev/plinth/internal/action/restore"
	"github.com/plinthdev/plinth/internal/action/status"
	archive "github.com/plinthdev/plinth/internal/backup"
	"github.com/plinthdev/plinth/internal/compat"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/objectstore"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/ui"
)

// newReport returns a preflight report with entries and 22 passed checks.
func newReport(entries ...hostpreflight.Entry) *hostpreflight.Report {
	r := &hostpreflight.Report{Schema: 1, Passed: 22, Results: entries}
	for _, e := range entries {
		switch e.State {
		case hostpreflight.Warn:
			r.Warned++
		case hostpreflight.Fail:
			r.Failed++
		}
	}
	return r
}

// newEntry returns the result of one preflight.
func newEntry(id string, state hostpreflight.State, found, fix string) hostpreflight.Entry {
	return hostpreflight.Entry{ID: id, Group: "Hardware", Result: hostpreflight.Result{State: state, Found: found, Expected: "more", Fix: fix}}
}

// plannedSteps returns a plan with a step in each state.
func plannedSteps() []step.Planned {
	return []step.Planned{
		{Step: "data-dir", Title: "Make Plinth's data folder", State: "done", Affects: []string{"/var/lib/plinth"}},
		{Step: "kernel", Title: "Prepare the kernel", State: "needed", Reason: "br_netfilter is not loaded\nip_forward is 0", Affects: []string{"/etc/modules-load.d/plinth.conf", "sysctl:net.ipv4.ip_forward"}},
		{Step: "node-ready", Title: "Wait for the node to be Ready", State: "unknown", Reason: "k0s-start"},
	}
}

// manyNodes returns a cluster with nodes, API servers and etcd members in
// different states.
func manyNodes() nodes.ClusterView {
	return nodes.ClusterView{
		Nodes: []nodes.Node{
			{Name: "a", Role: "controller", Admitted: true, Ready: true, Version: "v1.33.13+k0s", Addresses: []string{"10.0.0.1"}},
			{Name: "b", Role: "controller", Admitted: true, Reason: "NodeStatusUnknown: Kubelet stopped posting node status.", Version: "v1.33.13+k0s", Addresses: []string{"10.0.0.2"}},
			{Name: "w", Role: "worker", Admitted: true, Ready: true, Cordoned: true, Version: "v1.33.13+k0s", Addresses: []string{"10.0.0.9"}},
			{Name: "x", Role: "unknown", Ready: true, Version: "v1.33.13+k0s", Addresses: []string{}},
		},
		API:  []nodes.Endpoint{{Address: "10.0.0.1:6443", Ready: true}, {Address: "10.0.0.2:6443", Reason: "no answer within 1s"}},
		Etcd: []etcd.Member{{ID: "1", Name: "a", Address: "10.0.0.1", Leader: true}, {ID: "2", Name: "b", Address: "10.0.0.2"}, {ID: "3", Address: "10.0.0.3", Learner: true}},
	}
}

func TestWriteJSON_OfNodesMatchesGolden(t *testing.T) {
	v := manyNodes()
	v.Balancer = &nodes.Endpoint{Address: "127.0.0.1:6443", Ready: true}
	for name, result := range map[string]any{
		"node-list": v,
		"status":    status.Status{Installed: true, Name: "my-app", Role: "controller", Service: "active", Agent: "active", ClusterView: v},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := WriteJSON(&out, result, nil, &ui.Secrets{}); err != nil {
				t.Fatal(err)
			}
			testkit.Golden(t, "testdata/"+name+".json", out.Bytes())
		})
	}
}

func TestWriters_OfResultsMatchGoldens(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	here := status.Status{Installed: true, Name: "my-app", Role: "controller", Bundle: "sha256:abc", Service: "active", Agent: "active",
		Versions: map[string]string{"k0s": "v1.33.8+k0s.1"}, ClusterView: nodes.ClusterView{Nodes: []nodes.Node{{Name: "n1", Role: "controller", Admitted: true, Ready: true, Version: "v1.33.8+k0s", Addresses: []string{"10.0.0.2"}}}},
		AddOns:       []status.AddOnStatus{{Name: "kotsadm", Version: "1.131.2", Reason: "pod kotsadm-0: ImagePullBackOff"}, {Name: "localPathStorage", Version: "0.0.30", Ready: true}},
		Console:      &status.ConsoleStatus{URL: "https://10.0.0.2:8800", Ready: true, Version: "v1.131.2"},
		Certificates: []status.Certificate{{Name: "apiserver", Path: "/var/lib/k0s/pki/server.crt", Expires: at}, {}}, Warnings: []string{"host preflight memory failed and was ignored on request"}}
	none, store := objectstore.Settings{}, objectstore.Settings{Endpoint: "https://store:9000", Region: "eu-1", CAFile: "/root/my ca.pem", CredentialsFile: "/root/credentials"}
	going := status.Running{Holder: journal.Holder{PID: 42, Verb: "install", StartedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, Step: "images-boot", StepsStarted: 7, Steps: 23}
	broken := status.Status{Installed: true, Name: "my-app", Role: "controller", Service: "failed", Versions: map[string]string{"k0s": "v1.33.8+k0s.1"},
		Unfinished: &status.Unfinished{Verb: "install", StartedAt: at, Step: "images-boot", Failed: "no space left"}}
	stopped := status.Status{Installed: true, Name: "my-app", Role: "controller", Service: "inactive", Versions: map[string]string{"k0s": "v1.33.8+k0s.1"},
		AddOns:      []status.AddOnStatus{{Name: "registry", Version: "3.1.2", Reason: "the cluster does not answer: connection refused"}},
		ClusterView: nodes.ClusterView{Details: []string{`registry: Get "https://127.0.0.1:6443/api": dial tcp 127.0.0.1:6443: connect: connection refused`}},
		Warnings:    []string{"the cluster does not answer: connection refused"}}
	bundle := airgap.Summary{Digest: "sha256:abc", Name: "my-app", Platform: "linux/amd64", Items: []airgap.SummaryItem{
		{Kind: "installer", Name: "installer.yaml", Size: 900},
		{Kind: "host", Name: "k0s", Version: "v1.33.8+k0s.1", StandIn: "k8s.io/kubernetes v1.33.13", Licenses: "Apache-2.0", Size: 80e6, Unpacked: 240e6},
		{Kind: "image", Name: "quay.io/k0sproject/coredns:1.12.4", Version: "v1.14.7", Licenses: "Apache-2.0", Size: 21e6, Unpacked: 77e6}},
		Totals: airgap.Totals{File: 81e6, Blobs: 7, Content: 80_500_000, OnHost: airgap.ContentSize{Host: 240e6}}}
	finding := spec.Finding{File: "installer.yaml", Line: 3, Column: 5, Field: "spec.k0s", Rule: "unknown-key", Severity: spec.Error, Message: "unknown key", Hint: "version?"}
	warning := spec.Finding{File: "installer.yaml", Line: 3, Column: 5, Rule: "cidr-public", Severity: spec.Warning, Message: "not private"}
	var installer spec.Installer
	installer.Metadata.Name = "my-app"
	verdict := compat.Check(compat.Input{Actual: "1.131.2", Min: "1.100.0", Target: "1.131.2", FirstInstall: true})
	good := spec.Report{Installer: &installer, Applications: []*spec.Application{{File: "my app.yaml"}}, Title: "My App", Files: []string{"installer.yaml", "my app.yaml"}, Findings: []spec.Finding{warning}, Gate: &verdict}
	done := install.Result{Changed: true, ConsoleURL: "https://10.0.0.2:8800", Password: "correct-horse", Kubeconfig: "/var/lib/k0s/pki/admin.conf", Log: "/var/log/plinth/install-1.log",
		Preflights: newReport(newEntry("memory", hostpreflight.Warn, "3 GiB", "add memory"))}
	for name, write := range map[string]func(io.Writer){
		"lint-findings": func(w io.Writer) {
			WriteLintReport(w, spec.Report{Findings: []spec.Finding{finding}, Files: []string{"installer.yaml"}})
		},
		"lint-good": func(w io.Writer) { WriteLintReport(w, good) },
		"lint-application": func(w io.Writer) {
			WriteLintReport(w, spec.Report{Applications: good.Applications, Title: "My App", Files: []string{"my app.yaml"}})
		},
		"built": func(w io.Writer) {
			WriteBuildResult(w, bundleaction.BuildResult{Path: "my-app.bundle", Digest: "sha256:abc", Size: 81e6})
		},
		"mirrored": func(w io.Writer) {
			WriteMirrorResult(w, bundleaction.MirrorResult{Path: "my parts", Images: []string{"docker.io/library/nginx:1"}, HostFiles: []string{"k0s v1.33.8+k0s.1", "kots 1.131.2"}}, "installer.yaml")
		},
		"mirrored-registry": func(w io.Writer) {
			WriteMirrorResult(w, bundleaction.MirrorResult{Registry: "harbor.example.com/plinth", Images: []string{"docker.io/library/nginx:1"},
				Mirrors: []string{"docker.io=harbor.example.com/plinth/docker.io", "quay.io=harbor.example.com/plinth/quay.io"}}, "installer.yaml")
		},
		"mirrored-releases": func(w io.Writer) {
			WriteMirrorResult(w, bundleaction.MirrorResult{Registry: "harbor.example.com/plinth", Images: []string{"docker.io/library/nginx:1"}, Releases: "/srv/releases",
				Mirrors: []string{"docker.io=harbor.example.com/plinth/docker.io"}, HostFiles: []string{"k0s v1.33.8+k0s.1", "kots 1.131.2"}}, "installer.yaml")
		},
		"inspected": func(w io.Writer) { WriteBundleSummary(w, bundle, "my-app.bundle") },
		"verified":  func(w io.Writer) { WriteVerifyResult(w, bundle, "my-app.bundle", "") },
		"install-plan": func(w io.Writer) {
			WriteInstallResult(w, install.Result{Plan: plannedSteps(), Inputs: &planfile.Inputs{Facts: map[string]string{"address": "10.0.0.2"}}, Preflights: newReport()}, "plinth install --bundle a.tar", false)
		},
		"install-plan-warnings": func(w io.Writer) {
			WriteInstallResult(w, install.Result{Plan: plannedSteps(), Preflights: newReport(newEntry("memory", hostpreflight.Warn, "3 GiB", "add memory"), newEntry("swap", hostpreflight.Warn, "2 GiB in use", "swapoff -a"))}, "plinth install --bundle a.tar", false)
		},
		"install-plan-done": func(w io.Writer) {
			WriteInstallResult(w, install.Result{Plan: plannedSteps()[:1], Preflights: newReport()}, "plinth install", false)
		},
		"install-preflight": func(w io.Writer) {
			WriteInstallResult(w, install.Result{Preflights: newReport(newEntry("memory", hostpreflight.Fail, "1 GiB", "add memory"))}, "", true)
		},
		"install-failed": func(w io.Writer) { WriteInstallResult(w, install.Result{Preflights: newReport()}, "", true) },
		"install-done":   func(w io.Writer) { WriteInstallResult(w, done, "", false) },
		"install-nothing": func(w io.Writer) {
			WriteInstallResult(w, install.Result{ConsoleURL: "https://10.0.0.2:8800", Preflights: newReport()}, "", false)
		},
		"install-existing-plan": func(w io.Writer) {
			WriteExistingResult(w, install.Result{Plan: plannedSteps()}, "plinth install --existing-cluster --kubeconfig f --registry h --bundle b")
		},
		"install-existing-done": func(w io.Writer) {
			WriteExistingResult(w, install.Result{Changed: true, Password: "abcd-efgh-ijkl-mnop", Log: "a.log", ConsoleCommand: "kubectl --kubeconfig f port-forward -n kotsadm service/kotsadm 8800:3000"}, "")
		},
		"install-existing-nothing": func(w io.Writer) {
			WriteExistingResult(w, install.Result{ConsoleCommand: "kubectl --kubeconfig f port-forward -n kotsadm service/kotsadm 8800:3000"}, "")
		},
		"preflight-ready": func(w io.Writer) {
			WritePreflightReport(w, *newReport(newEntry("cpu", hostpreflight.Pass, "4 processors", "")), preflight.RunOptions{Bundle: "my app.tar", NodeAddress: preflight.AddressFlags{Interface: "eth1"}, Ignore: []string{"memory", "swap"}}, false)
		},
		"preflight-failed": func(w io.Writer) {
			WritePreflightReport(w, *newReport(newEntry("cpu", hostpreflight.Pass, "4 processors", ""), newEntry("memory", hostpreflight.Fail, "1 GiB", "add memory")), preflight.RunOptions{}, false)
		},
		"node-list": func(w io.Writer) { WriteNodeList(w, manyNodes()) },
		"certificates-list": func(w io.Writer) {
			WriteCertificateList(w, certificates.Inventory{Certificates: []certificates.Certificate{
				{Name: "ccm", Owner: "kube-controller-manager", Location: "/var/lib/k0s/pki/ccm.crt", RenewedBy: certificates.ByK0s, Restarts: "k0s", Problem: "there is no certificate in PEM"},
				{Name: "agent", Owner: "plinth-agent", Location: "/var/lib/plinth/agent/identity.pem", Ends: at, DaysLeft: -1, RenewedBy: certificates.ByAgent, Due: true},
				{Name: "admin", Owner: "plinth, kubectl", Location: "/var/lib/k0s/pki/admin.crt", Ends: at.Add(time.Hour), RenewedBy: certificates.ByK0s, Restarts: "k0s", Due: true},
				{Name: "console", Owner: "console", Location: "Secret kotsadm-tls in kotsadm", Ends: at.AddDate(1, 0, 0), DaysLeft: 365, RenewedBy: certificates.ByUser},
				{Name: "ca", Owner: "cluster", Location: "/var/lib/k0s/pki/ca.crt", Ends: at.AddDate(9, 0, 0), DaysLeft: 3287, Authority: true}}})
		},
		"certificates-fresh": func(w io.Writer) {
			WriteCertificateList(w, certificates.Inventory{Certificates: []certificates.Certificate{{Name: "agent", Owner: "plinth-agent", Location: "/var/lib/plinth/agent/identity.pem", Ends: at, DaysLeft: 1, RenewedBy: certificates.ByAgent}}})
		},
		"certificates-plan": func(w io.Writer) {
			WriteRenewalResult(w, certificates.Result{Plan: []step.Planned{{Step: "certificate-k0s", Title: "Restart k0s, which renews its certificates", State: "needed", Reason: "certificate admin ends on 2026-01-02"}}}, "plinth certificates renew")
		},
		"certificates-renewed": func(w io.Writer) {
			WriteRenewalResult(w, certificates.Result{Changed: true, Renewed: []string{"agent", "registry"}, Skipped: "cannot restart k0s: controller c2 is not Ready", Log: "/var/log/plinth/a.log"}, "")
		},
		"certificates-none": func(w io.Writer) { WriteRenewalResult(w, certificates.Result{}, "") },
		"node-list-absent": func(w io.Writer) {
			WriteNodeList(w, nodes.ClusterView{Nodes: []nodes.Node{{Name: "n9", Role: nodes.Controller, Admitted: true, Ready: true, Version: "v1.33.13+k0s", Addresses: []string{"10.0.0.9"}},
				{Name: "w", Role: nodes.Worker, Admitted: true, Reason: "NodeStatusUnknown", Version: "v1.33.13+k0s", Addresses: []string{"10.0.0.7"}}}})
		},
		"node-list-worker": func(w io.Writer) {
			v := manyNodes()
			v.Etcd, v.Balancer = nil, &nodes.Endpoint{Address: "127.0.0.1:6443", Ready: true}
			WriteNodeList(w, v)
		},
		"node-removed": func(w io.Writer) {
			WriteNodeResult(w, nodes.Result{Node: "b", Role: "controller", Changed: true, Log: "/var/log/plinth/x.log"}, true)
		},
		"node-plan": func(w io.Writer) {
			WriteNodeResult(w, nodes.Result{Node: "w", Role: "worker", Losses: []string{"pod default/x is not moved"},
				Plan: []step.Planned{{Step: "node-cordon", Title: "Cordon w", State: "needed", Reason: "w is schedulable", Affects: []string{"Node w"}}}}, true)
		},
		"node-drained": func(w io.Writer) {
			WriteNodeResult(w, nodes.Result{Node: "w", Role: "worker", Changed: true, Log: "/var/log/plinth/x.log"}, false)
		},
		"node-empty":             func(w io.Writer) { WriteNodeResult(w, nodes.Result{Node: "w"}, false) },
		"status":                 func(w io.Writer) { WriteStatus(w, here, false) },
		"status-broken":          func(w io.Writer) { WriteStatus(w, broken, false) },
		"status-stopped":         func(w io.Writer) { WriteStatus(w, stopped, false) },
		"status-stopped-verbose": func(w io.Writer) { WriteStatus(w, stopped, true) },
		"status-removed": func(w io.Writer) {
			WriteStatus(w, status.Status{Installed: true, Name: "my-app", Role: "worker", Service: "inactive", Removed: true,
				Warnings: []string{"this host was removed from the cluster by an administrator on a at 2026-05-01T12:00:00Z; run: sudo plinth reset node"}}, false)
		},
		"status-running": func(w io.Writer) { WriteStatus(w, status.Status{Running: &going}, false) },
		"status-unfinished": func(w io.Writer) {
			WriteStatus(w, status.Status{Service: "active", Unfinished: &status.Unfinished{Verb: "install", StartedAt: at, Step: "node-ready"},
				ClusterView: nodes.ClusterView{Nodes: []nodes.Node{{Name: "n1", Role: "controller", Joining: true, Ready: true, Version: "v1.33.8+k0s", Addresses: []string{}}}}}, false)
		},
		"status-backup": func(w io.Writer) {
			failed := at.Add(-time.Hour)
			WriteStatus(w, status.Status{Installed: true, Name: "my-app", Role: "controller", Service: "active", Versions: map[string]string{"k0s": "v1.33.8+k0s.1"}, Warnings: []string{"the last backup of the control plane failed at 2026-01-02T02:04:05Z: no space left on device"},
				Backup: &status.Backup{Record: backup.Record{Path: "/mnt/backup/my-app-20260101T030405Z.plinth-backup", TakenAt: at.Add(-24 * time.Hour), Size: 12e6, FailedAt: &failed}, AgeSeconds: 86400}}, false)
		},
		"status-repair-unfinished": func(w io.Writer) {
			WriteStatus(w, status.Status{Installed: true, Name: "my-app", Role: "controller", Service: "inactive", Unfinished: &status.Unfinished{Verb: "repair", StartedAt: at, Step: "etcd-address"}}, false)
		},
		"repair-done": func(w io.Writer) {
			WriteRepairResult(w, repair.Result{Changed: true, Node: "n1", From: "10.0.0.5", To: "10.0.0.9", ConsoleURL: "https://10.0.0.9:8800", Log: "/var/log/plinth/repair-1.log"}, "")
		},
		"repair-workers": func(w io.Writer) {
			WriteRepairResult(w, repair.Result{Changed: true, Node: "n1", From: "10.0.0.5", To: "10.0.0.9", Workers: []string{"w1", "w2"}}, "")
		},
		"repair-workers-api": func(w io.Writer) {
			WriteRepairResult(w, repair.Result{Changed: true, Node: "n1", From: "10.0.0.5", To: "10.0.0.9", Workers: []string{"w1"}, API: "api.example.com"}, "")
		},
		"repair-former": func(w io.Writer) {
			WriteRepairResult(w, repair.Result{Changed: true, Node: "n1", From: "10.0.0.5", To: "10.0.0.9", Former: &repair.Former{Address: "10.0.0.5/24", Interface: "eth0", SameNetwork: true}}, "")
		},
		"repair-former-vlan": func(w io.Writer) {
			WriteRepairResult(w, repair.Result{Changed: true, Node: "n1", From: "10.0.0.5", To: "10.0.0.9", Former: &repair.Former{Address: "10.0.0.5/24", Interface: "eth0.7", SameNetwork: true}}, "")
		},
		"repair-former-elsewhere": func(w io.Writer) {
			WriteRepairResult(w, repair.Result{Changed: true, Node: "n1", From: "10.0.0.5", To: "192.0.2.9", Former: &repair.Former{Address: "10.0.0.5/24", Interface: "eth0"}}, "")
		},
		"repair-nothing": func(w io.Writer) {
			WriteRepairResult(w, repair.Result{Node: "n1", From: "10.0.0.5", To: "10.0.0.5"}, "")
		},
		"repair-plan": func(w io.Writer) {
			WriteRepairResult(w, repair.Result{Plan: plannedSteps()}, "plinth repair address")
		},
		"restore-done": func(w io.Writer) {
			WriteRestoreResult(w, restore.Result{Changed: true, Lost: []string{"n2", "n3"}, Log: "/var/log/plinth/restore-1.log"}, "", false)
		},
		"restore-not-ready": func(w io.Writer) {
			WriteRestoreResult(w, restore.Result{Changed: true, NotReady: "Velero: 1 of 2 pods Ready; pod velero-6d: back-off pulling image", Log: "/var/log/plinth/restore-1.log"}, "", false)
		},
		"restore-removed": func(w io.Writer) {
			WriteRestoreResult(w, restore.Result{Changed: true, Lost: []string{"n2"}, Removed: true}, "", false)
		},
		"restore-plan": func(w io.Writer) {
			WriteRestoreResult(w, restore.Result{Plan: plannedSteps()}, "plinth restore --from-this-node", false)
		},
		"restore-new-host": func(w io.Writer) {
			WriteRestoreResult(w, restore.Result{Changed: true, Lost: []string{"n1"}, Removed: true, Log: "/var/log/plinth/restore-1.log",
				NewHost: &restore.NewHost{ConsoleURL: "https://10.0.0.9:8800", Absent: []string{"w1"},
					Warnings: []string{"the volume of claim kotsadm/kotsadm-rqlite-kotsadm-rqlite-0 was on the lost controller n1: its data is lost, and an empty volume replaces it"}}}, "", false)
		},
		"restore-snapshot": func(w io.Writer) {
			WriteRestoreResult(w, restore.Result{Changed: true, TakenAt: &at, Log: "/var/log/plinth/restore-1.log",
				Snapshot: &restore.RestoredSnapshot{Name: "instance-x7k2p", From: "s3://backups/my-app", Bytes: 26e6},
				NewHost:  &restore.NewHost{ConsoleURL: "https://10.0.0.9:8800", Warnings: []string{"the snapshot instance-q1 of 2026-01-02T04:00:00Z is newer, and cannot be restored: it failed: PartiallyFailed with 2 errors"}}}, "", false)
		},
		"status-backup-scheduled": func(w io.Writer) {
			WriteStatus(w, status.Status{Installed: true, Name: "my-app", Role: "controller", Service: "active", Versions: map[string]string{"k0s": "v1.33.8+k0s.1"},
				Backup: &status.Backup{Record: backup.Record{Path: "/mnt/backup/my-app/n1/a.plinth-backup", TakenAt: at.Add(-24 * time.Hour), Size: 12e6}, AgeSeconds: 86400, Schedule: "daily", To: "/mnt/backup/my-app"}}, false)
		},
		"status-snapshot": func(w io.Writer) {
			WriteStatus(w, status.Status{Installed: true, Name: "my-app", Role: "controller", Service: "active", Versions: map[string]string{"k0s": "v1.33.8+k0s.1"},
				Backup:   &status.Backup{Record: backup.Record{Path: "/mnt/backup/a.plinth-backup", TakenAt: at.Add(-24 * time.Hour), Size: 12e6}, AgeSeconds: 86400},
				Snapshot: &status.Snapshot{Name: "instance-x7k2p", TakenAt: at.Add(-3 * time.Hour), AgeSeconds: 10800}}, false)
		},
		"status-backup-none": func(w io.Writer) {
			WriteStatus(w, status.Status{Installed: true, Name: "my-app", Role: "controller", Service: "active", Versions: map[string]string{"k0s": "v1.33.8+k0s.1"},
				Backup: &status.Backup{Schedule: "daily", To: "/mnt/backup/my-app"}}, false)
		},
		"backup-written": func(w io.Writer) {
			WriteBackupResult(w, backup.Result{Path: "/mnt/my app.plinth-backup", Size: 12e6, Digest: "sha256:abc", Verified: backup.Bytes}, none)
		},
		"backup-verified-content": func(w io.Writer) {
			WriteBackupResult(w, backup.Result{Path: "/mnt/a.plinth-backup", Size: 12e6, Digest: "sha256:abc", Verified: backup.Content, Removed: []string{"/mnt/old.plinth-backup"}}, none)
		},
		"backup-list": func(w io.Writer) {
			WriteBackupList(w, []backup.Entry{{Path: "/mnt/b.plinth-backup", Size: 7, Problem: "it is damaged: it ends within its header"},
				{Path: "/mnt/a.plinth-backup", Size: 12e6, Header: archive.Header{Cluster: "my-app", Node: "n1", TakenAt: at, K0s: "v1.33.8+k0s.1", Encryption: archive.ToRecipients}}}, "/mnt", none)
		},
		"backup-list-empty": func(w io.Writer) { WriteBackupList(w, nil, "/mnt/my app", none) },
		"backup-verify": func(w io.Writer) {
			WriteBackupVerification(w, backup.Verification{Path: "a.plinth-backup", Verified: backup.Content, Files: 42, Nodes: []archive.Node{{Name: "n1", Role: "controller", Address: "10.0.0.2"}},
				Backup: archive.Header{Cluster: "my-app", Node: "n1", TakenAt: at, K0s: "v1.33.8+k0s.1"}}, none)
		},
		"backup-verify-plain": func(w io.Writer) {
			WriteBackupVerification(w, backup.Verification{Path: "a.plinth-backup", Verified: backup.Content, Files: 42, Nodes: []archive.Node{{Name: "n1", Role: "controller", Address: "10.0.0.2"}},
				Backup: archive.Header{Cluster: "my-app", Node: "n1", TakenAt: at, K0s: "v1.33.8+k0s.1", Encryption: archive.Unencrypted}}, none)
		},
		"backup-verify-bytes": func(w io.Writer) {
			WriteBackupVerification(w, backup.Verification{Path: "a.plinth-backup", Verified: backup.Bytes,
				Backup: archive.Header{Cluster: "my-app", Node: "n1", TakenAt: at, K0s: "v1.33.8+k0s.1", Encryption: archive.WithPassphrase}}, none)
		},
		"backup-written-store": func(w io.Writer) {
			WriteBackupResult(w, backup.Result{Path: "s3://backups/my app/a.plinth-backup", Size: 12e6, Digest: "sha256:abc", Verified: backup.Bytes}, store)
		},
		"backup-list-store": func(w io.Writer) {
			WriteBackupList(w, []backup.Entry{{Path: "s3://backups/a.plinth-backup", Size: 12e6, Header: archive.Header{Cluster: "my-app", Node: "n1", TakenAt: at, K0s: "v1.33.8+k0s.1", Encryption: archive.ToRecipients}}}, "s3://backups", store)
		},
		"backup-list-store-empty": func(w io.Writer) { WriteBackupList(w, nil, "s3://backups", store) },
		"backup-verify-store": func(w io.Writer) {
			WriteBackupVerification(w, backup.Verification{Path: "s3://backups/a.plinth-backup", Verified: backup.Bytes,
				Backup: archive.Header{Cluster: "my-app", Node: "n1", TakenAt: at, K0s: "v1.33.8+k0s.1", Encryption: archive.ToRecipients}}, objectstore.Settings{Endpoint: "https://store:9000"})
		},
		"status-nothing": func(w io.Writer) { WriteStatus(w, status.Status{}, false) },
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			write(&out)
			testkit.Golden(t, "testdata/"+name+".txt", out.Bytes())
		})
	}
}

func TestQuoteShellWord_QuotesOnlyIfNeeded(t *testing.T) {
	for word, want := range map[string]string{"a.tar": "a.tar", "my app.yaml": "'my app.yaml'", "it's": `'it'\''s'`, "": "''", "$(reboot)": "'$(reboot)'", "a;b": "'a;b'"} {
		t.Run(word, func(t *testing.T) {
			if got := QuoteShellWord(word); got != want {
				t.Errorf("QuoteShellWord(%q) = %s, want %s", word, got, want)
			}
		})
	}
}

func TestWriteVerifyResult_NamesTheFlagThatInstallNeeds(t *testing.T) {
	for name, c := range map[string]struct {
		bundle  airgap.Summary
		keyFile string
		want    string
	}{
		"embedded key":       {airgap.Summary{Signed: true, Verified: "SHA256:abc"}, "", "Next: plinth install --bundle 'my app.bundle'\n"},
		"given key":          {airgap.Summary{Signed: true, Verified: "SHA256:abc"}, "my key.pem", "Next: plinth install --bundle 'my app.bundle' --verify-key 'my key.pem'\n"},
		"signed, not by key": {airgap.Summary{Signed: true}, "", "Next: plinth install --bundle 'my app.bundle' --verify-key FILE\n"},
		"not signed":         {airgap.Summary{}, "", "Next: plinth install --bundle 'my app.bundle' --allow-unsigned\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			WriteVerifyResult(&b, c.bundle, "my app.bundle", c.keyFile)
			if !strings.HasSuffix(b.String(), "\n\n"+c.want) || strings.Contains(b.String(), "was not verified") != (name == "signed, not by key") {
				t.Error(b.String())
			}
		})
	}
}
