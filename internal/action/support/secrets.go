package support

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/supportspec"
	"github.com/plinthdev/plinth/internal/wait"
)

// secretField matches the secret values in kubeconfigs and in the configuration of the encryption in etcd.
var secretField = regexp.MustCompile(`"?(?:client-key-data|token|secret|password)"?\s*:\s*"?([A-Za-z0-9+/=._-]{8,})`)

// privateKeyBlock matches a private key in PEM format.
var privateKeyBlock = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----`)

// maxSecret is the largest value of a Secret that is looked for; larger ones are archives, such as Helm's releases.
const maxSecret = 16 << 10

// knownSecrets returns the secrets of this host and, if the API answers, those in the cluster, by value. They only stay in
// the memory of this process, which removes them from a bundle. The error is a problem.Problem: if the disk with the secrets
// of this host does not answer, there is no bundle. A single file that cannot be read is not an error, but recorded as
// missing: what is in it can only be found by patterns.
func (c *collector) knownSecrets(ctx context.Context) ([]string, error) {
	limited, cancel := context.WithTimeout(ctx, secretsTimeout)
	defer cancel()
	ofHost, err := wait.ForReply(limited, 0, func(context.Context) ([]string, error) { return c.hostSecrets(), nil })
	if err != nil {
		return nil, problem.New(problem.ExitInternal, "read the secrets of this host, which a support bundle must not have", err,
			"check the disk of "+k0s.DataDir+" and "+c.env.DataDir+": sudo dmesg | tail; plinth diagnose works without them")
	}
	return append(ofHost, c.clusterSecrets(ctx)...), nil
}

// hostSecrets returns the secrets of this host. A file of them that cannot be read is recorded as missing.
func (c *collector) hostSecrets() (values []string) {
	recordUnread := func(p string, err error) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.recordMissing("secrets in "+p+", which are not removed by value", err)
		}
	}
	read := func(p string) string {
		raw, err := c.env.Host.ReadFile(p)
		recordUnread(p, err)
		return string(raw)
	}
	keys := []string{node.IdentityPath(c.env.DataDir)}
	for _, dir := range []string{k0s.DataDir + "/pki", k0s.DataDir + "/pki/etcd", k0s.KubeletPKIDir} {
		entries, err := c.env.Host.ReadDir(dir)
		recordUnread(dir, err)
		for _, e := range entries {
			if ext := path.Ext(e.Name()); ext == ".key" || ext == ".pem" {
				keys = append(keys, path.Join(dir, e.Name()))
			}
		}
	}
	for _, p := range keys {
		values = append(values, privateKeyBlock.FindAllString(read(p), -1)...)
	}
	for _, p := range []string{k0s.AdminConf, k0s.KubeletConf, k0s.EncryptionConfPath} {
		for _, m := range secretField.FindAllStringSubmatch(read(p), -1) {
			values = append(values, m[1])
		}
	}
	return append(values, read(k0s.TokenPath))
}

// clusterSecrets returns the values of the Secrets in the cluster, if this host may read them.
func (c *collector) clusterSecrets(ctx context.Context) (values []string) {
	if c.client == nil || c.install.Worker || c.objects == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	list, err := c.client.Core().Secrets("").List(ctx, metav1.ListOptions{FieldSelector: "type!=helm.sh/release.v1"})
	if err != nil {
		c.setUnreadable("the Secrets, whose values are removed from them,", err)
		return nil
	}
	for _, s := range list.Items {
		values = append(values, secretValues(s)...)
	}
	return values
}

// secretValues returns the values in s that are secret: of a certificate with its key, only the key.
func secretValues(s corev1.Secret) (values []string) {
	for key, raw := range s.Data {
		v := string(raw)
		switch {
		case len(v) > maxSecret, strings.HasSuffix(key, ".crt"), key == "namespace", key == "username", key == "hostname":
		case slices.Contains(supportspec.Keys(), key): // its lines are words of troubleshoot.sh, which stand in many files; patterns find what is secret in it
		case strings.Contains(v, "-----BEGIN "):
			values = append(values, privateKeyBlock.FindAllString(v, -1)...)
		default:
			values = append(values, v)
		}
	}
	return values
}

// setUnreadable records why it is not known what must be removed from the objects of the cluster, unless that is recorded.
func (c *collector) setUnreadable(what string, err error) {
	if c.secretsErr == nil {
		c.secretsErr = fmt.Errorf("%s cannot be read: %s", what, explain(err))
	}
}
