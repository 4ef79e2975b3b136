package agent

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestWorkerServer_ShowsTheKubeletsCertificateToControllers(t *testing.T) {
	ca, err := pki.NewCA("kubernetes-ca", noon)
	testkit.Must(t, err)
	pair, err := ca.IssueServerCert([]string{"w1"}, noon)
	testkit.Must(t, err)
	field := func(name string, pem []byte) string {
		return fmt.Sprintf("%s: %s", name, base64.StdEncoding.EncodeToString(pem))
	}
	authority, cert, key := field("certificate-authority-data", ca.Cert), field("client-certificate-data", pair.Cert), field("client-key-data", pair.Key)
	for name, c := range map[string]struct {
		cluster, user string
		want          string // in the error; "" for none
	}{
		"complete":            {authority, cert + ", " + key, ""},
		"without a user":      {authority, "", "contains no client certificate"},
		"without authority":   {"", cert + ", " + key, "contains no certificate authority"},
		"half of the pair":    {authority, cert, "k"},
		"another key":         {authority, cert + ", " + field("client-key-data", ca.Key), "private key does not match"},
		"damaged certificate": {authority, field("client-certificate-data", []byte("x")) + ", " + key, k0s.KubeletConf},
	} {
		t.Run(name, func(t *testing.T) {
			h := hosttest.New(t).Host()
			w := &workerServer{Env: &action.Env{Host: h}}
			if _, err := w.kubeletCert(nil); err == nil {
				t.Error("a host that has not joined has a certificate")
			}
			conf := fmt.Sprintf("{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], "+
				"clusters: [{name: c, cluster: {server: 'https://127.0.0.1:6443', %s}}], users: [{name: u, user: {%s}}]}", c.cluster, c.user)
			testkit.Must(t, h.Write(k0s.KubeletConf, strings.NewReader(conf), 0o600))
			got, err := w.kubeletCert(nil)
			if c.want == "" && (err != nil || got == nil || len(got.Certificate) == 0) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
