package kube

import (
	"crypto/tls"
	"errors"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// TLSConfig returns the TLS configuration in a kubeconfig: the certificate authority of the cluster,
// and the client's certificate in GetClientCertificate. It is an error if either is missing:
// without an authority, those of the system would be trusted.
func TLSConfig(kubeconfig []byte) (*tls.Config, error) {
	conf, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	if len(conf.CAData) == 0 && conf.CAFile == "" {
		return nil, errors.New("the kubeconfig contains no certificate authority")
	}
	t, err := rest.TLSConfigFor(conf)
	if err != nil {
		return nil, err
	}
	if t == nil || t.GetClientCertificate == nil {
		return nil, errors.New("the kubeconfig contains no client certificate")
	}
	return t, nil
}
