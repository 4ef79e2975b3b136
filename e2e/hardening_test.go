//go:build e2e

package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/e2e/lab"
	"github.com/plinthdev/plinth/internal/k0s"
)

// readEtcd returns the value of a key in the etcd of a controller.
func readEtcd(t testing.TB, ctx context.Context, h *lab.Host, key string) string {
	t.Helper()
	const pki = "/var/lib/k0s/pki"
	out := h.MustRun(ctx, "curl", "-sS", "--cacert", pki+"/etcd/ca.crt", "--cert", pki+"/apiserver-etcd-client.crt", "--key", pki+"/apiserver-etcd-client.key",
		"-d", fmt.Sprintf(`{"key":%q}`, base64.StdEncoding.EncodeToString([]byte(key))), "https://127.0.0.1:2379/v3/kv/range")
	var r struct {
		Kvs []struct{ Value []byte }
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil || len(r.Kvs) != 1 {
		t.Fatalf("etcd: %v: %s", err, out)
	}
	return string(r.Kvs[0].Value)
}

// checkSecretsEncrypted verifies that a Secret is not readable in etcd, and that its creation is in
// the audit log of the API server, without its content.
func checkSecretsEncrypted(t *testing.T, ctx context.Context, h *lab.Host) {
	const secret = "seal-this-value"
	h.MustRun(ctx, binary, "kubectl", "create", "secret", "generic", "sealed", "--from-literal=key="+secret)
	stored := readEtcd(t, ctx, h, "/registry/secrets/default/sealed")
	if !strings.HasPrefix(stored, "k8s:enc:secretbox:v1:key1:") || strings.Contains(stored, secret) {
		t.Errorf("etcd has %.60q", stored)
	}
	line := h.MustRun(ctx, "grep", "-F", `"requestURI":"/api/v1/namespaces/default/secrets?`, k0s.AuditLogPath)
	if !strings.Contains(line, `"verb":"create"`) || strings.Contains(line, base64.StdEncoding.EncodeToString([]byte(secret))) {
		t.Errorf("audit log: %s", line)
	}
	for path, want := range map[string]string{k0s.EncryptionConfPath: "600 kube-apiserver", k0s.AuditLogPath: "600 kube-apiserver", "/var/lib/k0s/audit": "700 kube-apiserver"} {
		if got := strings.TrimSpace(h.MustRun(ctx, "stat", "-c", "%a %U", path)); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	h.MustRun(ctx, binary, "kubectl", "delete", "secret", "sealed")
}

// checkNetworkPolicies verifies who reaches the registry and the console's database, and that a
// second run restores a policy that was deleted.
func checkNetworkPolicies(t *testing.T, ctx context.Context, h *lab.Host) {
	kubectl := func(args ...string) string { return h.MustRun(ctx, append([]string{binary, "kubectl"}, args...)...) }
	kubectl("delete", "networkpolicy", "-n", "kotsadm", "kotsadm-rqlite")
	kubectl("label", "namespace", "registry", "pod-security.kubernetes.io/enforce-")
	if r := runPlinth(t, ctx, h, 0, "install", "--bundle", bundle, "--yes"); !r.Result.Changed {
		t.Errorf("%+v", r.Result)
	}
	if level := kubectl("get", "namespace", "registry", "-o", `jsonpath={.metadata.labels.pod-security\.kubernetes\.io/enforce}`); level != "restricted" {
		t.Errorf("namespace registry enforces %q", level)
	}
	image := kubectl("get", "statefulset", "-n", "kotsadm", "kotsadm", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	kubectl("run", "stranger", "--image="+image, "--image-pull-policy=Never", "--restart=Never", "--command", "--", "sleep", "3600")
	kubectl("wait", "--for=condition=Ready", "--timeout=60s", "pod/stranger")
	registry := kubectl("get", "service", "-n", "registry", "registry", "-o", "jsonpath={.spec.clusterIP}")
	const database, console = "kotsadm-rqlite.kotsadm.svc.cluster.local:4001", "kotsadm.kotsadm.svc.cluster.local:3000"
	for _, c := range []struct {
		namespace, pod, at string
		open               bool
	}{
		{"default", "stranger", console, true}, {"default", "stranger", database, false}, {"default", "stranger", registry + ":5000", false},
		{"kotsadm", "kotsadm-0", database, true}, {"kotsadm", "kotsadm-0", registry + ":5000", true},
	} {
		host, port, _ := strings.Cut(c.at, ":")
		_, errs, code := h.Run(ctx, binary, "kubectl", "exec", "-n", c.namespace, c.pod, "--", "timeout", "5", "bash", "-c", "exec 3<>/dev/tcp/"+host+"/"+port)
		if (code == 0) != c.open {
			t.Errorf("%s to %s: exit %d, want open: %v; %s", c.pod, c.at, code, c.open, errs)
		}
	}
	if code := h.MustRun(ctx, "curl", "-sk", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", "https://"+registry+":5000/v2/"); code != "401" {
		t.Errorf("the host reaches the registry with %s", code)
	}
	kubectl("delete", "pod", "stranger", "--now")
}

// checkSharedEncryptionKey verifies that each controller reads Secrets through its own API server.
func checkSharedEncryptionKey(t *testing.T, ctx context.Context, controllers ...*lab.Host) {
	controllers[0].MustRun(ctx, binary, "kubectl", "create", "secret", "generic", "shared", "--from-literal=key=value")
	for _, h := range controllers {
		if got := h.MustRun(ctx, binary, "kubectl", "--server=https://127.0.0.1:6443", "get", "secret", "shared", "-o", "jsonpath={.data.key}"); got != "dmFsdWU=" {
			t.Errorf("%s reads %q", h.Name, got)
		}
		if got := strings.TrimSpace(h.MustRun(ctx, "stat", "-c", "%a %U", k0s.EncryptionConfPath)); got != "600 kube-apiserver" {
			t.Errorf("%s on %s is %s", k0s.EncryptionConfPath, h.Name, got)
		}
	}
}
