package k0s

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// joinUser is the name of the user in a join token for controllers. k0s tells the role of a
// token by it.
const joinUser = "controller-bootstrap"

// JoinToken returns a join token for a controller in k0s's format: a kubeconfig, gzip, base64.
// It contains no bootstrap token: k0s identifies itself at server, the join API, with the
// certificate and the key of the host's agent. ca, cert and key are PEM.
func JoinToken(server string, ca, cert, key []byte) ([]byte, error) {
	config := api.NewConfig()
	config.Clusters["k0s"] = &api.Cluster{Server: server, CertificateAuthorityData: ca}
	config.AuthInfos[joinUser] = &api.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	config.Contexts["k0s"] = &api.Context{Cluster: "k0s", AuthInfo: joinUser}
	config.CurrentContext = "k0s"
	raw, err := clientcmd.Write(*config)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(raw); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return []byte(base64.StdEncoding.EncodeToString(b.Bytes())), nil
}
