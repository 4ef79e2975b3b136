// Package bootstrap owns the form of k0s's own join tokens: where one leads to, and
// what of it is public. It refuses to make them, which is k0s's.
package bootstrap

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

// Aim reads a k0s join token and has that of a controller lead to this one's
// agent: k0s writes the address that every node has a door to the API on, and a
// host that is about to be a controller has none yet. id is the public part of the
// bootstrap token inside, by which it can be revoked.
func Aim(k0sToken, role, address string) (aimed, id string, err error) {
	raw, err := unpack(k0sToken)
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
		return "", "", errors.New("k0s made a token that cannot be read")
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
	aimed, err = pack(raw)
	return aimed, id, err
}

// unpack reads k0s's form of a join token: a kubeconfig, gzipped, in base64.
func unpack(text string) ([]byte, error) {
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

func pack(raw []byte) (string, error) {
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
