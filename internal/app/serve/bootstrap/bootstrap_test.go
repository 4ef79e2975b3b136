package bootstrap

import (
	"encoding/base64"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/plinthdev/plinth/internal/token"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const kubeconfig = `{"apiVersion":"v1","kind":"Config","current-context":"k0s","clusters":[{"name":"k0s","cluster":{"server":"https://127.0.0.1:9443"}}],
"contexts":[{"name":"k0s","context":{"cluster":"k0s","user":"u"}}],"users":[{"name":"u","user":{"token":"abcdef.0123456789abcdef"}}]}`

func TestAControllersK0sTokenLeadsToAControllerThatIsThere(t *testing.T) {
	packed, err := pack([]byte(kubeconfig))
	must(t, err)
	for role, want := range map[string]string{token.Controller: "https://10.0.0.5:9444", token.Worker: "https://127.0.0.1:9443"} {
		aimed, id, err := Aim(packed, role, "10.0.0.5")
		must(t, err)
		raw, err := unpack(aimed)
		must(t, err)
		config, err := clientcmd.Load(raw)
		must(t, err)
		if id != "abcdef" || config.Clusters["k0s"].Server != want || config.AuthInfos["u"].Token != "abcdef.0123456789abcdef" {
			t.Errorf("%s: %s, %+v", role, id, config.Clusters["k0s"])
		}
	}
	for name, bad := range map[string]string{"no base64": "!", "no gzip": base64.StdEncoding.EncodeToString([]byte("x"))} {
		if _, _, err := Aim(bad, token.Worker, ""); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
