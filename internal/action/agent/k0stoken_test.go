package agent

import (
	"encoding/base64"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/plinthdev/plinth/internal/token"
)

const kubeconfig = `{"apiVersion":"v1","kind":"Config","current-context":"k0s","clusters":[{"name":"k0s","cluster":{"server":"https://127.0.0.1:9443"}}],
"contexts":[{"name":"k0s","context":{"cluster":"k0s","user":"u"}}],"users":[{"name":"u","user":{"token":"abcdef.0123456789abcdef"}}]}`

func TestRedirectToken_RedirectsOnlyControllers(t *testing.T) {
	packed, err := encodeK0sToken([]byte(kubeconfig))
	if err != nil {
		t.Fatal(err)
	}
	for role, want := range map[string]string{token.Controller: "https://10.0.0.5:9444", token.Worker: "https://127.0.0.1:9443"} {
		t.Run(role, func(t *testing.T) {
			redirected, id, err := RedirectToken(packed, role, "10.0.0.5")
			if err != nil {
				t.Fatal(err)
			}
			raw, err := decodeK0sToken(redirected)
			if err != nil {
				t.Fatal(err)
			}
			config, err := clientcmd.Load(raw)
			if err != nil {
				t.Fatal(err)
			}
			if id != "abcdef" || config.Clusters["k0s"].Server != want || config.AuthInfos["u"].Token != "abcdef.0123456789abcdef" {
				t.Errorf("%s, %+v", id, config.Clusters["k0s"])
			}
		})
	}
	for name, bad := range map[string]string{"no base64": "!", "no gzip": base64.StdEncoding.EncodeToString([]byte("x"))} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := RedirectToken(bad, token.Worker, ""); err == nil {
				t.Error("accepted")
			}
		})
	}
}
