package k0s

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/k0sproject/k0s/pkg/apis/k0s/v1beta1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/token"
)

// newAgentPair returns the certificate and the key of a node's agent, of the authority ca.
func newAgentPair(ca pki.Pair, id nodecert.Identity) (cert, key []byte) {
	private := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	cert = must(nodecert.Sign(nodecert.Agent, id, must(nodecert.NewRequest(nodecert.Agent, id, private)), ca, time.Now()))
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(private))})
}

// joinAPI is an agent that has only the join API of k0s, and requires the certificate of a node.
func joinAPI(t *testing.T, ca pki.Pair, asked *[]string) string {
	t.Helper()
	cert, key := newAgentPair(ca, nodecert.Identity{Node: "n1", UID: "u1", Role: token.Controller, Address: "127.0.0.1"})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Cert)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _ := nodecert.NodeIDOf(r.TLS.PeerCertificates[0])
		body, _ := io.ReadAll(r.Body)
		*asked = append(*asked, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+p.Node+" "+r.Header.Get("Authorization")+string(body)))
		if r.URL.Path == "/v1beta1/ca" {
			_ = json.NewEncoder(w).Encode(v1beta1.CaResponse{Key: []byte("ca key"), SAKey: []byte("sa key")})
			return
		}
		_ = json.NewEncoder(w).Encode(v1beta1.EtcdResponse{InitialCluster: []string{"n1=https://127.0.0.1:2380"}})
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{must(tls.X509KeyPair(cert, key))}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.URL
}

// joinClientFromToken returns a client as k0s creates it from a token (k0s 1.33.8, pkg/token/joinclient.go and
// joindecode.go, pkg/kubernetes). That package imports most of k0s, which this module does not need.
func joinClientFromToken(text []byte) (*rest.RESTClient, error) {
	zipped, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		return nil, err
	}
	gz, err := gzip.NewReader(bytes.NewBuffer(zipped))
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(gz)
	if err != nil {
		return nil, err
	}
	kubeconfig, err := clientcmd.Load(raw)
	if err != nil {
		return nil, err
	}
	for _, c := range kubeconfig.Contexts { // GetTokenType
		if c.AuthInfo != "controller-bootstrap" {
			return nil, fmt.Errorf("wrong token type %s", c.AuthInfo)
		}
	}
	config, err := clientcmd.NewNonInteractiveClientConfig(*kubeconfig, "", nil, nil).ClientConfig()
	if err != nil {
		return nil, err
	}
	if config.BearerToken != "" || config.Username != "" {
		return nil, errors.New("it contains a secret other than the key")
	}
	return rest.UnversionedRESTClientFor(dynamic.ConfigFor(config))
}

func TestJoinToken_IdentifiesK0sByTheAgentsCertificate(t *testing.T) {
	ca := must(pki.NewCA(pki.ClusterCAName, time.Now()))
	cert, key := newAgentPair(ca, nodecert.Identity{Node: "n2", UID: "u2", Role: token.Controller, Address: "10.0.0.6"})
	var asked []string
	text := must(JoinToken(joinAPI(t, ca, &asked), ca.Cert, cert, key))
	client, err := joinClientFromToken(text)
	if err != nil {
		t.Fatal(err)
	}
	var cas v1beta1.CaResponse
	raw, err := client.Get().AbsPath("v1beta1", "ca").Do(t.Context()).Raw()
	if err != nil || json.Unmarshal(raw, &cas) != nil || string(cas.Key) != "ca key" || string(cas.SAKey) != "sa key" {
		t.Errorf("%s %v", raw, err)
	}
	body := strings.NewReader(`{"node":"n2","peerAddress":"10.0.0.6"}`)
	raw, err = client.Post().AbsPath("v1beta1", "etcd", "members").Body(body).Do(t.Context()).Raw()
	var member v1beta1.EtcdResponse
	if err != nil || json.Unmarshal(raw, &member) != nil || len(member.InitialCluster) != 1 {
		t.Errorf("%s %v", raw, err)
	}
	if len(asked) != 2 || asked[0] != "GET /v1beta1/ca n2" || !strings.HasPrefix(asked[1], `POST /v1beta1/etcd/members n2 {"node":"n2"`) {
		t.Errorf("%q", asked)
	}
}

func TestJoinToken_TrustsNoOtherCluster(t *testing.T) {
	ca, other := must(pki.NewCA(pki.ClusterCAName, time.Now())), must(pki.NewCA(pki.ClusterCAName, time.Now()))
	id := nodecert.Identity{Node: "n2", UID: "u2", Role: token.Controller, Address: "10.0.0.6"}
	cert, key := newAgentPair(ca, id)
	foreignCert, foreignKey := newAgentPair(other, id)
	for name, tt := range map[string]struct {
		trusted   []byte
		cert, key []byte
	}{
		"server of another cluster": {other.Cert, cert, key},
		"client of another cluster": {ca.Cert, foreignCert, foreignKey},
		"client without one":        {ca.Cert, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			text := must(JoinToken(joinAPI(t, ca, &asked), tt.trusted, tt.cert, tt.key))
			client, err := joinClientFromToken(text)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.Get().AbsPath("v1beta1", "ca").Do(t.Context()).Raw(); err == nil || slices.Contains(asked, "GET /v1beta1/ca n2") {
				t.Errorf("%q, %v", asked, err)
			}
		})
	}
}
