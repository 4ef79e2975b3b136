package agent

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/token"
)

// RedirectToken returns a k0s join token that leads to the agent at address, for the role
// controller; for other roles it returns k0sToken unchanged. k0s writes the loopback address
// at which every node reaches the API, but a host that becomes a controller has no load
// balancer there. id is the public part of the bootstrap token, by which it can be revoked.
func RedirectToken(k0sToken, role, address string) (aimed, id string, err error) {
	raw, err := decodeK0sToken(k0sToken)
	if err != nil {
		return "", "", err
	}
	config, err := clientcmd.Load(raw)
	if err != nil {
		return "", "", err
	}
	for _, user := range config.AuthInfos {
		id, _, _ = strings.Cut(user.Token, ".")
	}
	if id == "" {
		return "", "", errors.New("cannot read the join token of k0s: it contains no bootstrap token")
	}
	if role != token.Controller {
		return k0sToken, id, nil
	}
	for _, cluster := range config.Clusters {
		cluster.Server = "https://" + net.JoinHostPort(address, strconv.Itoa(agent.Port))
	}
	if raw, err = clientcmd.Write(*config); err != nil {
		return "", "", err
	}
	aimed, err = encodeK0sToken(raw)
	return aimed, id, err
}

// decodeK0sToken returns the kubeconfig in a k0s join token, which is gzip in base64.
func decodeK0sToken(text string) ([]byte, error) {
	packed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, 1<<20))
}

func encodeK0sToken(raw []byte) (string, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(raw); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(b.Bytes()), nil
}
