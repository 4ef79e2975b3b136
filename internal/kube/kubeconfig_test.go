package kube

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/plinthdev/plinth/internal/testkit"
)

const twoContexts = `apiVersion: v1
kind: Config
current-context: b
contexts:
- {name: a, context: {cluster: a, user: a}}
- {name: b, context: {cluster: b, user: b}}
clusters:
- {name: a, cluster: {server: "https://a.example.com"}}
- {name: b, cluster: {server: "https://b.example.com", certificate-authority: ca.pem}}
users:
- {name: a, user: {token: secret-of-a}}
- name: b
  user:
    exec: {apiVersion: client.authentication.k8s.io/v1, command: ./login, interactiveMode: Never, env: [{name: REGION, value: own}]}
`

// The result stands alone: it has the current context only, and no path depends on the folder of the file.
func TestReadKubeconfig_IncludesWhatTheCurrentContextNeeds(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config")
	testkit.Must(t, os.WriteFile(path, []byte(twoContexts), 0o600), os.WriteFile(filepath.Join(dir, "ca.pem"), []byte("authority"), 0o600))
	k, err := ReadKubeconfig(path, "/home/me")
	testkit.Must(t, err)
	if k.Context != "b" || k.Server != "https://b.example.com" || strings.Contains(string(k.Content), "secret-of-a") {
		t.Errorf("%s %s\n%s", k.Context, k.Server, k.Content)
	}
	config, err := clientcmd.Load(k.Content)
	testkit.Must(t, err)
	exec := config.AuthInfos["b"].Exec
	if exec.Command != filepath.Join(dir, "login") || len(exec.Env) != 2 || exec.Env[0].Value != "own" || exec.Env[1].Value != "/home/me" || string(config.Clusters["b"].CertificateAuthorityData) != "authority" {
		t.Errorf("%+v\n%s", exec, k.Content)
	}
}

func TestReadKubeconfig_RefusesByName(t *testing.T) {
	for name, c := range map[string]struct{ from, to, want string }{
		"no current context":             {"current-context: b", "", "it has no current-context"},
		"a context that is not there":    {"current-context: b", "current-context: c", "context c"},
		"a cluster that is not there":    {"context: {cluster: b", "context: {cluster: c", "cluster c"},
		"an authority that is not there": {"ca.pem", "none.pem", "none.pem"},
		"not YAML":                       {"contexts:", "contexts: [", "it is not a kubeconfig"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "config")
			testkit.Must(t, os.WriteFile(path, []byte(strings.Replace(twoContexts, c.from, c.to, 1)), 0o600), os.WriteFile(filepath.Join(dir, "ca.pem"), []byte("authority"), 0o600))
			if _, err := ReadKubeconfig(path, ""); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}
