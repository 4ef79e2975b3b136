package kots

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/kube"
)

// How the CLI lets a console trust more authorities when it installs one with --private-ca-configmap (KOTS 1.131.2,
// pkg/kotsadm/objects/kotsadm_objects.go). The name is that of Embedded Cluster: the template function PrivateCACert
// returns it to applications.
const (
	trustedCAs    = "kotsadm-private-cas" // ConfigMap, and volume of the pod
	trustedCAsDir = "/certs"
	// An annotation of the pods with the digest of the certificates: a program reads them only when it starts.
	trustedCAsAnnotation = "plinth.dev/trusted-cas"
)

// trustArgs returns the arguments with which the CLI creates a console that trusts the authorities in pem.
func trustArgs(pem string) []string {
	if pem == "" {
		return nil
	}
	return []string{"--private-ca-configmap", trustedCAs, "--additional-annotations", trustedCAsAnnotation + "=" + trustDigest(pem)}
}

// trustDigest returns what the annotation has for the certificates in pem: "" without any.
func trustDigest(pem string) string {
	if pem == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(pem))
	return hex.EncodeToString(sum[:8])
}

// TrustNeeded returns why the pods of the console must be changed to trust the authorities in pem (PEM certificates;
// "" for no more than those of its image), or "".
func (k *Client) TrustNeeded(ctx context.Context, pem string) (string, error) {
	_, ref, _ := k.consoleObjects()
	set, err := k.Kube.Get(ctx, ref)
	if errors.Is(err, kube.ErrNotFound) {
		return "the console is not installed", nil
	}
	if err != nil || trusts(set, pem) {
		return "", err
	}
	return "the console does not trust the authorities of spec.additionalTrustedCAs", nil
}

// trusts reports whether the pods of a console trust the authorities in pem, and no others that Plinth has added: those
// of a console that somebody else installed, which lacks the annotation, are theirs. The CLI drops the volume and the
// variables, but not the annotation, when it upgrades a console.
func trusts(set *unstructured.Unstructured, pem string) bool {
	annotation, _, _ := unstructured.NestedString(set.Object, "spec", "template", "metadata", "annotations", trustedCAsAnnotation)
	env, _ := consoleContainer(set)["env"].([]any)
	return annotation == trustDigest(pem) && (pem == "" || slices.ContainsFunc(env, hasName("SSL_CERT_CONFIGMAP")))
}

// putTrustedCAs stores the authorities in pem for the console's pods.
func (k *Client) putTrustedCAs(ctx context.Context, pem string) error {
	if pem == "" {
		return nil
	}
	return k.Kube.Apply(ctx, k.Namespace, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": trustedCAs},
		"data": map[string]any{"ca.crt": pem},
	}})
}

// trust has the pods of the console trust the authorities in pem instead of those that Plinth has added before, which
// restarts them if they did not.
func (k *Client) trust(ctx context.Context, pem string) error {
	_, ref, _ := k.consoleObjects()
	set, err := k.Kube.Get(ctx, ref)
	if err != nil || trusts(set, pem) {
		return err
	}
	if err := k.putTrustedCAs(ctx, pem); err != nil {
		return err
	}
	patch, err := trustPatch(set, pem)
	if err != nil {
		return err
	}
	if err := k.Kube.Patch(ctx, ref, patch); err != nil {
		return err
	}
	// The StatefulSet does not replace a pod that is not Ready.
	err = k.Kube.Delete(ctx, kube.Object{APIVersion: "v1", Kind: "Pod", Namespace: k.Namespace, Name: ref.Name + "-0"})
	if err != nil || pem != "" {
		return err
	}
	return k.Kube.Delete(ctx, kube.Object{APIVersion: "v1", Kind: "ConfigMap", Namespace: k.Namespace, Name: trustedCAs})
}

// trustPatch returns the merge patch that makes the pods of set trust the authorities in pem and no others.
func trustPatch(set *unstructured.Unstructured, pem string) ([]byte, error) {
	set = set.DeepCopy()
	var env, mounts, volumes []any
	var digest any // null removes the annotation
	if pem != "" {
		digest = trustDigest(pem)
		env = []any{
			map[string]any{"name": "SSL_CERT_DIR", "value": trustedCAsDir},
			map[string]any{"name": "SSL_CERT_CONFIGMAP", "value": trustedCAs},
		}
		mounts = []any{map[string]any{"name": trustedCAs, "mountPath": trustedCAsDir}}
		volumes = []any{map[string]any{"name": trustedCAs, "configMap": map[string]any{"name": trustedCAs}}}
	}
	spec, _, _ := unstructured.NestedMap(set.Object, "spec", "template", "spec")
	containers, _ := spec["containers"].([]any)
	for _, c := range containers {
		if c, ok := c.(map[string]any); ok && c["name"] == "kotsadm" {
			c["env"] = append(without(c["env"], "SSL_CERT_DIR", "SSL_CERT_CONFIGMAP"), env...)
			c["volumeMounts"] = append(without(c["volumeMounts"], trustedCAs), mounts...)
		}
	}
	return json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{trustedCAsAnnotation: digest}},
		"spec":     map[string]any{"containers": containers, "volumes": append(without(spec["volumes"], trustedCAs), volumes...)},
	}}})
}

// without returns the elements of a list of named objects that have none of the names.
func without(list any, names ...string) []any {
	all, _ := list.([]any)
	return slices.DeleteFunc(slices.Clone(all), func(o any) bool {
		return slices.ContainsFunc(names, func(name string) bool { return hasName(name)(o) })
	})
}

// hasName returns a function that reports whether an object has a name.
func hasName(name string) func(any) bool {
	return func(o any) bool {
		m, _ := o.(map[string]any)
		return m["name"] == name
	}
}
